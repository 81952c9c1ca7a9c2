import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgepress.cli.arguments import parse
from edgepress.cli.command import Command
from edgepress.cli.commands import COMMANDS

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
ROOT = Path(__file__).resolve().parents[3]


def refused(done: "subprocess.CompletedProcess[str]") -> str:
    """The one line that a refusal must consist of."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("edgepress: ")
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["exprot"], "Unknown command 'exprot'. Did you mean 'export'?"),
        (["export"], "the following arguments are required: MODEL"),
        (["export", "vgg61"], "Unknown model 'vgg61'. Did you mean 'vgg16'?"),
        (["export", "vgg16-digits", "--format", "onx"], "Unknown format 'onx'. Did you mean 'onnx'?"),
        (["export", "vgg16-digits", "--formt", "onnx"], "Did you mean --format?"),
        (
            ["benchmark", "x", "--require"],
            "argument --require: expected at least one argument. See: edgepress",
        ),
        (["export", "vgg16-digits", "--style", "functionl"], "Did you mean 'functional'?"),
        (["export", "x.keras", "--preprocess", "cafe"], "Unknown preprocessing 'cafe'. Did you mean 'caffe'"),
        (["export", "missing.keras"], "missing.keras"),
        (["export", "vgg16-digits", "--seed", "-1"], "Wanted a seed"),
        (["optimize", "nowhere"], "No manifest.json in nowhere"),
        (["optimize", "nowhere", "--target", "linux-x64-vni"], "Did you mean 'linux-x64-vnni'"),
        (["optimize", "nowhere", "--samples", "0"], "whole number of at least 1. Received: '0'"),
        (["benchmark", "nowhere"], "No manifest.json in nowhere"),
        (["benchmark", "nowhere", "--device", "gpu"], "Unknown device 'gpu'"),
        (["report", "nowhere"], "nowhere"),
        (["optimize", "n" * 300], "File name too long"),
    ],
)
def test_bad_command_line_ends_in_one_line(cli: Cli, arguments: list[str], message: str) -> None:
    assert message in refused(cli(*arguments))


def test_help_lists_every_command_with_an_example(cli: Cli) -> None:
    done = cli("--help")
    assert done.returncode == 0
    assert "example: edgepress init" in done.stdout
    assert all(re.search(rf"^ +{command.name}\b", done.stdout, re.MULTILINE) for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_teaches_with_examples_that_are_valid(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        parse([command.name, "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert command.examples
    for example in command.examples:
        assert example in shown
        words = shlex.split(example, comments=True)
        if words[0] == "edgepress":
            end_of_command = next((i for i, word in enumerate(words) if word in {">", "|"}), len(words))
            assert parse(words[1:end_of_command]).command is command


def test_completion_completes_commands_and_options(tmp_path: Path, cli: Cli) -> None:
    script = tmp_path / "edgepress.bash"
    script.write_text(cli("completion", "bash").stdout)
    asked = f"""
        source {script}
        COMP_WORDS=(edgepress $1); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        _shtab_edgepress; printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    for typed, wanted in (("opt", "optimize"), ("optimize --sam", "--samples")):
        done = subprocess.run(
            ["bash", "-c", asked, "bash", typed], capture_output=True, text=True, check=False
        )
        assert wanted in done.stdout.split(), done.stdout + done.stderr


@pytest.mark.parametrize("command", ["export", "optimize"])
def test_json_is_all_that_is_on_stdout(
    cli: Cli, digits_optimized: Path, copy_of: Callable[[Path], Path], command: str
) -> None:
    folder = copy_of(digits_optimized)
    arguments = ["vgg16-digits", "--out", folder] if command == "export" else [folder]
    done = cli(command, *arguments, "--json")
    value = json.loads(done.stdout)
    assert value["folder"] == str(folder)
    assert "onnx-fp32" in [artifact["id"] for artifact in value["artifacts"]]


def test_quiet_says_nothing_when_all_is_well(
    cli: Cli, digits_folder: Path, copy_of: Callable[[Path], Path]
) -> None:
    done = cli("optimize", copy_of(digits_folder), "--recipe", "onnx_wf16_af16", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")


def test_output_has_no_colour_when_piped(cli: Cli, tmp_path: Path) -> None:
    for arguments in (["--help"], ["optimize", tmp_path], ["init", tmp_path / "job.toml"]):
        done = cli(*arguments)
        assert "\x1b" not in done.stdout + done.stderr


def test_a_terminal_that_knows_only_ascii_gets_everything(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = cli("inspect", "vgg16")
    assert done.returncode == 0, done.stderr
    assert r"224\xd7224\xd764" in done.stdout


def test_version_is_printed(cli: Cli) -> None:
    assert cli("--version").stdout.startswith("edgepress 0.")


def test_refusal_loads_no_framework() -> None:
    code = (
        "import sys; from edgepress.cli.main import main; code = main(['optimize', 'nowhere']); "
        "print(code, sorted({'tensorflow', 'keras', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "2 []"


def test_output_folder_that_cannot_be_written_is_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = refused(cli("export", "vgg16", "--weights", "random", "--out", tmp_path / "file" / "out"))
    assert "Cannot write" in message
    assert (tmp_path / "file").read_text() == ""


def test_changed_artifact_is_refused_by_every_stage(
    cli: Cli, digits_optimized: Path, copy_of: Callable[[Path], Path]
) -> None:
    folder = copy_of(digits_optimized)
    before = sorted(p.name for p in folder.glob("[!.]*"))
    path = folder / "onnx-fp32.onnx"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "was changed" in refused(cli("optimize", folder))
    assert "was changed" in refused(cli("benchmark", folder, "--quick"))
    assert sorted(p.name for p in folder.glob("[!.]*")) == before


def test_frameworks_write_nothing_to_the_user(cli: Cli, digits_folder: Path) -> None:
    # The folder is there already, so this runs the whole command again without rebuilding.
    done = cli("export", "vgg16-digits", "--out", digits_folder)
    assert done.returncode == 0
    assert all("up to date" in line for line in done.stderr.splitlines()), done.stderr
