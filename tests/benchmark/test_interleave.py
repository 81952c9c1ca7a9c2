from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark import interleave
from benchmark.interleave import measure
from benchmark.plan import FULL, QUICK, Plan
from benchmark.protocol import Block, Open
from benchmark.worker_process import WorkerError, WorkerProcess
from edgepress.artifact import Device, Runtime


@pytest.fixture
def subjects(tiny_folder: Path) -> list[Open]:
    return [
        Open(Runtime.ONNXRUNTIME, Device.CPU, str(tiny_folder / f"{name}.onnx"), 1)
        for name in ("onnx-int8", "onnx-fp32")
    ]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    np.save(tmp_path / "input.npy", np.zeros((1, 8, 8, 3), np.float32))
    return tmp_path / "input.npy"


class Watched(WorkerProcess):
    """Notes which process was asked for each block, and whether all others were stopped."""

    members: list["Watched"]
    order: list[int]

    def __enter__(self) -> "Watched":
        super().__enter__()
        self.members.append(self)
        return self

    def ask(self, request: Any, reply: Any, patience_s: float = 60) -> Any:
        pair = self.members[-2:]
        if isinstance(request, Block) and len(self.members) % 2 == 0 and self in pair:
            others = [member for member in pair if member is not self]
            states = [Path(f"/proc/{m.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] for m in others]
            assert states == ["T"]
            self.order.append(self.members.index(self))
        return super().ask(request, reply, patience_s)


def test_measure_alternates_and_stops_the_idle_process(
    subjects: list[Open], images: Path, tiny_plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    Watched.members, Watched.order = [], []
    monkeypatch.setattr(interleave, "WorkerProcess", Watched)
    runs = measure(subjects, images, tiny_plan, seed=0)
    assert len(runs) == 2
    for run in runs:
        assert run.restart_counts == (tiny_plan.pairs,) * tiny_plan.restarts
        assert len(run.blocks_ns) == tiny_plan.pairs * tiny_plan.restarts
        assert all(len(block) >= tiny_plan.block.count for block in run.blocks_ns)
        assert run.warm_up_count >= tiny_plan.warm_up.count
        assert run.load_ns > 0
        assert run.occupied.residence.peak_rss_bytes
        assert run.loaded.rss_bytes
    size = 1 + 2 * tiny_plan.pairs
    restarts = [Watched.order[i : i + size] for i in range(0, len(Watched.order), size)]
    assert len(restarts) == tiny_plan.restarts
    assert len({member.pid for member in Watched.members}) == 2 * tiny_plan.restarts
    for number, (warm_up, *blocks) in enumerate(restarts):
        fresh = [2 * number, 2 * number + 1]
        assert warm_up == fresh[1]
        assert [sorted(blocks[i : i + 2]) for i in range(0, len(blocks), 2)] == [fresh] * tiny_plan.pairs


def test_measure_alone(subjects: list[Open], images: Path, tiny_plan: Plan) -> None:
    (run,) = measure(subjects[:1], images, tiny_plan, seed=0)
    assert len(run.blocks_ns) == tiny_plan.pairs * tiny_plan.restarts
    assert run.evidence == "CPUExecutionProvider"


def test_measure_leaves_no_process_when_one_fails(
    subjects: list[Open], images: Path, tiny_plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Watched.members, Watched.order = [], []
    monkeypatch.setattr(interleave, "WorkerProcess", Watched)
    broken = Open(Runtime.ONNXRUNTIME, Device.CPU, str(tmp_path / "none.onnx"), 1)
    with pytest.raises(WorkerError, match="cannot load"):
        measure([subjects[0], broken], images, tiny_plan, seed=0)
    assert len(Watched.members) == 2
    assert not any(Path(f"/proc/{member.pid}").exists() for member in Watched.members)


def test_full_plan_is_the_protocol() -> None:
    """Warm-up of 0.2 s and 10 runs, steady state of 10 s and the 64 samples of p90, several processes."""
    blocks = FULL.pairs * FULL.restarts
    assert blocks * FULL.block.count >= 64
    assert blocks * FULL.block.duration_ns >= 10_000_000_000
    assert FULL.restarts >= 8
    assert (FULL.warm_up.duration_ns, FULL.warm_up.count) == (200_000_000, 10)
    assert QUICK.pairs * QUICK.restarts >= 5
