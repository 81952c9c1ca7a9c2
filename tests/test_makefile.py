"""The Makefile: its targets are commands, not folders, and it says what is missing before it starts."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TARGETS = ("setup", "export", "optimize", "benchmark", "report", "all", "test", "check", "clean")

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["make", *arguments], capture_output=True, text=True, cwd=ROOT, check=False)


def test_help_lists_every_target_with_a_line() -> None:
    listed = {line.split()[0] for line in make("help").stdout.splitlines() if line.startswith("  ")}
    assert set(TARGETS) <= listed


@pytest.mark.parametrize("target", ["export", "optimize", "benchmark"])
def test_target_runs_the_command_of_that_name(target: str) -> None:
    done = make("--dry-run", target)
    assert done.returncode == 0, done.stderr
    assert f"edgepress {target}" in done.stdout


def test_variables_reach_the_commands() -> None:
    done = make(
        "--dry-run",
        "benchmark",
        "MODEL=vgg16",
        "WEIGHTS=random",
        "DATA=tests",
        "OUT=o",
        "DEVICE=cuda",
        "TARGET=t",
    )
    for wanted in (
        "export 'vgg16' --out 'o' --weights 'random'",
        "--target 't' --data 'tests'",
        "--device 'cuda'",
    ):
        assert wanted in done.stdout


def test_preflight_stops_make_in_one_line_before_anything_starts() -> None:
    done = make("MODEL=vgg17")
    assert done.returncode == 2
    assert "edgepress: cannot start: MODEL=vgg17 is neither" in done.stderr
    assert "pip" not in done.stdout
