"""Pictures through a network, a few at a time: memory does not grow with their number."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgepress.dataset import Picture
from edgepress.preprocessing import Preprocessing
from train.augmentation import view_of

if TYPE_CHECKING:
    import keras

BATCH = 16


def inputs_of(
    views: Sequence[tuple[Picture, int]], preprocessing: Preprocessing, seed: int
) -> NDArray[np.float32]:
    """(N, height, width, 3) float32 inputs of these views (picture, number) of pictures.

    Raises:
        InputError: A picture cannot be decoded.
    """
    images = [view_of(picture.read(preprocessing), picture.sha256, n, seed) for picture, n in views]
    return preprocessing.normalize(np.stack(images))


def vectors_of(
    network: "keras.Model",
    views: Sequence[tuple[Picture, int]],
    preprocessing: Preprocessing,
    seed: int,
    told: Callable[[int], None],
) -> Iterator[NDArray[np.float32]]:
    """What `network` makes of the views, in order, batch by batch: (n, …) float32 each.

    Args:
        network: Takes what `preprocessing` gives.
        views: Pictures with the number of a view of theirs.
        preprocessing: From picture to input.
        seed: Of the views.
        told: Called with the number of views that are done.
    """
    for start in range(0, len(views), BATCH):
        chosen = views[start : start + BATCH]
        yield np.asarray(network(inputs_of(chosen, preprocessing, seed), training=False), np.float32)
        told(start + len(chosen))
