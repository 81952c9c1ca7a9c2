"""What a command costs from interpreter start to exit: wall time, and peak memory as the kernel counts it."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}

# Linux counts the memory of the process that starts another one as that one's, too (exec keeps `ru_maxrss`).
# So a small process starts it.
_STARTER = """
import os, sys, time
start = time.perf_counter()
pid = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[2:]], os.environ)
_, status, usage = os.wait4(pid, 0)
with open(sys.argv[1], "w") as file:
    print(time.perf_counter() - start, usage.ru_maxrss * 1024, file=file)
sys.exit(os.waitstatus_to_exitcode(status) & 255)
"""


@dataclass(frozen=True)
class Cost:
    """Of one process.

    Attributes:
        wall_s: From its start to its exit.
        peak_bytes: Its largest resident set (`ru_maxrss`), mapped files included.
    """

    wall_s: float
    peak_bytes: int


def cost_of(arguments: Sequence[str | Path], folder: Path, interpreter: str | None = None) -> Cost:
    """Run Python with these arguments to its end.

    Args:
        arguments: After the interpreter.
        folder: For its output, `command.log`.
        interpreter: Of another environment; None for this one.

    Raises:
        AssertionError: It failed; what it printed is in the text.
    """
    log, cost = folder / "command.log", folder / "command.cost"
    with log.open("wb") as output:
        code = subprocess.run(
            [interpreter or sys.executable, "-I", "-S", "-c", _STARTER, cost, *map(str, arguments)],
            env={**os.environ, **_ENVIRONMENT},
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    if code != 0:
        raise AssertionError(f"exit code {code}: {log.read_text(errors='replace')[-2000:]}")
    wall_s, peak_bytes = cost.read_text().split()
    return Cost(float(wall_s), int(peak_bytes))
