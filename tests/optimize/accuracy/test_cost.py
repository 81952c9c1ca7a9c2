"""The drop, its bound, and how many pictures show it."""

import math

import numpy as np
import pytest

from optimize.accuracy.cost import accuracy_cost, drop_bound, images_needed

Z = 1.6448536269514722


def likeliest_score(difference: float, lost: int, won: int, images: int) -> float:
    """The score statistic with the nuisance share found by trying: Tango (1998) by definition."""
    shares = np.linspace(max(0.0, -difference) + 1e-9, (1 - difference) / 2 - 1e-9, 200_001)
    same = images - lost - won
    likelihood = (
        lost * np.log(shares + difference)
        + won * np.log(shares)
        + same * np.log(np.maximum(1 - 2 * shares - difference, 1e-300))
    )
    nuisance = float(shares[likelihood.argmax()])
    variance = images * (2 * nuisance + difference * (1 - difference))
    return (lost - won - images * difference) / math.sqrt(variance)


@pytest.mark.parametrize(("lost", "won", "images"), [(5, 2, 100), (1, 1, 250), (30, 40, 300), (3, 9, 50)])
def test_drop_bound_is_where_the_score_test_begins_to_reject(lost: int, won: int, images: int) -> None:
    bound = drop_bound(lost, won, images)
    assert likeliest_score(bound, lost, won, images) == pytest.approx(-Z, abs=2e-3)


@pytest.mark.parametrize("images", [10, 250, 5000])
def test_drop_bound_without_a_changed_answer_is_wilsons(images: int) -> None:
    assert drop_bound(0, 0, images) == pytest.approx(Z**2 / (images + Z**2))


@pytest.mark.parametrize(("lost", "images"), [(1, 20), (7, 100), (100, 100)])
def test_drop_bound_without_won_answers_is_wilsons(lost: int, images: int) -> None:
    share, spread = lost / images, Z**2 / images
    half = Z * math.sqrt(share * (1 - share) / images + spread / (4 * images))
    assert drop_bound(lost, 0, images) == pytest.approx((share + spread / 2 + half) / (1 + spread))


def test_drop_bound_holds_the_true_drop_in_nineteen_of_twenty_draws() -> None:
    draw = np.random.default_rng(0)
    tables = draw.multinomial(300, [0.03, 0.015, 0.955], size=2000)
    covered = [drop_bound(int(lost), int(won), 300) >= 0.015 for lost, won, _ in tables]
    assert 0.93 <= np.mean(covered) <= 0.98


def test_images_needed_is_the_least_number_whose_bound_is_within() -> None:
    found = images_needed(0, 0, 0.005)
    assert found == math.ceil(Z**2 * 0.995 / 0.005)
    found = images_needed(0.02, 0.018, 0.005)
    assert found is not None
    assert drop_bound(0.02 * found, 0.018 * found, found) <= 0.005
    assert drop_bound(0.02 * (found - 1), 0.018 * (found - 1), found - 1) > 0.005


def test_images_needed_is_none_where_the_drop_itself_is_not_within() -> None:
    assert images_needed(0.02, 0.01, 0.01) is None
    assert images_needed(0, 0, 0) is None


REFERENCE = np.eye(4, dtype=np.float32)[[0, 1, 2, 3]]


def test_accuracy_cost_counts_lost_and_won_answers() -> None:
    labels = np.asarray([0, 1, 2, 0])
    other = np.eye(4, dtype=np.float32)[[1, 1, 2, 0]]  # loses the first, wins the last
    found = accuracy_cost(REFERENCE, other, labels)
    assert (found.lost, found.won, found.images, found.labelled) == (1, 1, 4, True)
    assert (found.top1, found.reference_top1, found.agreement) == (0.75, 0.75, 0.5)
    assert (found.drop_points, found.mcnemar_p) == (0, 1.0)
    assert found.bound_points > 10


def test_accuracy_cost_without_labels_counts_changed_decisions() -> None:
    other = np.eye(4, dtype=np.float32)[[1, 1, 2, 3]]
    found = accuracy_cost(REFERENCE, other, None)
    assert (found.lost, found.won, found.drop_points) == (1, 0, 25)
    assert (found.top1, found.mcnemar_p) == (None, None)


@pytest.mark.parametrize("labels", [None, np.asarray([0, 1, 2, 3])])
def test_accuracy_cost_takes_logits_that_are_not_finite_for_wrong(labels: "np.ndarray | None") -> None:
    other = REFERENCE.copy()
    other[0, 0] = np.inf  # argmax alone would find the right class
    found = accuracy_cost(REFERENCE, other, labels)
    assert found.lost == 1
    assert found.logit_snr_db is None
