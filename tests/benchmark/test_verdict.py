from dataclasses import replace

import pytest

from benchmark.measurement import Result, Results, Status
from benchmark.quantities import Basis, GpuConduct, Latency, Speedup, State
from benchmark.verdict import verdict_of
from edgepress.artifact import Precision

STEADY = Speedup(2.0, (1.98, 2.02), "onnx-fp32", Basis.PAIRED, (2.0,), (1,))


@pytest.fixture
def row(measured_tiny: Results) -> Result:
    """A row that ran, with times that nothing speaks against."""
    found = next(row for row in measured_tiny.results if row.status is Status.OK)
    return replace(found, speedup=STEADY, latency=latency(found, [100] * 8))


def latency(row: Result, medians_ns: list[int], others_cpu: float | None = 0.01) -> Latency:
    """Blocks of four equal samples each."""
    assert row.latency is not None
    return replace(
        row.latency,
        samples_ns=tuple(ns for ns in medians_ns for _ in range(4)),
        block_counts=(4,) * len(medians_ns),
        median_ci95_ns=(99.0, 101.0),
        others_cpu=others_cpu,
    )


def test_verdict_of_a_steady_row_is_valid(row: Result) -> None:
    found = verdict_of(row)
    assert found is not None
    assert (found.state, found.reasons) == (State.VALID, ())


@pytest.mark.parametrize(
    ("medians_ns", "others_cpu", "reason"),
    [
        ([100] * 8, 0.3, "other processes took 30% of the CPU meanwhile"),
        ([100] * 6 + [120] * 2, 0.0, "became 20% slower while it was measured"),
        ([130, 130] + [100] * 6, 0.0, "became 23% faster while it was measured"),
    ],
)
def test_verdict_of_a_disturbed_row_is_unstable(
    row: Result, medians_ns: list[int], others_cpu: float, reason: str
) -> None:
    found = verdict_of(replace(row, latency=latency(row, medians_ns, others_cpu)))
    assert found is not None
    assert found.state is State.UNSTABLE
    assert len(found.reasons) == 1
    assert found.reasons[0].startswith(reason)


def test_verdict_of_a_wide_interval_is_unstable(row: Result) -> None:
    found = verdict_of(replace(row, speedup=replace(STEADY, ci95=(1.8, 2.1))))
    assert found is not None
    assert found.state is State.UNSTABLE


def test_verdict_does_not_hold_an_unknown_load_against_a_row(row: Result) -> None:
    found = verdict_of(replace(row, latency=latency(row, [100] * 8, None)))
    assert found is not None
    assert found.state is State.VALID


def test_verdict_of_too_few_samples_is_invalid(row: Result) -> None:
    assert row.latency is not None
    few = replace(row.latency, samples_ns=(1, 2, 3), block_counts=(3,), median_ci95_ns=None)
    found = verdict_of(replace(row, latency=few))
    assert found is not None
    assert (found.state, found.reasons) == (State.INVALID, ("3 samples are too few for an interval",))


def test_verdict_of_another_precision_than_the_manifests_is_invalid_with_or_without_times(
    row: Result,
) -> None:
    lie = replace(row, promised=Precision.INT8)
    for found in (verdict_of(lie), verdict_of(replace(lie, latency=None))):
        assert found is not None
        assert (found.state, found.reasons) == (
            State.INVALID,
            ("the manifest says int8, and its MACs are 100% fp32",),
        )


def test_a_row_without_times_has_no_verdict(row: Result) -> None:
    assert verdict_of(replace(row, latency=None)) is None
    assert verdict_of(replace(row, status=Status.SKIPPED)) is None


@pytest.mark.parametrize(
    ("conduct", "reason"),
    [
        (GpuConduct((1410, 1410, 1395), (5001,) * 3, (30_000, 41_000), ()), None),
        (GpuConduct((), (), (), ()), None),
        (
            GpuConduct((1410, 1200, 1410), (5001,) * 3, (), ()),
            "the GPU's clock moved between 1200 and 1410 MHz: lock it (nvidia-smi -lgc, on a Jetson "
            "jetson_clocks) and measure --again",
        ),
        (
            GpuConduct((1410,), (5001, 810), (), ()),
            "the GPU's memory clock moved between 810 and 5001 MHz: lock it (nvidia-smi -lmc, on a Jetson "
            "jetson_clocks) and measure --again",
        ),
        (
            GpuConduct((1410,), (), (), ("power brake",)),
            "the GPU was slowed down meanwhile: power brake",
        ),
    ],
)
def test_verdict_of_a_row_whose_gpu_did_not_keep_its_clocks_is_unstable(
    row: Result, conduct: GpuConduct, reason: str | None
) -> None:
    found = verdict_of(replace(row, gpu=conduct))
    assert found is not None
    assert found.reasons == (() if reason is None else (reason,))
    assert found.state is (State.VALID if reason is None else State.UNSTABLE)
