"""How near a version is to what the machine can do: the roofline model.

S. Williams, A. Waterman, D. Patterson, Roofline: an insightful visual performance model for multicore
architectures, CACM 52 (2009): no program is faster than its operations at the machine's best rate, nor than
its bytes at the machine's best bandwidth.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from benchmark.interference import MOST_OTHERS
from edgepress.artifact import Precision
from edgepress.inspection.layer import BYTES_PER_VALUE, Inspection, Layer

_NS_PER_S = 1e9
_BYTES_OF_DTYPE = {"int8": 1, "uint8": 1, "float16": 2}


@dataclass(frozen=True)
class GemmRate:
    """The best rate of a large matrix product.

    Attributes:
        precision: Of the numbers that are multiplied.
        macs_per_s: Multiply-accumulates a second.
        library: What computed it, e.g. "numpy (OpenBLAS)", "onnxruntime 1.31".
        size: Side of the square matrices at which it was best.
    """

    precision: Precision
    macs_per_s: float
    library: str
    size: int


@dataclass(frozen=True)
class Ceilings:
    """What the machine can do at best, measured at the thread count of the benchmark.

    Attributes:
        threads: As many.
        gemm: The best rate per precision; one that could not be measured is missing.
        read_bytes_per_s: Memory read by all threads at once; None where it could not be measured.
        copy_bytes_per_s: Memory copied by all threads at once, read and written bytes counted.
        last_level_cache_bytes: What is smaller need not come from memory; None where not known.
        notes: What could not be measured, and why.
        others_cpu: Share in [0, 1] of our cores that other processes took while one of the parts was
            measured, the greatest one; None where not known.
    """

    threads: int
    gemm: tuple[GemmRate, ...]
    read_bytes_per_s: float | None
    copy_bytes_per_s: float | None
    last_level_cache_bytes: int | None
    notes: tuple[str, ...]
    others_cpu: float | None = None


class Bound(str, Enum):
    """Which ceiling is the nearer one."""

    COMPUTE = "compute"
    MEMORY = "memory"


@dataclass(frozen=True)
class Roofline:
    """One version under the machine's ceilings. A floor is a time that no run on this machine can beat.

    Attributes:
        macs: Multiply-accumulates for one picture, as the layers are written.
        moved_bytes: The input and all weights read once, and each layer's output written once and read once.
        compute_floor_ns: MACs of each precision at its best rate.
        memory_floor_ns: Bytes at the read bandwidth; None where all of them fit into the last-level cache, or
            the bandwidth is not known.
        achieved: The higher floor over the median latency. Above 1 the runtime does less than the layers say
            (Winograd's convolution needs up to 2.25 times fewer products), or its kernels beat the rate
            that was measured.
        bound_by: The higher of the two floors.
        note: What a reader must know; None if nothing.
    """

    macs: int
    moved_bytes: int
    compute_floor_ns: float
    memory_floor_ns: float | None
    achieved: float
    bound_by: Bound
    note: str | None


def roofline_of(inspection: Inspection, median_ns: float, ceilings: Ceilings) -> Roofline | None:
    """Put a version under the ceilings.

    FP16 layers count at FP32's rate where none was measured for FP16: a CPU without FP16 arithmetic computes
    them in FP32. INT8 layers without an INT8 rate have no floor, for FP32's would be one that they can beat.

    Args:
        inspection: What was read out of the version's file: MACs, weights and shapes of each layer.
        median_ns: Latency of one picture.
        ceilings: Of the machine that measured it, at the same number of threads.

    Returns:
        None without MACs, without a rate for a precision that has some, or without a time.
    """
    rates = {rate.precision: rate.macs_per_s for rate in ceilings.gemm}
    notes = []
    macs = _macs(inspection.layers)
    if Precision.FP16 in macs and Precision.FP16 not in rates and Precision.FP32 in rates:
        rates[Precision.FP16] = rates[Precision.FP32]
        notes.append("FP16 layers count at FP32's rate: none was measured for FP16 here")
    if not macs or median_ns <= 0 or not macs.keys() <= rates.keys():
        return None
    compute_ns = sum(count / rates[precision] for precision, count in macs.items()) * _NS_PER_S
    moved, unknown = _moved_bytes(inspection)
    if inspection.uncounted:
        notes.append(f"not counted: {', '.join(inspection.uncounted)}")
    if unknown:
        notes.append(f"values of unknown shape are not among the bytes: {', '.join(unknown)}")
    if ceilings.others_cpu is not None and ceilings.others_cpu > MOST_OTHERS:
        notes.append(
            f"other processes took {ceilings.others_cpu:.0%} of the cores while the ceilings were measured: "
            "the floor may be too high"
        )
    memory_ns = _memory_floor_ns(moved, ceilings)
    achieved = max(compute_ns, memory_ns or 0.0) / median_ns
    if achieved > 1:
        notes.append(
            "above 1: the runtime computes fewer products than the layers have (as Winograd's convolution "
            "does), or has faster kernels than those that gave the rate"
        )
    bound = Bound.MEMORY if memory_ns is not None and memory_ns > compute_ns else Bound.COMPUTE
    note = "; ".join(notes) or None
    return Roofline(sum(macs.values()), moved, compute_ns, memory_ns, achieved, bound, note)


def _macs(layers: Iterable[Layer]) -> dict[Precision, int]:
    """MACs by the precision of what is multiplied; only of those that there are."""
    found: Counter[Precision] = Counter()
    for layer in layers:
        found[layer.computed] += layer.macs
    return {precision: count for precision, count in found.items() if count}


def _moved_bytes(inspection: Inspection) -> tuple[int, list[str]]:
    """See `Roofline.moved_bytes`; and the names of what could not be counted.

    Pooling, activation functions and the like count as fused into the layer before them, and a layer's output
    as of the precision that the layer computes in: both keep the number below what is really moved.
    """
    moved = inspection.weight_bytes
    unknown = []
    for given in inspection.inputs:
        if (values := _values(given.shape[1:])) is None:  # without the batch
            unknown.append(given.name)
        else:
            moved += values * _BYTES_OF_DTYPE.get(given.dtype, 4)
    for layer in inspection.layers:
        if (values := _values(layer.output_shape)) is None:
            unknown.append(layer.name)
        else:
            moved += 2 * values * BYTES_PER_VALUE[layer.computed]
    return moved, unknown


def _values(shape: tuple[int | None, ...]) -> int | None:
    known = [side for side in shape if side is not None]
    return math.prod(known) if known and len(known) == len(shape) else None


def _memory_floor_ns(moved: int, ceilings: Ceilings) -> float | None:
    cache, rate = ceilings.last_level_cache_bytes, ceilings.read_bytes_per_s
    if rate is None or (cache is not None and moved <= cache):
        return None
    return moved / rate * _NS_PER_S
