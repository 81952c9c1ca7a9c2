"""Whether a row's times can be believed: VALID, or what speaks against them."""

import numpy as np

from benchmark.measurement import Result, Status
from benchmark.quantities import GpuConduct, Latency, State, Verdict
from benchmark.summary import relative_width
from edgepress.runners.runner import places_of

_OTHERS_CPU = 0.05  # of our cores; an idle machine shows less than 1 %
_WIDE_INTERVAL = 0.1  # of the speed-up
_MOVED = 0.05  # between the lowest and the highest clock of a GPU: its steps are of 1 %
_DRIFT = 0.1  # between the first and the last quarter of the blocks


def verdict_of(result: Result) -> Verdict | None:
    """Judge a row; None if it has no times and nothing speaks against it.

    UNSTABLE if other processes took more than 5 % of our cores meanwhile, if the 95 % interval of the
    speed-up is wider than 10 % of it, if the row became more than 10 % slower or faster while it was
    measured (a CPU that throttles), or if the GPU's clocks moved by more than 5 % or it was slowed down.
    INVALID if there are too few samples for any interval, if the file is not of the precision that the
    manifest says, if it ran elsewhere than its runner says, or if it expects another preprocessing.
    """
    latency = result.latency
    if result.status is not Status.OK:
        return None
    if lies := (*_false_promise(result), *_wrong_place(result), *_too_few(latency), *_wrong_input(result)):
        return Verdict(State.INVALID, lies)
    if latency is None:
        return None
    reasons = (*_disturbance(latency), *_width(result), *_drift(latency), *_gpu(result.gpu))
    return Verdict(State.UNSTABLE if reasons else State.VALID, reasons)


def _false_promise(result: Result) -> list[str]:
    if result.promised is result.precision:
        return []
    shares = result.shares.macs.items() if result.shares is not None else ()
    found = ", ".join(f"{share:.0%} {name}" for name, share in shares if share)
    return [f"the manifest says {result.promised.value}, and its MACs are {found}"]


def _wrong_place(result: Result) -> list[str]:
    """By the profiler, node by node: a session can name a provider that runs nothing."""
    allowed = places_of(result.runner, result.device)
    if result.profile is None or not allowed:
        return []
    shares = result.profile.place_time_shares
    found = ", ".join(f"{share:.0%} of its time on {at}" for at, share in shares.items() if at not in allowed)
    return [f"it was to run on {allowed[0]}, and spent {found}"] if found else []


def _too_few(latency: Latency | None) -> list[str]:
    if latency is None or latency.median_ci95_ns is not None:
        return []
    return [f"{len(latency.samples_ns)} samples are too few for an interval"]


def _wrong_input(result: Result) -> list[str]:
    return [] if result.preprocessing_doubt is None else [result.preprocessing_doubt]


def _disturbance(latency: Latency) -> list[str]:
    if latency.others_cpu is None or latency.others_cpu <= _OTHERS_CPU:
        return []
    return [
        f"other processes took {latency.others_cpu:.0%} of the CPU meanwhile: "
        "measure --again on a quiet machine"
    ]


def _width(result: Result) -> list[str]:
    if result.speedup is None or relative_width(result.speedup) <= _WIDE_INTERVAL:
        return []
    return [
        f"the 95 % interval is wider than {_WIDE_INTERVAL:.0%} of the speed-up: "
        "measure --again on a quiet machine"
    ]


def _gpu(gpu: GpuConduct | None) -> list[str]:
    """Read before and after each block, while the GPU was at work."""
    if gpu is None:
        return []
    found = [f"the GPU was slowed down meanwhile: {', '.join(gpu.slowdowns)}"] if gpu.slowdowns else []
    for name, clocks_mhz, option in (("clock", gpu.sm_mhz, "-lgc"), ("memory clock", gpu.memory_mhz, "-lmc")):
        if clocks_mhz and max(clocks_mhz) > (1 + _MOVED) * min(clocks_mhz):
            found.append(
                f"the GPU's {name} moved between {min(clocks_mhz)} and {max(clocks_mhz)} MHz: "
                f"lock it (nvidia-smi {option}, on a Jetson jetson_clocks) and measure --again"
            )
    return found


def _drift(latency: Latency) -> list[str]:
    """Compare the medians of the first and of the last quarter of the blocks."""
    ends = np.cumsum(latency.block_counts)
    medians = [float(np.median(block)) for block in np.split(np.asarray(latency.samples_ns), ends[:-1])]
    quarter = len(medians) // 4
    if not quarter:
        return []
    ratio = float(np.median(medians[-quarter:]) / np.median(medians[:quarter]))
    if abs(ratio - 1) <= _DRIFT:
        return []
    word = "slower" if ratio > 1 else "faster"
    return [f"became {abs(ratio - 1):.0%} {word} while it was measured (a clock that changes, or a hot CPU)"]
