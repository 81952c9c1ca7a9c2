"""What a process occupies, as the kernel counts it (Linux: man 5 proc_pid_status, man 5 proc_pid_smaps)."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from edgepress.doctor.fact import Unknown
from edgepress.doctor.gpu_moment import process_bytes_of_first
from edgepress.doctor.gpu_state import used_bytes_of_first

_SELF = Path("/proc/self")
_RESET = _SELF / "clear_refs"
_RESET_PEAK = "5"
_BYTES_PER_KB = 1024
# address, permissions, offset, device and inode stand before the path, and most mappings have none
_MAPPING = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(.*)")
_RESIDENT = "Rss:"


@dataclass(frozen=True)
class Residence:
    """Resident memory of this process; None where the system does not tell.

    Attributes:
        rss_bytes: Now (VmRSS). Pages of a mapped model file count once they were touched.
        peak_rss_bytes: The most so far (VmHWM).
        model_mapped_bytes: Of `rss_bytes`, pages of the model's own file, mapped into memory instead of
            copied: the system can take them back at any time, and processes that map the same file share
            them. None also before a model was loaded.
    """

    rss_bytes: int | None
    peak_rss_bytes: int | None
    model_mapped_bytes: int | None


def residence(model: Path | None = None, proc: Path = _SELF) -> Residence:
    """Read what this process occupies.

    Args:
        model: File or folder of the model that it has loaded.
        proc: /proc/self, or a copy of it.
    """
    try:
        lines = (proc / "status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return Residence(None, None, None)
    fields = dict(line.split(":", 1) for line in lines if line.endswith(" kB"))
    found = {name: int(text.split()[0]) * _BYTES_PER_KB for name, text in fields.items()}
    mapped = None if model is None else _mapped_bytes(model, proc)
    return Residence(found.get("VmRSS"), found.get("VmHWM"), mapped)


def _mapped_bytes(model: Path, proc: Path) -> int | None:
    """Resident bytes of the mappings of a file, or of every file in a folder."""
    try:
        lines = os.fsdecode((proc / "smaps").read_bytes()).splitlines()
    except OSError:
        return None
    wanted = str(model.resolve())
    below = wanted + os.sep
    total, is_models = 0, False
    for line in lines:
        if mapping := _MAPPING.fullmatch(line):
            is_models = mapping[1] == wanted or mapping[1].startswith(below)
        elif is_models and line.startswith(_RESIDENT):
            total += int(line.split()[1]) * _BYTES_PER_KB
    return total


def forget_peak(reset: Path = _RESET) -> bool:
    """Let the peak start again at what is occupied now; False where the system cannot do that."""
    try:
        reset.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def device_used_bytes() -> int | None:
    """Memory in use on GPU 0 of NVML, by every process; None where no driver tells (also on most Jetsons).

    No CUDA context is made, which would itself occupy hundreds of megabytes.
    """
    used = used_bytes_of_first()
    return None if isinstance(used, Unknown) else used


def device_process_bytes() -> int | None:
    """Memory of GPU 0 that this process holds, its CUDA context included; None where NVML does not tell."""
    held = process_bytes_of_first()
    return None if isinstance(held, Unknown) else held
