"""A variant and its FP32 baseline, measured in alternating blocks in two fresh processes, several times.

What slows the machine down for a while slows both, and cancels in the ratio of neighbouring blocks. The one
that is not measured is stopped (SIGSTOP), and this process sleeps until the answer comes.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmark.interference import Interference, cpu_ticks
from benchmark.latency import Extent
from benchmark.memory import Residence
from benchmark.plan import Plan
from benchmark.protocol import (
    Block,
    First,
    Memory,
    Occupied,
    OnDevice,
    Open,
    Opened,
    Prepare,
    Samples,
    Timed,
    ToldByDevice,
)
from benchmark.worker_process import WorkerProcess, command_for
from edgepress.artifact import Device
from edgepress.doctor.gpu_moment import GpuMoment
from edgepress.runners.runner import DeviceMemoryUse, DeviceTime

_NOTHING = Extent(0, 0)


@dataclass(frozen=True)
class Run:
    """What was measured of one subject, in as many fresh processes as the plan has restarts.

    Attributes:
        load_ns: From the file to a ready runtime, in the first process. The file was read just before, to
            check its SHA-256.
        first_ns: The very first inference, there.
        warm_up_count: Inferences that are not counted, before its first block.
        blocks_ns: Duration of each inference, per block.
        restart_counts: How many of the blocks each process holds.
        interference: What other processes took of our cores during the blocks.
        prepared: The first process with the runtime imported, before the model was loaded.
        loaded: After the model was loaded there.
        occupied: At its end.
        evidence: What really ran there.
        gpu: What the GPU did before and after each block, in order; empty on a CPU.
        device_memory: What the model takes of the GPU, as its runner tells of the first process; else None.
        device_times: Further inferences, timed by the GPU's clock, in each process.
    """

    load_ns: int
    first_ns: int
    warm_up_count: int
    blocks_ns: tuple[tuple[int, ...], ...]
    restart_counts: tuple[int, ...]
    interference: Interference
    prepared: Occupied
    loaded: Residence
    occupied: Occupied
    evidence: str
    gpu: tuple[GpuMoment, ...] = ()
    device_memory: DeviceMemoryUse | None = None
    device_times: tuple[DeviceTime, ...] = ()


def measure(subjects: Sequence[Open], images: Path, plan: Plan, seed: int) -> tuple[Run, ...]:
    """Measure one subject alone, or several block by block in turns, in a seeded random order.

    Args:
        subjects: What to open, each in a fresh process at each restart.
        images: .npy file with the input of every inference.
        plan: How much.
        seed: Of the order within each round of blocks.

    Raises:
        WorkerError: A process failed. All of them are gone then.
    """
    order = np.random.default_rng(seed)
    first, *more = (_measure_once(subjects, images, plan, order) for _ in range(plan.restarts))
    for later in more:
        first = tuple(_joined(run, other) for run, other in zip(first, later, strict=True))
    return first


def _joined(run: Run, later: Run) -> Run:
    """A run, with the blocks of a later process of the same subject."""
    return replace(
        run,
        blocks_ns=run.blocks_ns + later.blocks_ns,
        restart_counts=run.restart_counts + later.restart_counts,
        interference=run.interference.joined(later.interference),
        gpu=run.gpu + later.gpu,
        device_times=run.device_times + later.device_times,
    )


def _measure_once(
    subjects: Sequence[Open], images: Path, plan: Plan, order: np.random.Generator
) -> tuple[Run, ...]:
    """A fresh process for each subject, and their blocks in turns."""
    with ExitStack() as stack:
        processes: list[WorkerProcess] = []
        starts: list[Run] = []
        for subject in subjects:
            process = stack.enter_context(WorkerProcess(command_for(subject.runner, subject.device)))
            starts.append(_start(process, subject, images, plan))
            process.pause()
            processes.append(process)
        blocks: list[list[tuple[int, ...]]] = [[] for _ in subjects]
        interference = [Interference() for _ in subjects]
        gpu: list[tuple[GpuMoment, ...]] = [() for _ in subjects]
        for _ in range(plan.pairs):
            for i in order.permutation(len(processes)):
                before = cpu_ticks(processes[i].pid)
                with processes[i].running():
                    found = processes[i].ask(Block(plan.settle, plan.block), Samples)
                interference[i] = interference[i].plus(before, cpu_ticks(processes[i].pid))
                blocks[i].append(found.samples_ns)
                gpu[i] += found.gpu
        runs = [
            replace(start, blocks_ns=tuple(found), restart_counts=(len(found),), interference=taken, gpu=seen)
            for start, found, taken, seen in zip(starts, blocks, interference, gpu, strict=True)
        ]
        parts = zip(processes, subjects, runs, strict=True)
        return tuple(_finish(process, subject, run, plan) for process, subject, run in parts)


def _start(process: WorkerProcess, subject: Open, images: Path, plan: Plan) -> Run:
    """What is known of a process before its first block."""
    prepared = process.ask(Prepare(subject.runner, subject.device), Occupied)
    opened = process.ask(subject, Opened)
    first = process.ask(First(str(images)), Timed)
    warm_up = process.ask(Block(_NOTHING, plan.warm_up), Samples)
    return Run(
        opened.load_ns,
        first.duration_ns,
        len(warm_up.samples_ns),
        (),
        (),
        Interference(),
        prepared,
        opened.residence,
        Occupied(opened.residence, prepared.device_used_bytes),
        opened.evidence,
    )


def _finish(process: WorkerProcess, subject: Open, run: Run, plan: Plan) -> Run:
    """With what is asked once all blocks are done, so that no question disturbs them."""
    with process.running():
        occupied = process.ask(Memory(), Occupied)
        if subject.device is Device.CPU:
            return replace(run, occupied=occupied)
        told = process.ask(OnDevice(plan.profiled_runs), ToldByDevice)
    return replace(run, occupied=occupied, device_memory=told.memory, device_times=told.times)
