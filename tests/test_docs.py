"""The documentation: builds without a warning, shows valid commands, and is what the code says now."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from edgepress.cli.arguments import parse
from edgepress.cli.reference_page import CLI_PAGE, ERROR_PAGE, cli_page, error_page, messages

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")  # argparse breaks its lines there


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
    for page in pages:
        assert not fetched.findall(page.read_text(encoding="utf-8")), page.name


@pytest.mark.parametrize(("name", "page"), [(CLI_PAGE, cli_page), (ERROR_PAGE, error_page)])
def test_generated_page_is_the_one_that_is_written_now(name: str, page: "type[str]") -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == page(), "run: make docs"


def test_error_index_knows_the_messages() -> None:
    texts = [message.text for message in messages()]
    assert len(texts) > 80
    assert any("is no .keras model or is truncated" in text for text in texts)


def commands_of(path: Path) -> list[str]:
    """The lines of code blocks that begin with `edgepress`, without their comments."""
    lines = re.findall(r"^    (edgepress [a-z].*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return [line for line in lines if "COMMAND" not in line]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_that_are_shown_are_valid(path: Path) -> None:
    for line in commands_of(path):
        parse(shlex.split(line, comments=True)[1:])


def test_readme_shows_commands() -> None:
    assert len(commands_of(ROOT / "README.md")) > 5
