"""Results to report on: as measured, and with every field filled."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.decisions import ClassAccuracy, Decisions, Flip
from benchmark.measurement import Result, Results
from benchmark.memory import Residence
from benchmark.preflight import Finding, Fitness
from benchmark.profile_summary import profile_of
from benchmark.quantities import Accuracy, Basis, Memory, Speedup, State, Throughput, Verdict
from benchmark.roofline import Bound, Ceilings, GemmRate, Roofline
from edgepress.artifact import Precision
from edgepress.runners.runner import LayerTime

MB = 1_000_000
JPEG_BASE64 = "/9j/2Q=="


@pytest.fixture
def results(measured_tiny: Results) -> Results:
    """As measured, all times believed."""
    valid = Verdict(State.VALID, ())
    rows = (replace(row, verdict=row.verdict and valid) for row in measured_tiny.results)
    return replace(measured_tiny, results=tuple(rows))


@pytest.fixture
def saved(results: Results, tiny_folder: Path) -> Path:
    """`tiny_folder` with `results`."""
    results.save(tiny_folder)
    return tiny_folder


@pytest.fixture
def filled(results: Results) -> Results:
    """Every field has a value: flips, profile, roofline, offline; a runner that nobody knows; doubts."""
    rows = tuple(_filled(row) for row in results.results)
    fp32 = next(row for row in rows if row.artifact == "onnx-fp32" and row.latency is not None)
    foreign = replace(fp32, artifact="foreign-int8", runner="acme", verdict=Verdict(State.INVALID, ("x",)))
    ceilings = Ceilings(
        1,
        (GemmRate(Precision.FP32, 83e9, "numpy", 2048), GemmRate(Precision.INT8, 410e9, "onnxruntime", 1024)),
        21e9,
        18e9,
        33 * MB,
        ("FP16: nothing here multiplies in it",),
    )
    preflight = (
        Finding("load", "0.3 on 2 cores", Fitness.FINE),
        Finding("governor", "powersave", Fitness.DOUBT, "cpupower frequency-set --governor performance"),
    )
    return replace(
        results,
        results=(*rows, foreign),
        environment=replace(results.environment, preflight=preflight, ceilings=ceilings),
        data=replace(results.data, thumbnails={"dog/1.jpg": JPEG_BASE64}),
    )


def _filled(row: Result) -> Result:
    if row.latency is None:
        return row
    layers = tuple(
        LayerTime(f"node{i}", "Conv", "CPUExecutionProvider", row.precision if i else None, 1e4 * (i + 1))
        for i in range(25)
    )
    flips = (Flip("dog/1.jpg", "dog", "dog", "fox", 1.0), Flip("dog/2.jpg", "dog", "fox", "dog", 0.1))
    changed = Decisions((ClassAccuracy("dog", 30, 3, 28),), flips)
    empty, loaded = Residence(50 * MB, 50 * MB, 0), Residence(60 * MB, 60 * MB, 24 * MB)
    return replace(
        row,
        memory=Memory(empty, loaded, Residence(70 * MB, 75 * MB, 24 * MB), 8 * MB),
        offline=tuple(Throughput(b, (1, 2), 100.0 * b, (90.0 * b, 110.0 * b), row.speedup) for b in (1, 4)),
        roofline=Roofline(2 * MB, MB, 1e4, 5e4, 0.5, Bound.MEMORY, "fits into the cache"),
        profile=profile_of(layers, 3),
        decisions=changed if row.artifact == "onnx-int8" else row.decisions,
    )


def accuracy(top1: float | None, p: float | None = None) -> Accuracy:
    """Of 200 pictures."""
    interval = None if top1 is None else (top1 - 0.05, top1 + 0.05)
    return Accuracy(
        images=200,
        top1=top1,
        top5=top1,
        top1_ci95=interval,
        top5_ci95=interval,
        agreement=0.985,
        logit_snr_db=30.0,
        logits_identical=False,
        kl_nats=0.01,
        mcnemar_p=p,
        resolvable=0.03,
        note=None,
    )


@pytest.fixture
def measured_accuracy() -> Accuracy:
    """Top-1 98 %, p = 0.5."""
    return accuracy(0.98, 0.5)


@pytest.fixture
def faster() -> Speedup:
    """2.5 times as fast as onnx-fp32."""
    return Speedup(2.5, (2.4, 2.6), "onnx-fp32", Basis.PAIRED, (2.5,), (1,))
