"""How much of our cores other processes took while one process was measured.

Counted by the kernel in ticks of 10 ms (Linux: man 5 proc_stat, man 5 proc_pid_stat), so it is known well
over seconds, not over one inference.
"""

import os
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_IDLE = (3, 4)  # idle and iowait, of user nice system idle iowait irq softirq steal
_COUNTED = 8  # guest time is part of user time
_LEAST_TICKS = 100  # a second of one core: below, a tick that falls to the wrong side is a percent and more
MOST_OTHERS = 0.05  # share of our cores that others may take without a word
_UTIME, _STIME = 11, 12  # of the fields after the command's name


@dataclass(frozen=True)
class CpuTicks:
    """CPU time so far, in ticks.

    Attributes:
        all: Of the cores that we may run on: every process, the kernel, and what the hypervisor took.
        busy: Of these, not idle.
        own: Of the measured process.
    """

    all: int
    busy: int
    own: int


@dataclass(frozen=True)
class Interference:
    """What other processes took, summed over intervals.

    Attributes:
        all: Ticks of our cores.
        others: Those that neither were idle nor went to the measured process.
    """

    all: int = 0
    others: int = 0

    @property
    def share(self) -> float | None:
        """Of our cores, in [0, 1]; None below a second of CPU time, which is too short to tell."""
        return self.others / self.all if self.all >= _LEAST_TICKS else None

    def plus(self, before: CpuTicks | None, after: CpuTicks | None) -> "Interference":
        """With the interval between two readings; as it is where the system does not tell."""
        if before is None or after is None:
            return self
        others = (after.busy - before.busy) - (after.own - before.own)
        return Interference(self.all + after.all - before.all, self.others + max(0, others))

    def joined(self, other: "Interference") -> "Interference":
        """With the intervals of another one."""
        return Interference(self.all + other.all, self.others + other.others)


def cpu_ticks(pid: int, proc: Path = _PROC) -> CpuTicks | None:
    """Read the counters now; None where the system does not tell (not Linux, or the process is gone)."""
    try:
        lines = (proc / "stat").read_text(encoding="ascii").splitlines()
        own = (
            (proc / str(pid) / "stat")
            .read_text(encoding="utf-8", errors="replace")
            .rpartition(")")[2]
            .split()
        )
        cores = [[int(n) for n in line.split()[1 : 1 + _COUNTED]] for line in lines if _is_ours(line)]
        busy = sum(sum(ticks) - sum(ticks[i] for i in _IDLE) for ticks in cores)
        return CpuTicks(sum(map(sum, cores)), busy, int(own[_UTIME]) + int(own[_STIME]))
    except (OSError, ValueError, IndexError):
        return None


def _is_ours(line: str) -> bool:
    """Whether a line of /proc/stat is of a core that this process may run on."""
    name = line.partition(" ")[0].removeprefix("cpu")
    if not name.isdecimal() or not line.startswith("cpu"):
        return False
    return not hasattr(os, "sched_getaffinity") or int(name) in os.sched_getaffinity(0)
