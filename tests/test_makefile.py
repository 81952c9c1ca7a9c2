"""The Makefile: its targets are commands, not folders, and it says what is missing before it starts."""

import itertools
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from edgepress.cli.job import read_job
from edgepress.environments import ENVIRONMENTS

ROOT = Path(__file__).resolve().parents[1]
TARGETS = {
    *("setup", "export", "optimize", "parity", "benchmark", "report", "bundle", "docs", "doctor"),
    *("all", "test", "check", "clean"),
}

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["make", *arguments], capture_output=True, text=True, cwd=ROOT, check=False)


def command_of(done: "subprocess.CompletedProcess[str]") -> list[str]:
    """The words of the command that a dry run would have started."""
    assert done.returncode == 0, done.stderr
    return shlex.split(next(line for line in done.stdout.splitlines() if "edgepress run" in line))


def test_help_lists_every_target_with_a_line() -> None:
    listed = {line.split()[0] for line in make("help").stdout.splitlines() if line.startswith("  ")}
    assert listed >= TARGETS


@pytest.mark.parametrize("target", ["export", "optimize", "parity", "benchmark"])
def test_target_runs_the_job_until_that_stage(target: str) -> None:
    done = make("--dry-run", target)
    words = command_of(done)
    assert words[:3] == [".venv/bin/edgepress", "run", "docs/jobs/vgg16-digits.toml"]
    assert words[-2:] == ["--until", target]


def test_variables_become_keys_of_the_job() -> None:
    variables = ("MODEL=vgg16", "WEIGHTS=random", "DATA=tests", "OUT=o", "DEVICE=cuda", "TARGET=host")
    done = make("--dry-run", *variables, "SET=benchmark.quick=true optimize.samples=8")
    words = command_of(done)
    overrides = [value for flag, value in itertools.pairwise(words) if flag == "--set"]
    assert set(overrides) == {
        *("model=vgg16", "data=tests", "out=o", "export.weights=random", "optimize.target=host"),
        *("benchmark.device=cuda", "benchmark.quick=true", "optimize.samples=8"),
        "benchmark.quick=false",  # before the user's own, which wins
    }
    job = read_job(ROOT / words[words.index("run") + 1], overrides)
    assert [command.name for command, _ in job.steps] == ["export", "optimize", "parity", "benchmark"]
    assert [vars(arguments).get("data") for _, arguments in job.steps] == ["tests", "tests", None, "tests"]
    assert job.steps[-1][1].quick is True


@pytest.mark.parametrize(("variables", "quick"), [((), True), (("MODEL=vgg16", "DATA=tests"), False)])
def test_the_embedded_model_is_measured_for_a_look_and_a_users_for_a_decision(
    variables: tuple[str, ...], quick: bool
) -> None:
    words = command_of(make("--dry-run", *variables))
    overrides = [value for flag, value in itertools.pairwise(words) if flag == "--set"]
    job = read_job(ROOT / words[words.index("run") + 1], overrides)
    assert job.steps[-1][1].quick is quick


def test_setup_for_a_gpu_makes_an_environment_for_each_of_its_runtimes() -> None:
    extras = [environment.extra for environment in ENVIRONMENTS]
    with_gpu = make("--dry-run", "--always-make", "setup", "DEVICE=cuda").stdout
    for extra in extras:
        assert f".venv-{extra}/bin/pip install" in with_gpu
        assert f"--editable '.[{extra}]'" in with_gpu
    assert ".venv-gpu" not in make("--dry-run", "--always-make", "setup").stdout


def test_preflight_stops_make_in_one_line_before_anything_starts() -> None:
    done = make("MODEL=vgg17")
    assert done.returncode == 2
    assert "edgepress: cannot start: MODEL=vgg17 is neither" in done.stderr
    assert "pip" not in done.stdout
