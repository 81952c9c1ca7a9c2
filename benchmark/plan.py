"""How much is measured: the protocol's numbers, which results.json repeats."""

from dataclasses import dataclass, replace
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
        restarts: How often both processes start afresh: two processes of the same file differ, too.
        warm_up: Not counted, after the first inference of each process.
        pairs: In each restart, blocks of the variant, each beside a block of its FP32 baseline.
        settle: Not counted, at the start of each block: brings caches and clock back after the pause.
        block: Counted.
        profiled_runs: Inferences in the pass with the runtime's profiler.
    """

    thoroughness: Thoroughness
    restarts: int
    warm_up: Extent
    pairs: int
    settle: Extent
    block: Extent
    profiled_runs: int


# 8 x 3 pairs of blocks of ≥ 3 samples give the 64 samples that p90 needs, however slow the model is; with
# 0.42 s a block, a fast model is in steady state for 10 s, and its baseline as long. Few pairs in many
# processes tell more than many pairs in few: most of what differs between two runs is the process.
FULL = Plan(
    Thoroughness.FULL,
    restarts=8,
    warm_up=Extent(200 * _MS, 10),
    pairs=3,
    settle=Extent(20 * _MS, 1),
    block=Extent(420 * _MS, 3),
    profiled_runs=10,
)
QUICK = Plan(
    Thoroughness.QUICK,
    restarts=1,
    warm_up=Extent(200 * _MS, 3),
    pairs=6,
    settle=Extent(20 * _MS, 1),
    block=Extent(150 * _MS, 2),
    profiled_runs=3,
)


def offline_plan(plan: Plan) -> Plan:
    """For one batch of the offline sweep: as thorough, but a batch is many inferences, so fewer of them."""
    return replace(plan, restarts=1, warm_up=Extent(200 * _MS, 2), pairs=6)
