"""What the CPU's clock is doing, as far as Linux tells.

Sources: admin-guide/pm/cpufreq and ABI/testing/sysfs-devices-system-cpu of the kernel's documentation.
Most virtual machines tell none of it: it is then unknown.
"""

from dataclasses import dataclass
from pathlib import Path

from edgepress.doctor.fact import Unknown, text_of

_CPUS = "sys/devices/system/cpu"
_BOOST = (("intel_pstate/no_turbo", "0"), ("cpufreq/boost", "1"))  # file, and what it says when it is on
_RASPBERRY_PI = "sys/devices/platform/soc/soc:firmware/get_throttled"
_RASPBERRY_PI_NOW = {  # raspberrypi.com/documentation/computers/os.html, vcgencmd get_throttled
    0x1: "too low a voltage",
    0x2: "a capped frequency",
    0x4: "throttling",
    0x8: "the soft limit of temperature",
}


@dataclass(frozen=True)
class CpuClock:
    """Frequencies over all cores, in MHz.

    Attributes:
        slowest_mhz: Of the cores, now.
        fastest_mhz: Of the cores, now.
        most_mhz: That any core can reach.
    """

    slowest_mhz: float
    fastest_mhz: float
    most_mhz: float


def clock_under(root: Path) -> CpuClock | Unknown:
    """The clocks now; `root` is "/" or a copy of /sys."""
    now = _khz(root, "scaling_cur_freq")
    most = _khz(root, "cpuinfo_max_freq")
    if not now or not most:
        return Unknown("no cpufreq in /sys, as in most virtual machines")
    return CpuClock(min(now) / 1000, max(now) / 1000, max(most) / 1000)


def _khz(root: Path, name: str) -> list[int]:
    texts = (text_of(file) for file in (root / _CPUS).glob(f"cpu[0-9]*/cpufreq/{name}"))
    return [int(text) for text in texts if isinstance(text, str) and text.strip().isdecimal()]


def boosts_under(root: Path) -> bool | Unknown:
    """Whether the CPU may exceed its base frequency for a while (turbo); `root` as above."""
    for name, on in _BOOST:
        text = text_of(root / _CPUS / name)
        if isinstance(text, str):
            return text.strip() == on
    return Unknown("the system does not tell")


def throttle_count_under(root: Path) -> int | Unknown:
    """How often cores were slowed down for their temperature since the system started; `root` as above."""
    files = (root / _CPUS).glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
    texts = [text_of(file) for file in files]
    counts = [int(text) for text in texts if isinstance(text, str) and text.strip().isdecimal()]
    return sum(counts) if counts else Unknown("the system does not tell")


def board_limits_under(root: Path) -> tuple[str, ...] | Unknown:
    """What a Raspberry Pi's firmware says that slows it down right now; `root` as above."""
    text = text_of(root / _RASPBERRY_PI)
    if isinstance(text, Unknown):
        return text
    try:
        bits = int(text.strip(), 16)
    except ValueError:
        return Unknown(f"{_RASPBERRY_PI} says {text.strip()!r}")
    return tuple(words for bit, words in _RASPBERRY_PI_NOW.items() if bits & bit)
