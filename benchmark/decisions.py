"""Which decisions changed: per class, and picture by picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgepress.manifest import ModelCard

Logits = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class ClassAccuracy:
    """The pictures of one class.

    Attributes:
        name: Of the class.
        images: How many.
        right: How many of them this version gets right.
        reference_right: How many of them the FP32 reference gets right.
    """

    name: str
    images: int
    right: int
    reference_right: int


@dataclass(frozen=True)
class Flip:
    """A picture to which this version gives another top class than the FP32 reference.

    Attributes:
        picture: Its name in the data.
        label: Its true class; None without labels.
        reference: The reference's class.
        found: This version's class.
        margin: By how much the reference preferred its class to the one that was found, in logits: a small
            one was a close call before, too; None where the reference's logits are not finite.
    """

    picture: str
    label: str | None
    reference: str
    found: str
    margin: float | None


@dataclass(frozen=True)
class Decisions:
    """How a version decides, beside the FP32 reference.

    Attributes:
        classes: Those that occur in the data, in the model's order; empty without labels.
        flips: In the order of the data.
    """

    classes: tuple[ClassAccuracy, ...]
    flips: tuple[Flip, ...]


def decisions_of(
    logits: Logits, reference: Logits, labels: Labels | None, pictures: Sequence[str], model: ModelCard
) -> Decisions:
    """Compare the top classes of (N, classes) logits with the reference's and with the labels.

    Args:
        logits: Of this version.
        reference: Of the FP32 reference.
        labels: (N,) class indices; None without.
        pictures: N names.
        model: Names the classes, or leaves them to their numbers.
    """
    names = model.labels or tuple(str(i) for i in range(model.class_count))
    found, wanted = logits.argmax(axis=1), reference.argmax(axis=1)
    flips = tuple(
        Flip(
            pictures[i],
            None if labels is None else names[labels[i]],
            names[wanted[i]],
            names[found[i]],
            _finite(reference[i, wanted[i]] - reference[i, found[i]]),
        )
        for i in map(int, np.flatnonzero(found != wanted))
    )
    return Decisions(() if labels is None else _classes(found, wanted, labels, names), flips)


def _finite(value: np.float32) -> float | None:
    return float(value) if np.isfinite(value) else None


def _classes(
    found: NDArray[np.int64], wanted: NDArray[np.int64], labels: Labels, names: Sequence[str]
) -> tuple[ClassAccuracy, ...]:
    return tuple(
        ClassAccuracy(
            names[label],
            int(np.sum(labels == label)),
            int(np.sum(found[labels == label] == label)),
            int(np.sum(wanted[labels == label] == label)),
        )
        for label in map(int, np.unique(labels))
    )


SHOWN_FLIPS = 20


def shown_flips(decisions: Decisions) -> tuple[Flip, ...]:
    """The flips that a report shows: the clearest cases first."""
    ordered = sorted(decisions.flips, key=lambda flip: -(flip.margin or 0))
    return tuple(ordered[:SHOWN_FLIPS])
