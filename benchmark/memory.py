"""What a process occupies, as the kernel counts it (Linux: man 5 proc_pid_status)."""

from dataclasses import dataclass
from pathlib import Path

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
_BYTES_PER_KB = 1024


@dataclass(frozen=True)
class Residence:
    """Resident memory of this process; None where the system does not tell.

    Attributes:
        rss_bytes: Now (VmRSS). Pages of a mapped model file count once they were touched.
        peak_rss_bytes: The most so far (VmHWM).
    """

    rss_bytes: int | None
    peak_rss_bytes: int | None


def residence(status: Path = _STATUS) -> Residence:
    """Read what this process occupies."""
    try:
        lines = status.read_text(encoding="ascii").splitlines()
    except OSError:
        return Residence(None, None)
    fields = dict(line.split(":", 1) for line in lines if line.endswith(" kB"))
    found = {name: int(text.split()[0]) * _BYTES_PER_KB for name, text in fields.items()}
    return Residence(found.get("VmRSS"), found.get("VmHWM"))


def forget_peak(reset: Path = _RESET) -> bool:
    """Let the peak start again at what is occupied now; False where the system cannot do that."""
    try:
        reset.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True
