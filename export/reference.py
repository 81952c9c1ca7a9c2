"""What Keras says of a model, once: its card, its answers to the golden pictures, its further outputs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgepress.errors import InputError
from edgepress.manifest import ModelCard
from edgepress.models.source import ModelSource
from edgepress.models.weights import fingerprint_of
from edgepress.parity.golden import GoldenSet
from edgepress.parity.golden_pictures import golden_pictures
from edgepress.preprocessing import Preprocessing
from edgepress.progress import Progress
from export.further_outputs import further_outputs
from export.golden import golden_set
from export.logits import logits_model

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Reference:
    """What every file must reproduce: the network's answers to the golden pictures.

    Attributes:
        card: Of the model.
        golden: Pictures with the network's logits and layers.
        others: Its further outputs for the first picture.
        provenance: What its making showed.
    """

    card: ModelCard
    golden: GoldenSet
    others: tuple[NDArray[Any], ...]
    provenance: dict[str, Any]


def reference_of(
    source: ModelSource,
    labels_for: Callable[[int], tuple[str, ...] | None],
    golden_data: str | None,
    progress: Progress,
) -> "tuple[keras.Model, Reference]":
    """Load the model and ask Keras.

    Args:
        source: The model.
        labels_for: Gives the class names for a number of classes.
        golden_data: DATA that golden pictures are drawn from; None for what ships with the toolkit.
        progress: Told about training epochs.

    Returns:
        The network that gives logits, and what it answered. The network is not held by the latter.

    Raises:
        InputError: The model cannot be used.
    """
    loaded = source.load(progress)
    found = logits_model(loaded.model)
    network = found.network
    _, height, width, _ = network.inputs[0].shape
    class_count = int(network.outputs[0].shape[1])
    preprocessing = Preprocessing(source.mode, height, width)
    pictures, kinds = golden_pictures(golden_data, preprocessing)
    card = ModelCard(
        source.name,
        source.weights,
        fingerprint_of(network),
        int(network.count_params()),
        class_count,
        labels_for(class_count),
        preprocessing,
        found.activation,
        source.trained_on,
    )
    golden = golden_set(network, preprocessing, pictures, kinds)
    others = further_outputs(network, preprocessing.normalize(golden.pictures[:1]))
    _require_numbers(network, golden.logits, *others)
    return network, Reference(card, golden, others, loaded.findings)


def _require_numbers(network: "keras.Model", *outputs: NDArray[Any]) -> None:
    """Check that Keras itself gives numbers, by which files can be judged."""
    if not all(np.isfinite(output).all() for output in outputs):
        raise InputError(
            f"{network.name} gives NaN or infinity in Keras already, for one of a few pictures, so no file "
            "can be proven. Check --preprocess, and the weights of the model."
        )
