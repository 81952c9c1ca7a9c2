"""One variant: built and run on the GPU that is here, or else checked as far as that goes without one."""

import logging
import statistics
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from benchmark.protocol import Failure, FailureKind
from benchmark.worker_process import WorkerError
from edgepress.artifact import Precision, Runtime
from edgepress.cli.gpu_check.network import Network, Source
from edgepress.cli.gpu_check.questions import Build, Ran, Run
from edgepress.cli.gpu_check.report import (
    AheadOfTime,
    EngineContent,
    Execution,
    Instead,
    Status,
    Times,
    VariantRow,
)
from edgepress.cli.gpu_check.variants import Tolerance, Variant
from edgepress.engine_card import EngineCard, unlink_with_card
from edgepress.errors import InputError
from edgepress.inspection.inspection_engine import engine_report, inspected_card
from edgepress.inspection.inspection_onnx import inspect_onnx
from edgepress.metrics import Logits
from edgepress.parity.distance import Distance, distance, least_db, unexplained_flips
from edgepress.target import ComputeCapability

logger = logging.getLogger(__name__)

Reply = TypeVar("Reply")

AHEAD_OF_TIME = (ComputeCapability.SM86, ComputeCapability.SM89, ComputeCapability.SM120)
_INSPECTED = (Precision.FP32, Precision.FP16, Precision.INT8)
_BUILD_PATIENCE_S = 3600.0  # TensorRT tries kernels: full VGG16 on a small Jetson takes many minutes
_RUN_PATIENCE_S = 900.0
_WARM_UP_NS, _DURATION_NS, _COUNT = 500_000_000, 2_000_000_000, 50


class Process(Protocol):
    """What answers questions, as `WorkerProcess` does."""

    def ask(self, request: object, reply: type[Reply], patience_s: float = ...) -> Reply:
        """The answer; WorkerError where there is none."""


Start = Callable[[str], AbstractContextManager[Process]]
"""Starts a working process with a Python interpreter."""


@dataclass(frozen=True)
class Absence:
    """Why nothing runs on a GPU here.

    Attributes:
        reason: In words.
        is_fault: Whether there is a GPU all the same, so that something can be done about it.
    """

    reason: str
    is_fault: bool


@dataclass(frozen=True)
class Gpu:
    """What runs engines here.

    Attributes:
        runner: Name of the runner.
        python: Interpreter of its environment.
    """

    runner: str
    python: str


@dataclass(frozen=True)
class Bench:
    """What all variants are checked with.

    Attributes:
        network: That is checked.
        start: Starts a process.
        scratch: A folder of the check's own.
        gpu: What runs engines here, or why nothing does.
    """

    network: Network
    start: Start
    scratch: Path
    gpu: Gpu | Absence


def blank_row(network: Network, variant: Variant, reason: str) -> VariantRow:
    """A variant that nothing is known of yet, with the reason why."""
    return VariantRow(
        variant.name,
        variant.artifact,
        network.sources[variant.artifact].sha256,
        variant.precision,
        variant.tf32,
        variant.tolerance.least_db,
        variant.tolerance.reason,
        Status.NOT_RUN,
        reason,
        (),
        None,
        None,
        None,
    )


def row_of(bench: Bench, variant: Variant, fp32_compute_ns: float | None) -> VariantRow:
    """Check a variant.

    Args:
        bench: What it is checked with.
        variant: Which.
        fp32_compute_ns: Median compute time of the FP32 engine; None where that did not run.
    """
    if isinstance(bench.gpu, Absence):
        return _checked_without_gpu(bench, variant, bench.gpu)
    plan = bench.scratch / f"{variant.name}.plan"
    try:
        return _run_on_gpu(bench, bench.gpu, variant, plan, fp32_compute_ns)
    finally:
        unlink_with_card(plan)  # full VGG16 in six variants would take 1.7 GB


def _run_on_gpu(
    bench: Bench, gpu: Gpu, variant: Variant, plan: Path, fp32_compute_ns: float | None
) -> VariantRow:
    source = bench.network.sources[variant.artifact]
    row = blank_row(bench.network, variant, "")
    scores = bench.scratch / f"{variant.name}.npy"
    try:
        with bench.start(gpu.python) as process:
            build = Build(str(source.path), str(plan), gpu.runner, variant.tf32, None, source.calibration)
            row = replace(row, engine=process.ask(build, EngineCard, _BUILD_PATIENCE_S))
            ran = process.ask(_run(bench, gpu, source, plan, scores), Ran, _RUN_PATIENCE_S)
    except WorkerError as error:
        if error.failure.kind is FailureKind.MISSING:
            without = _checked_without_gpu(bench, variant, Absence(str(error), is_fault=True))
            return replace(without, engine=row.engine)
        return replace(row, status=Status.FAILED, reason=None, findings=(str(error),))
    return _judged(bench.network, variant, row, ran, np.load(scores), fp32_compute_ns)


def _run(bench: Bench, gpu: Gpu, source: Source, plan: Path, scores: Path) -> Run:
    inputs = bench.scratch / "inputs.npy"
    if not inputs.exists():
        np.save(inputs, bench.network.inputs)
    batch = source.interface.batch or 1
    return Run(str(plan), gpu.runner, str(inputs), batch, str(scores), _WARM_UP_NS, _DURATION_NS, _COUNT)


def _judged(
    network: Network,
    variant: Variant,
    row: VariantRow,
    ran: Ran,
    scores: Logits,
    fp32_compute_ns: float | None,
) -> VariantRow:
    """The row of a variant that ran."""
    source, reference = network.sources[variant.artifact], network.reference
    logits = network.logits(source, scores)[: len(reference)]
    findings = findings_of(reference, logits, variant.tolerance)
    emulated = source.cpu.logits if variant.recipe is not None else None
    compute = _times(ran.compute_ns)
    engine, content = inspected(row.engine, source.path, ran.inspector)
    execution = Execution(
        evidence=ran.evidence,
        load_ns=ran.load_ns,
        end_to_end=_times(ran.end_to_end_ns),
        upload=_times(ran.upload_ns),
        compute=compute,
        download=_times(ran.download_ns),
        speedup=fp32_compute_ns / compute.median_ns if fp32_compute_ns and compute.median_ns else None,
        activation_bytes=ran.activation_bytes,
        taken_bytes=ran.taken_bytes,
        before=ran.before,
        after=ran.after,
        layers=ran.layers,
        content=content,
        from_fp32=_distance(reference, logits),
        from_emulation=_distance(emulated, logits),
    )
    status = Status.FAILED if findings else Status.PASSED
    return replace(row, status=status, reason=None, findings=findings, engine=engine, execution=execution)


def inspected(
    card: EngineCard | None, source: Path, inspector: str | None
) -> tuple[EngineCard | None, EngineContent | None]:
    """What an inspector's report says of an engine, and the card, whose proof it is if it tells everything.

    Args:
        card: Of the engine.
        source: ONNX file that it was built from.
        inspector: The report; None where there is none.
    """
    if card is None or inspector is None:
        return card, None
    try:
        report = engine_report(inspector, inspect_onnx(source).layers)
    except InputError as error:
        logger.warning("%s: %s", source.name, error)
        return card, None
    shares = {precision.value: report.mac_share(precision) for precision in _INSPECTED}
    told = {name: share for name, share in shares.items() if share is not None}
    content = EngineContent(told or None, report.unknown, len(report.fused), report.reformats)
    return (inspected_card(card, report) if told else card), content


def _times(samples_ns: tuple[int, ...]) -> Times:
    return Times(float(statistics.median(samples_ns)), samples_ns)


def _distance(reference: Logits | None, logits: Logits) -> Distance | None:
    return None if reference is None or _unfit(reference, logits) else distance(reference, logits)


def _unfit(reference: Logits, logits: Logits) -> str | None:
    """Why logits cannot be compared, or None."""
    if logits.shape != reference.shape:
        return f"logits of shape {reference.shape} were wanted, got {logits.shape}"
    broken = int(np.count_nonzero(~np.isfinite(logits).all(axis=1)))
    return f"NaN or infinity among the logits of {broken} of {len(logits)} pictures" if broken else None


def findings_of(reference: Logits, logits: Logits, tolerance: Tolerance) -> tuple[str, ...]:
    """What of some logits is outside of a tolerance: the noise, and top classes that it does not explain."""
    if unfit := _unfit(reference, logits):
        return (unfit,)
    found = distance(reference, logits)
    findings = []
    wanted_db = least_db(reference, tolerance.least_db)
    if found.snr_db is not None and found.snr_db < wanted_db:
        findings.append(f"SNR {found.snr_db:.1f} dB against FP32 on the CPU, wanted {wanted_db:.0f} dB")
    if flips := len(unexplained_flips(reference, logits, wanted_db)):
        findings.append(
            f"another top class for {flips} of {len(reference)} pictures, which noise within the tolerance "
            "does not explain"
        )
    return tuple(findings)


def _checked_without_gpu(bench: Bench, variant: Variant, absence: Absence) -> VariantRow:
    """What can be known of a variant where nothing runs."""
    network, source = bench.network, bench.network.sources[variant.artifact]
    findings = [absence.reason] if absence.is_fault else []
    plans: list[AheadOfTime] = []
    with bench.start(sys.executable) as process:
        for capability in AHEAD_OF_TIME:
            plan = bench.scratch / f"{variant.name}-{capability.value}.plan"
            made = _ahead_of_time(process, source, variant, plan, capability)
            unlink_with_card(plan)
            if isinstance(made, Failure):
                plans.append(AheadOfTime(capability, None, made.message))
                if made.kind is not FailureKind.MISSING:
                    findings.append(f"no plan for {capability.value}: {made.message}")
            else:
                plans.append(AheadOfTime(capability, made, None))
    if source.cpu.logits is not None:
        found = findings_of(network.reference, source.cpu.logits, variant.tolerance)
        findings += [f"{source.cpu.runner}: {finding}" for finding in found]
    instead = Instead(tuple(plans), network.emulation(source))
    row = blank_row(network, variant, absence.reason)
    return replace(row, findings=tuple(findings), instead=instead)


def _ahead_of_time(
    process: Process, source: Source, variant: Variant, plan: Path, capability: ComputeCapability
) -> EngineCard | Failure:
    runner = Runtime.TENSORRT_RTX.value
    try:
        return process.ask(
            Build(str(source.path), str(plan), runner, variant.tf32, capability, source.calibration),
            EngineCard,
            _BUILD_PATIENCE_S,
        )
    except WorkerError as error:
        return error.failure
