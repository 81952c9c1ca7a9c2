"""How far a version of the reference model is from FP32 on photos, in ten views each."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.artifact import Artifact, Device, Runtime
from edgepress.interface import PLAIN, Interface
from edgepress.manifest import Manifest
from edgepress.metrics import Logits, agreement, logit_snr_db, mcnemar_p, top_k_accuracy
from edgepress.preprocessing import Preprocessing
from edgepress.runners.runner import runner_for
from tests.performance.reference_photos import photos_of

Infer = Callable[[NDArray[Any]], NDArray[np.float32]]


@dataclass(frozen=True)
class Judged:
    """What a version says of all views.

    Attributes:
        logits: (views, classes).
        labels: (views,).
    """

    logits: Logits
    labels: NDArray[np.int64]

    @property
    def top1(self) -> float:
        """Share in [0, 1] of right answers."""
        return top_k_accuracy(self.logits, self.labels, 1)

    @property
    def right(self) -> NDArray[np.bool_]:
        """(views,) whether the answer is right."""
        return np.asarray(self.logits.argmax(axis=1) == self.labels)


@dataclass(frozen=True)
class Loss:
    """Of a version against FP32.

    Attributes:
        top1: Of the version, in [0, 1].
        points: Top-1 lost against FP32, in points.
        mcnemar_p: That top-1 differs by chance. Views of one photo are alike, so it is too small rather than
            too large.
        agreement: Share in [0, 1] of views with FP32's answer.
        snr_db: Of the logits.
    """

    top1: float
    points: float
    mcnemar_p: float
    agreement: float
    snr_db: float


def loss(fp32: Judged, version: Judged) -> Loss:
    """Compare a version with FP32 on the same views."""
    return Loss(
        version.top1,
        100 * (fp32.top1 - version.top1),
        mcnemar_p(fp32.right, version.right),
        agreement(fp32.logits, version.logits),
        logit_snr_db(fp32.logits, version.logits),
    )


def judged(infer: Infer, folder: Path, preprocessing: Preprocessing, limit: int | None = None) -> Judged:
    """Ask a version about all views.

    Args:
        infer: (N, height, width, 3) preprocessed float32 → (N, classes) logits.
        folder: Evaluation photos, class/*.jpg.
        preprocessing: Of the model.
        limit: At most so many photos; None for all.
    """
    logits, labels = [], []
    for photo in photos_of(folder, preprocessing, limit):
        logits.append(infer(preprocessing.normalize(photo.views)))
        labels.append(np.full(len(photo.views), photo.label))
    return Judged(np.concatenate(logits), np.concatenate(labels))


def judged_by(
    runtime: str,
    path: Path,
    folder: Path,
    preprocessing: Preprocessing,
    limit: int | None = None,
    interface: Interface = PLAIN,
) -> Judged:
    """The same for a file and the name of the runner that opens it, on the CPU."""
    with runner_for(runtime, Device.CPU)(path, 0) as runner:

        def infer(inputs: NDArray[Any]) -> NDArray[np.float32]:
            return interface.run(runner.infer, inputs)

        return judged(infer, folder, preprocessing, limit)


def judged_artifact(manifest: Manifest, artifact: Artifact, folder: Path, limit: int | None = None) -> Judged:
    """The same for an artifact, with a runtime that it was made for and that runs on a CPU."""
    runtimes = (Runtime.ONNXRUNTIME, Runtime.LITERT, Runtime.ONNXRUNTIME_EMULATION)
    runtime = next(runtime for runtime in runtimes if runtime in artifact.runtimes)
    preprocessing, path = manifest.model.preprocessing, manifest.path_of(artifact)
    return judged_by(runtime, path, folder, preprocessing, limit, artifact.interface)
