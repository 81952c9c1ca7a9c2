"""Which pictures train and which choose the epoch."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from edgepress.dataset import Dataset
from edgepress.errors import InputError

_LEAST_A_CLASS = 2


@dataclass(frozen=True)
class Split:
    """Labelled pictures in two parts that share none: a file that is there twice is in one part only."""

    training: Dataset
    validation: Dataset


def split(pictures: Dataset, share: float, seed: int) -> Split:
    """Set aside `share` of each class (rounded, but at least one picture and never all of them).

    Args:
        pictures: Labelled, with class names.
        share: Of the validation part, in (0, 1).
        seed: Of the draw.

    Raises:
        InputError: A class with fewer than two different pictures, or one picture in two classes.
    """
    by_class: dict[int, list[str]] = defaultdict(list)
    label_of: dict[str, int] = {}
    for picture in pictures.pictures:
        label = picture.label
        if label is None:
            raise InputError(f"{pictures.source}: {picture.name} has no label. Put it into a class folder.")
        if label_of.setdefault(picture.sha256, label) != label:
            raise InputError(
                f"{pictures.source}: {picture.name} is in another class, too. Keep it in the right one."
            )
        if picture.sha256 not in by_class[label]:
            by_class[label].append(picture.sha256)
    order = np.random.default_rng(seed)
    held_out: set[str] = set()
    for label, name in enumerate(pictures.classes or ()):
        found = by_class[label]
        if len(found) < _LEAST_A_CLASS:
            raise InputError(
                f"{pictures.source}: class {name!r} has {len(found)} different pictures, and at least "
                f"{_LEAST_A_CLASS} are needed: one trains, one checks. Add pictures, or remove the class."
            )
        count = min(max(1, round(share * len(found))), len(found) - 1)
        held_out.update(found[int(i)] for i in order.permutation(len(found))[:count])
    validation = frozenset(held_out)
    return Split(pictures.without(validation), pictures.only(validation))
