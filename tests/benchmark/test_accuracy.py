from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmark.accuracy import accuracy_of
from edgepress.dataset import Dataset, Picture
from edgepress.evaluation_data import labels_for
from edgepress.interface import Activation
from edgepress.manifest import ModelCard
from edgepress.preprocessing import Preprocessing, PreprocessMode

MODEL = ModelCard("m", "s", "f", 1, 4, None, Preprocessing(PreprocessMode.NONE, 8, 8), Activation.SOFTMAX)


def no_picture(preprocessing: Preprocessing) -> NDArray[np.uint8]:
    raise AssertionError("no picture is read")


def dataset(labels: list[int | None], classes: tuple[str, ...] | None) -> Dataset:
    return Dataset("d", tuple(Picture(str(i), n, str(i), no_picture) for i, n in enumerate(labels)), classes)


@pytest.mark.parametrize(
    ("model_labels", "data_classes", "expected"),
    [
        (None, None, [0, 3, 1]),
        (None, ("a", "b", "c", "d"), [0, 3, 1]),
        (("d", "c", "b", "a"), ("a", "b", "c", "d"), [3, 0, 2]),  # matched by name, not by place
        (("x", "a", "b", "c", "d"), ("a", "b", "c", "d"), [1, 4, 2]),  # some of the model's classes
    ],
)
def test_labels_for_follows_the_models_order(
    model_labels: tuple[str, ...] | None, data_classes: tuple[str, ...] | None, expected: list[int]
) -> None:
    labels, note = labels_for(replace(MODEL, labels=model_labels), dataset([0, 3, 1], data_classes))
    assert labels is not None
    assert labels.tolist() == expected
    assert note is None


@pytest.mark.parametrize(
    ("labels", "classes", "model_labels", "reason"),
    [
        ([None, None], None, None, "no labels"),
        ([0, 1], ("a", "b"), None, "the data has 2 classes, the model 4"),
        ([0, 4], None, None, "the data has 5 classes, the model 4"),
        ([0, 1], ("a", "q"), ("a", "b", "c", "d"), "class 'q' is none of the model's 4"),
    ],
)
def test_labels_for_gives_the_reason_when_labels_are_not_the_models(
    labels: list[int | None],
    classes: tuple[str, ...] | None,
    model_labels: tuple[str, ...] | None,
    reason: str,
) -> None:
    found, note = labels_for(replace(MODEL, labels=model_labels), dataset(labels, classes))
    assert found is None
    assert note is not None
    assert reason in note


LOGITS = np.eye(4, dtype=np.float32)


def test_accuracy_of_identical_logits_has_no_snr() -> None:
    found = accuracy_of(LOGITS, LOGITS, np.arange(4), None)
    assert (found.top1, found.agreement, found.logit_snr_db, found.logits_identical) == (1, 1, None, True)
    assert found.mcnemar_p == 1


def test_accuracy_of_a_worse_version() -> None:
    worse = LOGITS.copy()
    worse[0] = [0, 1, 0, 0]
    found = accuracy_of(worse, LOGITS, np.arange(4), None)
    assert (found.top1, found.top5, found.agreement, found.images) == (0.75, 1, 0.75, 4)
    assert found.logit_snr_db == pytest.approx(10 * np.log10(3 / 2))


def test_accuracy_of_pictures_without_labels_keeps_agreement_and_note() -> None:
    found = accuracy_of(LOGITS * 1.01, LOGITS, None, "no labels")
    assert (found.top1, found.top5, found.mcnemar_p, found.note) == (None, None, None, "no labels")
    assert found.agreement == 1
    assert found.logit_snr_db == pytest.approx(40, abs=0.1)


@pytest.mark.parametrize("spoil", [lambda x: x * np.nan, lambda x: x + np.inf])
def test_accuracy_of_non_finite_logits_says_so(
    spoil: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> None:
    found = accuracy_of(spoil(LOGITS).astype(np.float32), LOGITS, None, None)
    assert (found.logit_snr_db, found.logits_identical) == (None, False)
    assert found.note == "some logits are not finite"


def test_accuracy_beside_a_reference_that_is_not_finite_has_no_kl() -> None:
    reference = LOGITS.copy()
    reference[0, 0] = np.inf
    found = accuracy_of(LOGITS, reference, None, None)
    assert (found.kl_nats, found.logit_snr_db) == (None, None)
    assert accuracy_of(LOGITS * 1.01, LOGITS, None, None).kl_nats is not None
