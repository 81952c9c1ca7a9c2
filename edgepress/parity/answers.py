"""The logits that an artifact gives for the golden pictures, here."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.artifact import Artifact, Device, Format
from edgepress.errors import InputError, MissingDeviceError, MissingRuntimeError
from edgepress.interface import Interface
from edgepress.manifest import Manifest
from edgepress.metrics import Logits
from edgepress.parity.layers_of_onnx import layers_of_onnx
from edgepress.parity.layers_of_saved_model import layers_of_saved_model
from edgepress.parity.layers_of_tflite import layers_of_tflite
from edgepress.preprocessing import Preprocessing
from edgepress.runners.runner import RunnerKind, runner_kinds

Layers = dict[str, NDArray[np.float32]]

LAYERS_OF = {
    Format.SAVED_MODEL: layers_of_saved_model,
    Format.ONNX: layers_of_onnx,
    Format.TFLITE: layers_of_tflite,
}


@dataclass(frozen=True)
class Answers:
    """What came of asking an artifact.

    Attributes:
        runner: What ran it; None where nothing can.
        logits: (N, classes); None if it was not run, or failed.
        absence: Why it was not run here; None if it was.
        failure: Why it gives no logits although it could be run; else None.
    """

    runner: str | None
    logits: Logits | None = None
    absence: str | None = None
    failure: str | None = None


def answers_of(artifact: Artifact, manifest: Manifest, pictures: NDArray[np.uint8]) -> Answers:
    """Run an artifact on the CPU, with the first runner that it was made for.

    Args:
        artifact: Its file is whole.
        manifest: That names it.
        pictures: (N, height, width, 3) uint8 RGB.
    """
    kind = _runner_of(artifact)
    if kind is None:
        names = " or ".join(runtime.value for runtime in artifact.runtimes)
        return Answers(None, absence=f"made for {names}, which does not run on this machine's CPU")
    try:
        with kind.open(manifest.path_of(artifact), 0) as runner:
            found = [
                runner.infer(feed)
                for feed in feeds_of(artifact.interface, manifest.model.preprocessing, pictures)
            ]
    except (MissingRuntimeError, MissingDeviceError) as error:
        return Answers(kind.name, absence=str(error))
    except InputError as error:
        return Answers(kind.name, failure=str(error))
    scores = np.concatenate(found)[: len(pictures)]
    return Answers(kind.name, artifact.interface.logits(scores, manifest.model.activation))


def layers_of(
    artifact: Artifact, manifest: Manifest, pictures: NDArray[np.uint8], layers: frozenset[str]
) -> Iterator[Layers]:
    """What each layer of an artifact gives, picture by picture; of a fixed batch, for the first one in it.

    Raises:
        MissingRuntimeError: See `LAYERS_OF`.
        InputError: See `LAYERS_OF`.
    """
    interface, preprocessing = artifact.interface, manifest.model.preprocessing
    feeds = (feed for picture in pictures for feed in feeds_of(interface, preprocessing, picture[np.newaxis]))
    for found in LAYERS_OF[artifact.format](manifest.path_of(artifact), layers, feeds):
        yield {name: values[:1] for name, values in found.items()}


def _runner_of(artifact: Artifact) -> RunnerKind | None:
    fitting = {
        kind.name: kind for kind in runner_kinds() if kind.device is Device.CPU and kind.is_made_for(artifact)
    }
    return next((fitting[name.value] for name in artifact.runtimes if name.value in fitting), None)


def feeds_of(
    interface: Interface, preprocessing: Preprocessing, pictures: NDArray[np.uint8]
) -> Iterator[NDArray[Any]]:
    """Inputs of one batch each (1 where it is free); the last picture fills up a batch that is not full."""
    batch = interface.batch or 1
    for start in range(0, len(pictures), batch):
        chosen = np.minimum(np.arange(start, start + batch), len(pictures) - 1)
        yield interface.feed(pictures[chosen], preprocessing)
