"""What is known before anything is measured: the request, checked against the folder and the station."""

from dataclasses import dataclass
from pathlib import Path

from benchmark.plan import FULL, QUICK, Plan
from benchmark.rows import Row, rows_of
from benchmark.station import Station, Surroundings
from edgepress.artifact import Artifact, Device
from edgepress.errors import InputError
from edgepress.evaluation_data import Evaluation, data_for, evaluation_of
from edgepress.manifest import Manifest
from edgepress.runners.runner import Purpose, runner_kinds

_INPUT_BYTES = 3 * 4  # a pixel: three channels in float32
_LEAST_ROOM = 4  # the inputs are held twice, and there are the layers


@dataclass(frozen=True)
class BenchmarkRequest:
    """What to measure.

    Attributes:
        folder: With a manifest.json; results.json is written there.
        device: Where to measure.
        variants: Ids of artifacts; None for all.
        data: DATA to evaluate; None for the embedded model's own.
        quick: Fewer samples: for a look, not for a decision.
        threads: Of every runtime; None for all cores.
        limit: Evaluate at most so many pictures.
        seed: Of the order of blocks, the draw of pictures and the bootstrap.
        again: Measure also if the results that are there are of the same things: an unstable row may be
            stable on a quieter machine.
        runners: Only rows of these, and every artifact that they can load; None for the runners that the
            artifacts were made for.
        offline: Batches of the offline scenario; empty without it.
        host: Measure on this device over SSH ("user@device"); None for this machine.
        host_python: Name or path of Python there.
    """

    folder: Path
    device: Device = Device.CPU
    variants: tuple[str, ...] | None = None
    data: str | None = None
    quick: bool = False
    threads: int | None = None
    limit: int | None = None
    seed: int = 0
    again: bool = False
    runners: tuple[str, ...] | None = None
    offline: tuple[int, ...] = ()
    host: str | None = None
    host_python: str = "python3"


@dataclass(frozen=True)
class Preparation:
    """What is known before anything is measured.

    Attributes:
        request: As asked for.
        manifest: Of the folder.
        station: Where it is measured.
        around: What is there.
        rows: All of them.
        reference: Whose logits all rows are compared with.
        data: DATA.
        evaluation: Its pictures.
    """

    request: BenchmarkRequest
    manifest: Manifest
    station: Station
    around: Surroundings
    rows: tuple[Row, ...]
    reference: Row
    data: str
    evaluation: Evaluation

    @property
    def plan(self) -> Plan:
        """How much is measured."""
        return QUICK if self.request.quick else FULL

    @property
    def threads(self) -> int:
        """Of every runtime."""
        return self.request.threads or self.around.cores


def prepared(request: BenchmarkRequest, station: Station) -> Preparation:
    """Check the request against the folder and the station."""
    manifest = Manifest.load(request.folder)
    around = station.surroundings()
    if request.device is Device.CUDA and around.cuda_absence is not None:
        raise InputError(f"--device cuda: no CUDA device ({around.cuda_absence}). Use --device cpu.")
    if request.threads is not None and request.threads > around.cores:
        raise InputError(
            f"--threads {request.threads}: this process may use {around.cores} cores. Give at most so many."
        )
    _require_room(manifest, around, request.offline)
    rows = rows_of(manifest, request.variants, request.runners)
    data = data_for(manifest.model.name, request.data)
    evaluation = evaluation_of(manifest, data, request.limit, request.seed)
    return Preparation(
        request, manifest, station, around, rows, _reference_row(manifest, around), data, evaluation
    )


def _require_room(manifest: Manifest, around: Surroundings, batches: tuple[int, ...]) -> None:
    """Refuse a batch whose inputs alone would fill the memory."""
    preprocessing, memory = manifest.model.preprocessing, around.machine["memory_bytes"]
    needed = max(batches, default=0) * preprocessing.height * preprocessing.width * _INPUT_BYTES
    if memory is not None and needed > memory // _LEAST_ROOM:
        raise InputError(
            f"--offline {max(batches)}: the pictures of one batch are {needed / 1e9:.1f} GB, and there are "
            f"{memory / 1e9:.1f} GB of memory. Give a smaller batch."
        )


def used_artifacts(run: Preparation) -> tuple[Artifact, ...]:
    """Every artifact that is opened, once, in the manifest's order."""
    baselines = [run.manifest.baseline(row.artifact.format) for row in run.rows]
    opened = (*(row.artifact for row in run.rows), *baselines, run.reference.artifact)
    used = {artifact.id for artifact in opened if artifact}
    return tuple(artifact for artifact in run.manifest.artifacts if artifact.id in used)


def _reference_row(manifest: Manifest, around: Surroundings) -> Row:
    """The first FP32 artifact whose runtime is installed."""
    for kind in runner_kinds():
        is_candidate = kind.device is Device.CPU and kind.purpose is Purpose.LATENCY_AND_ACCURACY
        for file_format in kind.formats if is_candidate and kind.name in around.runners else ():
            artifact = manifest.baseline(file_format)
            if artifact is not None and kind.is_made_for(artifact):
                return Row(artifact, kind.name, kind.device)
    raise InputError(
        f"{manifest.folder} has no FP32 artifact that a runtime here can run, so there is nothing to compare "
        "with. Export one (edgepress export MODEL --format onnx), or install its runtime (make setup)."
    )
