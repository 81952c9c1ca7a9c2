"""One picture through a written file, against Keras' own logits. A file that fails is not kept."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgepress.artifact import Device, Runtime
from edgepress.errors import ProofError
from edgepress.interface import Activation, Interface, Scores
from edgepress.metrics import Logits
from edgepress.parity import Parity, floor_db, require_parity
from edgepress.parity.distance import through
from edgepress.preprocessing import Preprocessing
from edgepress.runners.runner import NamedOutputs, runner_for
from export.further_outputs import Array, require_further_outputs

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Promise:
    """What a file must keep.

    Attributes:
        interface: Of the file.
        activation: From the network's logits to probabilities.
        preprocessing: From pictures to what the network takes.
        output_names: Of the file, the head first.
    """

    interface: Interface
    activation: Activation
    preprocessing: Preprocessing
    output_names: tuple[str, ...] = (Scores.LOGITS.value,)


def smoke_check(
    path: Path,
    runtime: Runtime,
    promise: Promise,
    pictures: NDArray[np.uint8],
    reference: Logits,
    others: tuple[Array, ...] = (),
) -> Parity:
    """Run a written file on the CPU and compare its logits, and whatever else it gives, with Keras'.

    Args:
        path: File or SavedModel folder.
        runtime: The library that runs it.
        promise: What the file must keep.
        pictures: (N, height, width, 3) uint8 RGB.
        reference: Keras' logits for them, (N, classes).
        others: Keras' further outputs for them, in the order of `promise.output_names`.

    Raises:
        ProofError: An output is missing, or differs by more than floating-point noise.
    """
    interface = promise.interface
    images = interface.feed(pictures, promise.preprocessing)
    head, *names = promise.output_names
    with runner_for(runtime, Device.CPU)(path, 0) as runner:
        if not isinstance(runner, NamedOutputs):
            raise TypeError(f"the runner {runtime.value} cannot prove an export: it gives no outputs by name")
        found = _outputs(runner, interface, images)
    if head not in found:
        raise ProofError(
            f"{path.name}: an output {head!r} was wanted, got {', '.join(found)}. The conversion is wrong; "
            "the file is not kept."
        )
    logits = interface.logits(found[head], promise.activation)
    wanted = through(reference, interface, promise.activation)
    parity = require_parity(wanted, logits, path.name, floor_db(wanted))
    require_further_outputs(dict(zip(names, others, strict=True)), found, path.name)
    return parity


def _outputs(runner: NamedOutputs, interface: Interface, images: Array) -> dict[str, Array]:
    """All outputs for any number of images, in blocks of the fixed batch where there is one."""
    size = interface.batch or len(images)
    blocks = [images[start : start + size] for start in range(0, len(images), size)]
    found = [
        {name: value[: len(block)] for name, value in runner.outputs(interface.filled(block)).items()}
        for block in blocks
    ]
    return {name: np.concatenate([outputs[name] for outputs in found]) for name in found[0]}
