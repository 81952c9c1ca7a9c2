"""A variant and its FP32 baseline, measured in alternating blocks in two fresh processes.

What slows the machine down for a while slows both, and cancels in the ratio of neighbouring blocks. The one
that is not measured is stopped (SIGSTOP), and this process sleeps until the answer comes.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.interference import Interference, cpu_ticks
from benchmark.latency import Extent
from benchmark.memory import Residence
from benchmark.plan import Plan
from benchmark.protocol import Block, First, Memory, Open, Opened, Prepare, Prepared, Samples, Timed
from benchmark.worker_process import WorkerProcess

_NOTHING = Extent(0, 0)


@dataclass(frozen=True)
class Run:
    """What one process measured.

    Attributes:
        load_ns: From the file to a ready runtime. The file was read just before, to check its SHA-256.
        first_ns: The very first inference.
        warm_up_count: Inferences that are not counted, before the first block.
        blocks_ns: Duration of each inference, per block.
        interference: What other processes took of our cores during the blocks.
        empty_rss_bytes: Of the process with the runtime imported, before the model was loaded.
        residence: At the end.
        evidence: What really ran.
    """

    load_ns: int
    first_ns: int
    warm_up_count: int
    blocks_ns: tuple[tuple[int, ...], ...]
    interference: Interference
    empty_rss_bytes: int | None
    residence: Residence
    evidence: str


@dataclass(frozen=True)
class _Start:
    """What is known of a process before its first block."""

    prepared: Prepared
    opened: Opened
    first: Timed
    warm_up_count: int


def measure(subjects: Sequence[Open], images: Path, plan: Plan, seed: int) -> tuple[Run, ...]:
    """Measure one subject alone, or several block by block in turns, in a seeded random order.

    Args:
        subjects: What to open, each in a fresh process.
        images: .npy file with the input of every inference.
        plan: How much.
        seed: Of the order within each round of blocks.

    Raises:
        WorkerError: A process failed. All of them are gone then.
    """
    order = np.random.default_rng(seed)
    with ExitStack() as stack:
        processes: list[WorkerProcess] = []
        starts: list[_Start] = []
        for subject in subjects:
            process = stack.enter_context(WorkerProcess())
            starts.append(_start(process, subject, images, plan))
            process.pause()
            processes.append(process)
        blocks: list[list[tuple[int, ...]]] = [[] for _ in subjects]
        interference = [Interference() for _ in subjects]
        for _ in range(plan.pairs):
            for i in order.permutation(len(processes)):
                before = cpu_ticks(processes[i].pid)
                with processes[i].running():
                    found = processes[i].ask(Block(plan.settle, plan.block), Samples)
                interference[i] = interference[i].plus(before, cpu_ticks(processes[i].pid))
                blocks[i].append(found.samples_ns)
        parts = zip(processes, starts, map(tuple, blocks), interference, strict=True)
        return tuple(_finish(*part) for part in parts)


def _start(process: WorkerProcess, subject: Open, images: Path, plan: Plan) -> _Start:
    prepared = process.ask(Prepare(subject.runtime), Prepared)
    opened = process.ask(subject, Opened)
    first = process.ask(First(str(images)), Timed)
    warm_up = process.ask(Block(_NOTHING, plan.warm_up), Samples)
    return _Start(prepared, opened, first, len(warm_up.samples_ns))


def _finish(
    process: WorkerProcess,
    start: _Start,
    blocks_ns: tuple[tuple[int, ...], ...],
    interference: Interference,
) -> Run:
    with process.running():
        residence = process.ask(Memory(), Residence)
    return Run(
        start.opened.load_ns,
        start.first.duration_ns,
        start.warm_up_count,
        blocks_ns,
        interference,
        start.prepared.rss_bytes,
        residence,
        start.opened.evidence,
    )
