import numpy as np
import pytest

from edgepress.interface import Activation, Interface, Scores
from edgepress.parity.distance import distance, least_db, through, unexplained_flips

LOGITS = np.random.default_rng(0).normal(0, 5, (6, 10)).astype(np.float32)


def test_distance_of_the_same_is_none() -> None:
    found = distance(LOGITS, LOGITS.copy())
    assert (found.snr_db, found.max_relative, found.agreement) == (None, 0, 1)
    assert found.cosine == pytest.approx(1)
    assert found.pictures == 6


def test_distance_is_relative_to_the_spread_of_the_logits() -> None:
    other = LOGITS.copy()
    other[2, 3] += 1
    found, moved = distance(LOGITS, other), distance(LOGITS + 100, other + 100)
    spread = np.sqrt(np.mean((LOGITS - LOGITS.mean(axis=1, keepdims=True)) ** 2))
    assert found.max_relative == pytest.approx(1 / spread, rel=1e-4)
    assert moved.max_relative == pytest.approx(found.max_relative, rel=1e-3)
    assert found.cosine < distance(LOGITS, LOGITS * 1.5).cosine == pytest.approx(1)


def test_distance_from_logits_without_spread_is_a_number() -> None:
    flat = np.zeros((2, 3), np.float32)
    assert distance(flat, flat).snr_db is None
    assert distance(flat, flat + np.asarray([0, 1, 0], np.float32)).snr_db == -300
    assert distance(flat, flat + np.float32(1)).snr_db is None  # the same to a softmax


def test_flip_of_a_tie_is_explained_by_noise_and_a_clear_one_is_not() -> None:
    reference = np.asarray([[1.0, 1.001, -5], [1.0, 3.0, -5]], np.float32)
    flipped = reference[:, [1, 0, 2]]
    assert list(unexplained_flips(reference, flipped, 40)) == [1]
    assert list(unexplained_flips(reference, flipped, 100)) == [0, 1]
    assert not len(unexplained_flips(reference, reference, 100))


def test_least_db_grants_what_float32_cannot_give() -> None:
    assert least_db(LOGITS, 100) == 100
    assert least_db(LOGITS + np.float32(1e4), 100) < 60
    assert least_db(LOGITS + np.float32(1e4), 15) == 15


@pytest.mark.parametrize("activation", [Activation.SOFTMAX, Activation.SIGMOID])
def test_logits_go_through_probabilities_as_in_a_file_that_gives_them(activation: Activation) -> None:
    interface = Interface(scores=Scores.PROBABILITIES)
    exact = LOGITS.astype(np.float64)
    powers = np.exp(exact)
    softmax = activation is Activation.SOFTMAX
    scores = powers / powers.sum(axis=1, keepdims=True) if softmax else powers / (1 + powers)
    given = interface.logits(scores.astype(np.float32), activation)
    assert distance(through(LOGITS, interface, activation), given).snr_db in {None} or (
        (distance(through(LOGITS, interface, activation), given).snr_db or 0) > 110
    )
    assert through(LOGITS, Interface(), activation) is LOGITS
