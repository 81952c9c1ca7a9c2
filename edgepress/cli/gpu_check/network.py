"""The network that is checked: its ONNX variants, its golden pictures, and what the CPU makes of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgepress.artifact import Artifact, Format
from edgepress.cli.gpu_check.report import Emulation, NetworkFacts
from edgepress.cli.gpu_check.variants import VARIANTS
from edgepress.errors import ProofError
from edgepress.interface import Interface
from edgepress.manifest import Manifest
from edgepress.metrics import Logits
from edgepress.parity.answers import Answers, answers_of, feeds_of
from edgepress.parity.distance import distance
from edgepress.parity.golden import load_golden
from edgepress.progress import Progress
from optimize.recipe import ONNX_FP32

EMBEDDED = "vgg16-digits"
FOLDER = "network"


@dataclass(frozen=True)
class Source:
    """One ONNX file.

    Attributes:
        path: Of the file.
        sha256: Of its content.
        interface: Of its input and output.
        cpu: Its logits on the CPU for the golden pictures, or why there are none.
        calibration: Fingerprint of the ranges in it; None for one without.
    """

    path: Path
    sha256: str
    interface: Interface
    cpu: Answers
    calibration: str | None = None


@dataclass(frozen=True)
class Network:
    """What is checked.

    Attributes:
        facts: For the report.
        sources: ONNX files by the id of the artifact.
        inputs: Golden pictures with structure as the files take them, one in each row.
        reference: (N, classes) FP32 logits of these, on the CPU.
        manifest: Of the folder.
    """

    facts: NetworkFacts
    sources: Mapping[str, Source]
    inputs: NDArray[np.generic]
    reference: Logits
    manifest: Manifest

    def logits(self, source: Source, scores: NDArray[np.float32]) -> Logits:
        """Logits out of the scores of an engine of a source."""
        return source.interface.logits(scores, self.manifest.model.activation)

    def emulation(self, source: Source) -> Emulation | None:
        """A source on the CPU, for the report; None for FP32, which is what the others are compared with."""
        if source is self.sources[ONNX_FP32]:
            return None
        runner, logits = source.cpu.runner or "none", source.cpu.logits
        if logits is None:
            return Emulation(runner, None, source.cpu.absence or source.cpu.failure)
        return Emulation(runner, distance(self.reference, logits), None)


def prepared_folder(out: Path, model: Path | None, data: str | None, cache: Path, progress: Progress) -> Path:
    """A folder with every ONNX file that engines are built from; what is there already is kept.

    Args:
        out: Of the check; the embedded network goes into a folder in it.
        model: An exported folder, to which the missing files are added; None for the embedded network.
        data: Calibration DATA; None for the model's own.
        cache: Folder for trained weights.
        progress: Told about training and artifacts.

    Raises:
        InputError: No manifest, no ONNX file in it, missing pictures or packages, or no disk.
        ProofError: A file did not prove what its name promises.
    """
    from optimize.stage import OptimizeRequest, optimize_folder

    folder = model or out / FOLDER
    if model is None:
        from export.stage import ExportRequest, export_model

        export_model(ExportRequest(EMBEDDED, folder, cache, formats=(Format.ONNX,)), progress)
    manifest = Manifest.load(folder)
    manifest.get(ONNX_FP32)
    missing = tuple(v.recipe for v in VARIANTS if v.recipe is not None and manifest.find(v.artifact) is None)
    if missing:
        optimize_folder(OptimizeRequest(folder, recipes=missing, data=data), progress)
    return folder


def network_of(folder: Path) -> Network:
    """Read a prepared folder, every byte of it verified, and run its files on the CPU.

    Raises:
        InputError: A file or the golden set is missing, or was changed.
        ProofError: FP32 gives no logits here, so that nothing can be judged.
    """
    manifest = Manifest.load(folder)
    golden = load_golden(folder, manifest.model.golden_sha256)
    pictures = golden.pictures[golden.of_kind(structured=True)]
    artifacts = [manifest.get(name) for name in dict.fromkeys(v.artifact for v in VARIANTS)]
    sources = {artifact.id: _source(manifest, artifact, pictures) for artifact in artifacts}
    fp32 = sources[ONNX_FP32]
    if fp32.cpu.logits is None:
        raise ProofError(
            f"{ONNX_FP32} of {folder} gives no logits on the CPU, and every variant is judged by them: "
            f"{fp32.cpu.absence or fp32.cpu.failure}. Run `edgepress doctor`, or export the model anew."
        )
    feeds = feeds_of(fp32.interface, manifest.model.preprocessing, pictures)
    model = manifest.model
    facts = NetworkFacts(model.name, model.source, model.parameters, len(pictures), fp32.interface.batch or 1)
    return Network(facts, sources, np.concatenate(list(feeds)), fp32.cpu.logits, manifest)


def _source(manifest: Manifest, artifact: Artifact, pictures: NDArray[np.uint8]) -> Source:
    path = manifest.verify(artifact)
    answers = answers_of(artifact, manifest, pictures)
    calibration = artifact.provenance.get("calibration", {}).get("fingerprint")
    return Source(path, artifact.sha256, artifact.interface, answers, calibration)
