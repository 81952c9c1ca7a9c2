"""What this machine can do at best: rate of matrix products, and bandwidth of its memory.

Each part is measured in a process of its own (benchmark/ceilings_worker.py), one after the other: the number
of threads of a BLAS can only be set before it is loaded, and what crashes takes nothing else with it.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from benchmark.roofline import Ceilings, GemmRate
from edgepress.artifact import Device, Precision
from edgepress.doctor.fact import Unknown, text_of
from edgepress.doctor.memory_state import memory_state_under
from edgepress.isa import cpu_flags_of
from edgepress.record import from_json, to_json

COMMAND = (sys.executable, "-m", "benchmark.ceilings_worker")
NOT_ON_CUDA = "the ceilings of a GPU are not measured, and the CPU's say nothing about it"
NO_FP16 = "FP16: no library here multiplies FP16 matrices on a CPU without converting them to FP32"
_THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"),
    "VECLIB_MAXIMUM_THREADS",
)
_PATIENCE_S = 30.0
_MIB = 1 << 20
_CACHES = 4  # STREAM's rule: so many times the last-level cache, that hardly anything is found in it again
_LEAST_ARRAY_BYTES = 64 * _MIB
_ARRAY_BYTES_WITHOUT_CACHE = 256 * _MIB
_SHARE_OF_MEMORY = 4  # at most a fourth of what is available
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class Part(str, Enum):
    """What one process measures."""

    NUMPY = "numpy"
    ONNXRUNTIME = "onnxruntime"
    STREAM = "stream"


@dataclass(frozen=True)
class Task:
    """What a process is asked.

    Attributes:
        part: What to measure.
        threads: With how many.
        array_bytes: Memory to go through, of all threads together.
    """

    part: Part
    threads: int
    array_bytes: int


@dataclass(frozen=True)
class Answer:
    """What a process found; see `Ceilings`."""

    gemm: tuple[GemmRate, ...] = ()
    read_bytes_per_s: float | None = None
    copy_bytes_per_s: float | None = None
    notes: tuple[str, ...] = ()
    others_cpu: float | None = None


def measured_ceilings(
    threads: int, device: Device, root: Path = Path("/"), command: Sequence[str] = COMMAND
) -> Ceilings:
    """Measure them with as many threads as the benchmark uses; about 5 s, and nothing for a GPU.

    Bandwidth is that of STREAM's copy, and of reading alone (J. McCalpin, Memory bandwidth and machine
    balance in current high performance computers, IEEE TCCA Newsletter, December 1995).

    Args:
        threads: Of each library.
        device: Where the versions run.
        root: "/", or a copy of /proc and /sys.
        command: Answers a `Task` on stdin with an `Answer` on stdout.

    Returns:
        What could be measured; the notes say what could not, and why.
    """
    cache = last_level_cache_bytes(root)
    if device is not Device.CPU:
        return Ceilings(threads, (), None, None, cache, (NOT_ON_CUDA,))
    memory = memory_state_under(root)
    available = None if isinstance(memory, Unknown) else memory.available_bytes
    array_bytes, notes = _array_bytes(cache, available)
    answers = [_answer(Task(part, threads, array_bytes), command) for part in Part]
    stream = answers[-1]
    others = [answer.others_cpu for answer in answers if answer.others_cpu is not None]
    return Ceilings(
        threads,
        _best([rate for answer in answers for rate in answer.gemm]),
        stream.read_bytes_per_s,
        stream.copy_bytes_per_s,
        cache,
        (*(note for answer in answers for note in answer.notes), NO_FP16, *notes, *_sharing(root)),
        max(others, default=None),
    )


def _best(rates: Iterable[GemmRate]) -> tuple[GemmRate, ...]:
    """The best of each precision."""
    best: dict[Precision, GemmRate] = {}
    for rate in rates:
        if rate.precision not in best or rate.macs_per_s > best[rate.precision].macs_per_s:
            best[rate.precision] = rate
    return tuple(best.values())


def _answer(task: Task, command: Sequence[str]) -> Answer:
    """What a fresh process says; if it says nothing, why."""
    try:
        done = subprocess.run(
            command,
            input=json.dumps(to_json(task)).encode(),
            capture_output=True,
            env={**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(task.threads))},
            timeout=_PATIENCE_S,
            check=False,
            start_new_session=True,  # Ctrl-C reaches only this process, which then ends that one
        )
        return from_json(Answer, json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        reason = f"no answer within {_PATIENCE_S:.0f} s"
    except OSError as error:
        reason = str(error)
    except ValueError:
        reason = _end_of(done)
    return Answer(notes=(f"{task.part.value}: {reason}",))


def _end_of(done: "subprocess.CompletedProcess[bytes]") -> str:
    if done.returncode < 0:
        return f"its process was ended by {signal.Signals(-done.returncode).name}"
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return f"its process ended with exit code {done.returncode}: {said[-1] if said else 'it said nothing'}"


def last_level_cache_bytes(root: Path = Path("/")) -> int | None:
    """Size of the highest level of caches of the cores that this process may use, all of them added.

    None where the system does not tell (Linux: Documentation/ABI/testing/sysfs-devices-system-cpu).
    """
    caches: dict[int, dict[str, int]] = {}  # level → cores that share it → size
    for core in sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*")):
        number = int(core.name.removeprefix("cpu"))
        if hasattr(os, "sched_getaffinity") and number not in os.sched_getaffinity(0):
            continue
        for folder in core.glob("cache/index[0-9]*"):
            level, kind, size, shared = (
                text_of(folder / name) for name in ("level", "type", "size", "shared_cpu_list")
            )
            if isinstance(level, Unknown) or isinstance(kind, Unknown) or kind.strip() == "Instruction":
                continue
            if isinstance(size, str) and (found := re.fullmatch(r"(\d+)([KMG]?)", size.strip())):
                sharers = core.name if isinstance(shared, Unknown) else shared.strip()
                caches.setdefault(int(level), {})[sharers] = int(found[1]) * _UNITS.get(found[2], 1)
    return sum(caches[max(caches)].values()) if caches else None


def _array_bytes(cache: int | None, available: int | None) -> tuple[int, tuple[str, ...]]:
    """Memory to go through, and what is to be said of it."""
    wanted = _ARRAY_BYTES_WITHOUT_CACHE if cache is None else max(_LEAST_ARRAY_BYTES, _CACHES * cache)
    notes = () if cache is not None else ("the size of the last-level cache is not known",)
    if available is None or wanted <= available // _SHARE_OF_MEMORY:
        return wanted, notes
    size = available // _SHARE_OF_MEMORY
    return size, (
        *notes,
        f"stream: {size / _MIB:.0f} MiB instead of {wanted / _MIB:.0f} MiB, for want of memory: "
        "part of it may have come from the cache",
    )


def _sharing(root: Path) -> tuple[str, ...]:
    text = text_of(root / "proc/cpuinfo")
    if isinstance(text, str) and "hypervisor" in cpu_flags_of(text):
        return ("a virtual machine: its last-level cache and its memory are shared with other machines",)
    return ()
