"""Trials of fake packages that fail in every way there is."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgepress.doctor.backends import NUMPY, Backend
from edgepress.doctor.diagnosis import trial_of, untried
from edgepress.doctor.packages import Pip
from edgepress.doctor.trial import Cause, Outcome, Verdict, printable, try_backends
from edgepress.environments import GPU_TRT

PATIENCE_S = 4.0
PIP = Pip("pip", {"fake": "<2,>=1"})
CHILD_THAT_STAYS = (
    f"import subprocess\nsubprocess.Popen([{sys.executable!r}, '-c', 'import time; time.sleep(6)'])"
)


def fake(name: str, code: str = "") -> Backend:
    return Backend(name, "fake", (name,), ("fake",), code or f"import {name} as f\nfound = f.VERSION")


# name → content of the package, verdict, part of the finding, cause
CASES: dict[str, tuple[str | None, Verdict, str, Cause | None]] = {
    "noisy": ("print('noise')\nVERSION = '1.0'", Verdict.WORKS, "1.0", None),
    "noisy_at_exit": (
        "import atexit\natexit.register(print, 'goodbye')\nVERSION = '1.0'",
        Verdict.WORKS,
        "1.0",
        None,
    ),
    "floods": ("print('x' * 10_000_000)\nVERSION = '1.0'", Verdict.WORKS, "1.0", None),
    "leaves_a_child": (f"{CHILD_THAT_STAYS}\nVERSION = '1.0'", Verdict.WORKS, "1.0", None),
    "half": ("raise ImportError('libfake.so.1: cannot open')", Verdict.BROKEN, "libfake.so.1", Cause.ITSELF),
    "needs_other": (
        "import flatbuffers_of_nobody",
        Verdict.BROKEN,
        "flatbuffers_of_nobody",
        Cause.DEPENDENCY,
    ),
    "aborts": (
        "import os, sys\nprint('built for \033[31mAVX\033[0m', file=sys.stderr, flush=True)\nos.abort()",
        Verdict.BROKEN,
        "ended by SIGABRT: built for ?[31mAVX?[0m",
        Cause.ITSELF,
    ),
    "illegal": (
        "import os, signal\nos.kill(os.getpid(), signal.SIGILL)",
        Verdict.BROKEN,
        "ended by SIGILL (it was built with instructions that this CPU lacks)",
        Cause.CPU,
    ),
    "real_time_signal": (
        "import os\nos.kill(os.getpid(), 40)",
        Verdict.BROKEN,
        "ended by signal 40",
        Cause.ITSELF,
    ),
    "dies_after_work": (
        "import atexit, os\natexit.register(os.abort)\nVERSION = '1.0'",
        Verdict.BROKEN,
        "ended by SIGABRT",
        Cause.ITSELF,
    ),
    "leaves": ("import sys\nsys.exit(0)", Verdict.BROKEN, "SystemExit: 0", Cause.ITSELF),
    "leaves_as_if_absent": ("import sys\nsys.exit(3)", Verdict.BROKEN, "SystemExit: 3", Cause.ITSELF),
    "leaves_at_once": (
        "import os\nos._exit(0)",
        Verdict.BROKEN,
        "left with exit code 0 and no answer",
        Cause.ITSELF,
    ),
    "asks": ("VERSION = input('licence? ')", Verdict.BROKEN, "EOFError", Cause.ITSELF),
    "hangs": ("import time\ntime.sleep(60)", Verdict.BROKEN, "gave no answer within 4 s", Cause.ITSELF),
    "empty": ("", Verdict.BROKEN, "AttributeError", Cause.ITSELF),
    "unspeakable": (
        "class E(Exception):\n    def __str__(self): raise ValueError\nraise E",
        Verdict.BROKEN,
        "E:",
        Cause.ITSELF,
    ),
    "missing": (None, Verdict.ABSENT, "missing is not installed", None),
}


@contextmanager
def a_terminal_where_nobody_types() -> Iterator[None]:
    """Descriptor 0, which child processes inherit, is a pipe that stays open and empty."""
    saved, (reader, writer) = os.dup(0), os.pipe()
    os.dup2(reader, 0)
    try:
        yield
    finally:
        os.dup2(saved, 0)
        for descriptor in (saved, reader, writer):
            os.close(descriptor)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """All cases, tried together as the doctor does."""
    folder = tmp_path_factory.mktemp("packages")
    for name, (content, *_) in CASES.items():
        if content is not None:
            (folder / f"{name}.py").write_text(content)
    (folder / "shell").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        tried = [fake(name) for name in (*CASES, "shell")]
        with a_terminal_where_nobody_types():
            return {backend.name: outcome for backend, outcome in try_backends(tried, PATIENCE_S)}


@pytest.mark.parametrize("name", CASES)
def test_a_package_gets_the_verdict_that_it_earns(outcomes: dict[str, Outcome], name: str) -> None:
    _, verdict, finding, cause = CASES[name]
    assert outcomes[name].verdict is verdict
    assert outcomes[name].cause is cause
    assert finding in outcomes[name].finding
    assert outcomes[name].finding.isprintable()


def test_a_folder_left_by_an_uninstallation_is_no_package(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["shell"] == Outcome(
        Verdict.BROKEN, "ImportError: of shell only the folder is left", Cause.ITSELF
    )


def test_a_folder_in_the_working_folder_is_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnx_of_the_user").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    ((_, outcome),) = try_backends([fake("onnx_of_the_user")], PATIENCE_S)
    assert outcome.verdict is Verdict.ABSENT


def test_whoever_stops_listening_ends_the_trials(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    slow = fake("sys", f"import os, time\nopen({str(note)!r}, 'w').write(str(os.getpid()))\ntime.sleep(30)")
    wait = f"import os, time\nwhile not os.path.exists({str(note)!r}): time.sleep(0.01)\nfound = '1'"
    trials = try_backends([fake("os", wait), slow])
    assert next(trials)[0].name == "os"
    trials.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


@pytest.mark.parametrize(
    ("outcome", "installed", "remedy"),
    [
        (Outcome(Verdict.WORKS, "1.0"), {"fake": "1.0"}, None),
        (Outcome(Verdict.ABSENT, "fake is not installed"), {}, "pip install 'fake<2,>=1'"),
        (  # pip would say that the requirement is met
            Outcome(Verdict.ABSENT, "fake is not installed"),
            {"fake": "1.0"},
            "pip install --force-reinstall --no-deps 'fake<2,>=1'",
        ),
        (
            Outcome(Verdict.BROKEN, "ImportError: libfake.so.1", Cause.ITSELF),
            {"fake": "1.0"},
            "pip install --force-reinstall --no-deps 'fake<2,>=1'",
        ),
        (
            Outcome(Verdict.BROKEN, "No module named 'x'", Cause.DEPENDENCY),
            {"fake": "1.0"},
            "pip install 'fake<2,>=1'",
        ),
        (Outcome(Verdict.BROKEN, "ended by SIGILL", Cause.CPU), {"fake": "1.0"}, None),
    ],
)
def test_remedy_follows_from_the_cause(
    outcome: Outcome, installed: dict[str, str], remedy: str | None
) -> None:
    assert trial_of(fake("fake"), outcome, PIP, installed, {}, numpy_works=True).remedy == remedy


def test_remedy_of_all_others_is_to_mend_numpy_first() -> None:
    broken = Outcome(Verdict.BROKEN, "ImportError", Cause.ITSELF)
    found = trial_of(fake("fake"), broken, PIP, {"fake": "1.0"}, {}, numpy_works=False)
    assert found.remedy == "mend NumPy first, then run the doctor again"
    itself = trial_of(NUMPY, broken, Pip("pip", {"numpy": ">=2"}), {"numpy": "2.4"}, {}, numpy_works=False)
    assert itself.remedy == "pip install --force-reinstall --no-deps 'numpy>=2'"


def test_remedy_of_what_another_build_overwrote_is_the_repair_of_both() -> None:
    broken = Outcome(Verdict.BROKEN, "AttributeError", Cause.ITSELF)
    repairs = {"fake": "pip uninstall -y fake fake-gpu && …"}
    found = trial_of(fake("fake"), broken, PIP, {"fake": "1.0"}, repairs, numpy_works=True)
    assert found.remedy == repairs["fake"]


def test_a_missing_extra_is_no_fault_but_a_missing_base_is() -> None:
    absent = Outcome(Verdict.ABSENT, "not installed")
    assert not trial_of(fake("fake"), absent, PIP, {}, {}, numpy_works=True).is_fault
    assert trial_of(NUMPY, absent, PIP, {}, {}, numpy_works=False).is_fault


def test_untried_says_what_waits_for_a_gpu() -> None:
    backend = Backend("Fake", "gpu-trt", ("fake",), ("fake",), "raise AssertionError", GPU_TRT)
    assert untried(backend, {}).finding == "no NVIDIA GPU that CUDA can use"
    found = untried(backend, {"fake": "1.0"})
    assert found.finding == "no NVIDIA GPU that CUDA can use (fake 1.0 is installed)"
    assert (found.verdict, found.remedy, found.is_fault) == (Verdict.NOT_HERE, None, False)


def test_printable_is_one_bounded_line() -> None:
    assert printable("a\n\tb\x1b[0m\udcff") == "a b?[0m?"
    assert len(printable("x" * 1000)) == 300
