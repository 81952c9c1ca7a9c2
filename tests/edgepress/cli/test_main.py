import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("command", ["", "export", "optimize", "benchmark", "report"])
def test_help_teaches_with_an_example(cli: Cli, command: str) -> None:
    done = cli(*filter(None, [command]), "--help")
    assert done.returncode == 0
    assert "example: edgepress" in " ".join(done.stdout.split())


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
    before = sorted(p.name for p in folder.iterdir())
    path = folder / "onnx-fp32.onnx"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "was changed" in refused(cli("optimize", folder))
    assert "was changed" in refused(cli("benchmark", folder, "--quick"))
    assert sorted(p.name for p in folder.iterdir()) == before


def test_frameworks_write_nothing_to_the_user(cli: Cli, digits_folder: Path) -> None:
    # The folder is there already, so this runs the whole command again without rebuilding.
    done = cli("export", "vgg16-digits", "--out", digits_folder)
    assert done.returncode == 0
    assert all("up to date" in line for line in done.stderr.splitlines()), done.stderr
