from dataclasses import replace

import numpy as np

from benchmark.decisions import ClassAccuracy, Flip, decisions_of
from edgepress.interface import Activation
from edgepress.manifest import ModelCard
from edgepress.preprocessing import Preprocessing, PreprocessMode

MODEL = ModelCard(
    "m", "s", "f", 1, 3, ("cat", "dog", "fox"), Preprocessing(PreprocessMode.NONE, 8, 8), Activation.SOFTMAX
)
PICTURES = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")
REFERENCE = np.asarray([[3, 1, 0], [3, 1, 0], [0, 3, 2.5], [0, 3, 1]], np.float32)
LABELS = np.asarray([0, 1, 2, 1])


def test_decisions_of_the_same_logits_have_no_flip() -> None:
    found = decisions_of(REFERENCE, REFERENCE, LABELS, PICTURES, MODEL)
    assert found.flips == ()
    assert found.classes == (
        ClassAccuracy("cat", 1, 1, 1),
        ClassAccuracy("dog", 2, 1, 1),
        ClassAccuracy("fox", 1, 0, 0),
    )


def test_decisions_of_another_version_name_each_flip() -> None:
    other = REFERENCE.copy()
    other[0] = [0, 0, 9]
    other[2] = [0, 2.4, 2.5]
    found = decisions_of(other, REFERENCE, LABELS, PICTURES, MODEL)
    assert found.flips == (Flip("a.jpg", "cat", "cat", "fox", 3.0), Flip("c.jpg", "fox", "dog", "fox", 0.5))
    assert found.classes[0] == ClassAccuracy("cat", 1, 0, 1)
    assert found.classes[2] == ClassAccuracy("fox", 1, 1, 0)


def test_decisions_without_labels_and_names() -> None:
    other = REFERENCE[:, ::-1]
    found = decisions_of(other, REFERENCE, None, PICTURES, replace(MODEL, labels=None))
    assert found.classes == ()
    assert found.flips[0] == Flip("a.jpg", None, "0", "2", 3.0)


def test_decisions_beside_a_reference_that_is_not_finite_have_no_margin() -> None:
    reference = REFERENCE.copy()
    reference[0, 1] = np.nan
    (flip, *_) = decisions_of(REFERENCE, reference, LABELS, PICTURES, MODEL).flips
    assert (flip.picture, flip.margin) == ("a.jpg", None)
