"""A line of NVIDIA's tegrastats, which tells on a Jetson what NVML tells elsewhere.

Its form differs from release to release; a field that is not found is None.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass

from edgepress.doctor.fact import Unknown

_COMMAND = "tegrastats"
_INTERVAL_MS = 100
_MIB = 1 << 20
_RAM = re.compile(r"\bRAM (\d+)/(\d+)MB")
_GPU = re.compile(r"\bGR3D_FREQ (\d+)%(?:@\[?(\d+))?")
_MEMORY = re.compile(r"\bEMC_FREQ \d+%@(\d+)")
# Now and on average, in mW; older releases leave the unit out. The whole board comes first where it is told.
_RAILS = ("VDD_IN", "POM_5V_IN", "VIN_SYS_5V0", "VDD_GPU_SOC", "VDD_GPU")
_RAIL = re.compile(r"\b(\w+) (\d+)(?:mW)?/(\d+)(?:mW)?(?= |$)")


@dataclass(frozen=True)
class TegraLine:
    """One line. None for what it does not hold.

    Attributes:
        used_bytes: Of the memory that CPU and GPU share.
        gpu_busy: Share in [0, 1].
        gpu_mhz: Clock of the GPU; where it has two clusters, of the first.
        memory_mhz: Clock of the memory controller.
        power_mw: Of the whole board, or of the GPU's rail where the board's is not told.
    """

    used_bytes: int | None
    gpu_busy: float | None
    gpu_mhz: int | None
    memory_mhz: int | None
    power_mw: int | None


def parsed(line: str) -> TegraLine:
    """Read a line."""
    ram, gpu, memory = _RAM.search(line), _GPU.search(line), _MEMORY.search(line)
    rails = {name: int(now) for name, now, _ in _RAIL.findall(line)}
    return TegraLine(
        used_bytes=int(ram[1]) * _MIB if ram else None,
        gpu_busy=int(gpu[1]) / 100 if gpu else None,
        gpu_mhz=int(gpu[2]) if gpu and gpu[2] else None,
        memory_mhz=int(memory[1]) if memory else None,
        power_mw=next((rails[name] for name in _RAILS if name in rails), None),
    )


def one_line(patience_s: float, path: str | None = None) -> TegraLine | Unknown:
    """Let tegrastats write one line; it goes on for ever by itself, and is ended then.

    Args:
        patience_s: To wait for the line.
        path: Folders as in PATH; None for those of this process.
    """
    command = shutil.which(_COMMAND, path=path)
    if command is None:
        return Unknown(f"{_COMMAND} is not there: this is no Jetson")
    try:
        done = subprocess.run(
            [command, "--interval", str(_INTERVAL_MS)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=min(patience_s, 3 * _INTERVAL_MS / 1000),
            check=False,
        )
        text = done.stdout
    except subprocess.TimeoutExpired as ended:  # which is how it always ends
        text = (
            ended.stdout.decode(errors="replace") if isinstance(ended.stdout, bytes) else ended.stdout or ""
        )
    except OSError as error:
        return Unknown(f"{command}: {error}")
    line = next((line for line in text.splitlines() if line.strip()), None)
    return parsed(line) if line is not None else Unknown(f"{_COMMAND} wrote nothing")
