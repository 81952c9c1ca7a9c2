"""How much is measured: the protocol's numbers, which results.json repeats."""

from dataclasses import dataclass
from enum import Enum

from benchmark.latency import Extent

_MS = 1_000_000


class Thoroughness(str, Enum):
    """What the numbers are good for."""

    FULL = "full"
    QUICK = "quick"  # for a look, not for a decision


@dataclass(frozen=True)
class Plan:
    """The protocol.

    Attributes:
        thoroughness: Its name.
        warm_up: Not counted, after the first inference.
        pairs: Blocks of the variant, each beside a block of its FP32 baseline.
        settle: Not counted, at the start of each block: brings caches and clock back after the pause.
        block: Counted.
    """

    thoroughness: Thoroughness
    warm_up: Extent
    pairs: int
    settle: Extent
    block: Extent


# 16 pairs of blocks of ≥ 4 samples give the 64 samples that p90 needs, however slow the model is; with
# 0.4 s a block, a fast model and its baseline are in steady state for 12.8 s.
FULL = Plan(
    Thoroughness.FULL,
    warm_up=Extent(200 * _MS, 10),
    pairs=16,
    settle=Extent(20 * _MS, 1),
    block=Extent(400 * _MS, 4),
)
QUICK = Plan(
    Thoroughness.QUICK,
    warm_up=Extent(200 * _MS, 3),
    pairs=6,
    settle=Extent(20 * _MS, 1),
    block=Extent(150 * _MS, 2),
)
