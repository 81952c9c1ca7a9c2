"""The documentation: builds without a warning, shows valid commands, and is what the code says now."""

import ast
import builtins
import inspect
import operator
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tomllib
from PIL import Image
from sklearn.datasets import load_sample_image

import edgepress.api
from benchmark.gate import Field, Quantity, requirement_of
from benchmark.quantities import State
from edgepress.artifact import Device, Format, Precision, Runtime
from edgepress.cli.arguments import parse, parser_of
from edgepress.cli.command import Command
from edgepress.cli.commands import COMMANDS
from edgepress.cli.error_groups import GROUPS, group_of
from edgepress.cli.error_page import (
    ERROR_PAGE,
    REPEATED,
    error_page,
    exit_codes,
    messages,
    silent_places,
)
from edgepress.cli.error_page import sources as source_files
from edgepress.cli.job import STAGES, keys_of
from edgepress.cli.job_page import JOB_PAGE, job_page
from edgepress.cli.reference_page import CLI_PAGE, cli_page

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def test_site_builds_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING -" not in done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 8
    sources = r"<(?:script|img|iframe)[^>]+src=\"https?:"
    links = r"<link[^>]+rel=\"(?:stylesheet|preconnect)\"[^>]+href=\"https?:"
    fetched = re.compile(f"{sources}|{links}")
    index = (tmp_path / "site/search/search_index.js").read_text(encoding="utf-8")
    assert index.startswith("var __index = ")  # a page from the disk may load a script, but no JSON
    for page in pages:
        assert "assets/iframe-worker.js" in page.read_text(encoding="utf-8"), "nor start a worker"
        assert not fetched.findall(page.read_text(encoding="utf-8")), page.name


@pytest.mark.parametrize(
    ("name", "page"), [(CLI_PAGE, cli_page), (JOB_PAGE, job_page), (ERROR_PAGE, error_page)]
)
def test_generated_page_is_the_one_that_is_written_now(name: str, page: "type[str]") -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == page(), "run: make docs"


def test_error_index_has_the_text_of_every_error_that_is_made() -> None:
    """An error whose text cannot be read out of the code repeats one that can."""
    assert {(file, kind) for file, _, kind in silent_places()} == set(REPEATED)
    texts = [message.text for message in messages()]
    assert len(texts) > 200
    assert "pillow" not in texts  # the name of a package is no message
    assert not any("vgg16.svg" in text for text in texts)  # a variable `picture` is no constant PICTURE
    for known in (
        "is no .keras model or is truncated",
        "Unknown ‹kind› ‹value›. ‹hint›Known: ‹names›.",  # made by a function
        "The package ‹package› is not installed here",  # made by its class
        "No space left while writing ‹path›",  # returned, then raised elsewhere
        "Choose a folder that you may write to.",
        "cannot start: MODEL=‹value› does not exist",  # before anything is installed
        "its process gave no answer to ‹command› within",  # of a row that failed
        "the bundle is for ‹wanted›, this machine is ‹machine›",  # on a device
    ):
        assert any(known in text for text in texts), known


def test_every_raise_makes_an_error_that_the_index_knows() -> None:
    """Nothing of ours is raised but what is made by one of our classes, or by a function that does so."""
    trees = {p.relative_to(ROOT).as_posix(): ast.parse(p.read_text(encoding="utf-8")) for p in source_files()}
    ours = set(exit_codes(trees))
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    makers = {
        node.name
        for node in nodes
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(c, ast.Call) and ast.unparse(c.func) in ours for c in ast.walk(node))
    }
    raised = {
        ast.unparse(node.exc.func)
        for node in nodes
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
    }
    inner = {name for name in raised if hasattr(builtins, name)}  # turned into ours before they leave a room
    assert {name.rpartition(".")[2] for name in raised - inner - ours} <= makers
    assert inner <= {
        *("AttributeError", "KeyError", "LookupError", "TypeError", "ValueError"),
        *("FileNotFoundError", "OSError"),  # told as they are, with what helps
    }


def test_every_key_of_a_job_has_a_line_and_an_anchor() -> None:
    page = job_page()
    for command in COMMANDS:
        for key in keys_of(command) if command.name in STAGES else ():
            assert key.action.help, f"{command.name}.{key.name} has no help"
            assert page.count(f'id="{command.name}.{key.name}"') == 1


def test_every_message_stands_in_one_group() -> None:
    page = error_page()
    assert all(group_of(message.file).title in page for message in messages())
    for group in GROUPS:
        assert all((ROOT / place).exists() for place in group.places), group.title


def commands_of(path: Path) -> list[str]:
    """The lines of code blocks that begin with `edgepress`, up to where the shell takes over."""
    text = re.sub(r" \\\n +", " ", path.read_text(encoding="utf-8"))  # a line that goes on
    lines = re.findall(r"^    (edgepress [a-z].*)$", text, re.MULTILINE)
    return [line.partition(" > ")[0] for line in lines if "COMMAND" not in line]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_that_are_shown_are_valid(path: Path) -> None:
    for line in commands_of(path):
        parse(shlex.split(line, comments=True)[1:])


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_calls_that_are_shown_fit_the_functions(path: Path) -> None:
    shown = re.findall(
        r"^ *(?:\w+ = )?(edgepress\.(?:api\.)?\w+\(.*\))$", path.read_text(encoding="utf-8"), re.MULTILINE
    )
    for text in shown:
        call = ast.parse(text, mode="eval").body
        assert isinstance(call, ast.Call)
        function = operator.attrgetter(ast.unparse(call.func).removeprefix("edgepress."))(edgepress)
        inspect.signature(function).bind(*call.args, **{str(k.arg): k.value for k in call.keywords})
    if path.name == "python.md":
        assert len(shown) == len(edgepress.__all__) + 1, "each function is shown once, api.parity too"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_on_the_page_is_whole_and_fits(command: Command) -> None:
    page = cli_page()
    text = page.partition(f"## edgepress {command.name}\n")[2].partition("\n## ")[0]
    assert all(f"\n    {example}\n" in text for example in command.examples)
    purpose, _, rest = text.partition("```text")
    usage, _, table = rest.partition("```")
    assert purpose.strip().lower().rstrip(".") == command.purpose.lower()
    assert max(map(len, usage.splitlines())) <= 78
    for action in parser_of(command)._actions:
        names = action.option_strings
        if not {"--help", "--quiet", "--verbose", "--json"} & set(names):
            name = names[-1] if names else str(action.metavar)
            assert action.help
            assert name in usage
            anchor = name.removeprefix("--") if names else action.dest
            assert table.count(f'id="{command.name}.{anchor}"') == 1


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_job_files_that_are_shown_have_keys_and_gates_that_exist(path: Path) -> None:
    known = {command.name: {key.name for key in keys_of(command)} for command in COMMANDS}
    for text in re.findall(r"^```toml\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        if text.startswith("--8<--"):
            continue
        document = tomllib.loads(text)
        for stage in STAGES:
            assert document.get(stage, {}).keys() <= known[stage]
        for gate in document.get("benchmark", {}).get("require", []):
            requirement_of(gate)


def test_page_on_benchmarking_has_what_a_gate_can_say() -> None:
    page = (DOCS / "benchmarking.md").read_text(encoding="utf-8")
    table = "\n".join(line for line in page.splitlines() if line.startswith("| `"))
    words = set(re.findall(r"`([a-z0-9_-]+)`", table))
    assert {member.value for kind in (Field, Quantity) for member in kind} <= words
    assert {member.value for kind in (Format, Precision, Runtime, Device) for member in kind} <= words
    assert all(state.value.upper() in page for state in State)
    assert "reference/results.schema.json" in page


def test_workflow_that_is_shown_runs_valid_commands() -> None:
    page = (DOCS / "benchmarking.md").read_text(encoding="utf-8")
    lines = re.findall(r"^ +- run: \.venv/bin/edgepress (.*)$", page, re.MULTILINE)
    assert [parse(shlex.split(line)).command.name for line in lines] == ["run", "compare"]


def test_readme_shows_commands() -> None:
    assert len(commands_of(ROOT / "README.md")) > 5


def test_walk_through_ends_with_a_bundle_that_is_valid(
    cli: Callable[..., "subprocess.CompletedProcess[str]"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Word for word, but for what needs ImageNet's weights or pip; `benchmark` measures two versions only."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    save_photos(tmp_path / "photos")
    page = DOCS / "your-own-model.md"
    exec(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)[0], {})  # noqa: S102
    own: list[list[str]] = []
    trained: list[list[str]] = []
    for line in commands_of(page):
        (trained if "out/photos" in line else own).append(shlex.split(line)[1:])
    assert [words[0] for words in own] == ["export", "optimize", "benchmark", "inspect", "bundle"]
    assert [words[0] for words in trained] == ["train", "export"]
    own[2] += ["--variant", "onnx-fp32", "onnx-static_wi7_au8"]
    for words in own:
        done = cli(*words)
        assert done.returncode == 0, done.stderr
    bundle = tmp_path / "device/bundle-linux-x64-cpu"
    shutil.copytree(tmp_path / "out/mine" / bundle.name, bundle)
    shutil.copy(next((tmp_path / "photos").rglob("*.jpg")), tmp_path / "device/picture.jpg")
    scripts = re.findall(r"^    python (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    for script, wanted in zip(scripts, ("VALID", "../picture.jpg"), strict=True):
        done = subprocess.run(
            [sys.executable, *shlex.split(script)], cwd=bundle, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert wanted in done.stdout.split()


def save_photos(folder: Path) -> None:
    """Ten different pieces of each of the two photographs that scikit-learn carries."""
    for name in ("china", "flower"):
        (folder / name).mkdir(parents=True)
        photo = Image.fromarray(load_sample_image(f"{name}.jpg"))
        for i in range(10):
            photo.crop((40 * i, 30 * i, 40 * i + 120, 30 * i + 120)).save(folder / name / f"{i}.jpg")
