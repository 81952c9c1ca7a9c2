"""The golden set of a Keras network: its logits for the golden pictures, and a sketch of each layer."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgepress.errors import InputError
from edgepress.models.keras_file import one_line
from edgepress.models.keras_import import import_keras
from edgepress.parity.golden import GoldenSet, LayerSketch, PictureKind, sketched_positions
from edgepress.preprocessing import Preprocessing
from export.batch_normalization import merged_layers

if TYPE_CHECKING:
    import keras

Told = Callable[[str, Any], None]
"""Takes the name of a layer and its output, (1, …), when it has been computed."""


def golden_set(
    network: "keras.Model",
    preprocessing: Preprocessing,
    pictures: NDArray[np.uint8],
    kinds: tuple[PictureKind, ...],
) -> GoldenSet:
    """Run Keras on each picture alone: no more than two activations are in memory at a time.

    Layers that only move values (Flatten, Reshape, Permute) have no sketch, since the order of values inside
    a file is its own; nor has a layer that a batch normalization follows, since files have both in one.

    Args:
        network: Its first output is the logits. Unchanged.
        preprocessing: Of the network.
        pictures: (N, height, width, 3) uint8 RGB.
        kinds: N of them.

    Raises:
        InputError: Keras itself cannot run the network on a picture.
    """
    import tensorflow as tf

    merged = merged_layers(network)
    positions: dict[str, NDArray[np.int64]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    values: dict[str, list[NDArray[np.float32]]] = {}
    found = []

    def sketch(name: str, output: Any) -> None:
        if name not in positions:
            shapes[name] = tuple(int(side) for side in output.shape[1:])
            positions[name] = sketched_positions(math.prod(shapes[name]), len(positions))
        flat = np.asarray(output, np.float32).reshape(-1)
        values.setdefault(name, []).append(flat[positions[name]])

    with _told(network, sketch):
        for picture in pictures:
            try:
                output = network(preprocessing.normalize(picture[np.newaxis]), training=False)
            except tf.errors.OpError as error:
                raise InputError(
                    f"{network.name} cannot be run on a picture by Keras itself: {one_line(error)} "
                    "Build the model of layers that compute on float32, and save it anew."
                ) from error
            found.append(np.asarray(import_keras().tree.flatten(output)[0], np.float32))
    hidden = set(merged.values())
    layers = [
        LayerSketch(name, merged.get(name, ""), shapes[name], positions[name], np.stack(seen))
        for name, seen in values.items()
        if name not in hidden and len(seen) == len(pictures)  # a layer that is used twice has two answers
    ]
    return GoldenSet(pictures, kinds, np.concatenate(found), tuple(layers))


@contextlib.contextmanager
def _told(network: "keras.Model", tell: Told) -> Iterator[None]:
    """Have every layer's output told while the network runs eagerly; afterwards it is as before.

    A layer's `call` is what Keras looks up when the layer is called, in Functional and Sequential models and
    inside nested ones; a Model of all outputs could not reach those.
    """
    keras = import_keras()
    moving = (keras.layers.Flatten, keras.layers.Reshape, keras.layers.Permute, keras.layers.InputLayer)
    watched: list[Any] = []

    def watch(model: Any, prefix: str) -> None:
        for layer in model.layers:
            name = f"{prefix}{layer.name}"
            if isinstance(layer, keras.Model):
                watch(layer, f"{name}/")
            elif not isinstance(layer, moving) and "call" not in vars(layer):
                layer.call = _telling(layer.call, name, tell)
                watched.append(layer)

    try:
        watch(network, "")
        yield
    finally:
        for layer in watched:
            del layer.call


def _telling(call: Callable[..., Any], name: str, tell: Told) -> Callable[..., Any]:
    def told(*arguments: Any, **more: Any) -> Any:
        output = call(*arguments, **more)
        if hasattr(output, "shape"):
            tell(name, output)
        return output

    return told
