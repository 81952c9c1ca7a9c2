import math

import numpy as np
import pytest

from edgepress.metrics import (
    agreement,
    grouped_ci95,
    logit_snr_db,
    mcnemar_p,
    mean_kl_nats,
    median_ci95,
    minimum_samples,
    resampled_medians,
    resolvable_share,
    top_k_accuracy,
    wilson_ci95,
)

LOGITS = np.array([[3, 2, 1], [1, 3, 2], [2, 1, 3]], np.float32)


def test_top_k_accuracy_counts_labels_among_the_best() -> None:
    labels = np.array([0, 2, 1])
    assert top_k_accuracy(LOGITS, labels, 1) == pytest.approx(1 / 3)
    assert top_k_accuracy(LOGITS, labels, 2) == pytest.approx(2 / 3)
    assert top_k_accuracy(LOGITS, labels, 5) == 1


def test_top_k_accuracy_breaks_ties_by_class_index() -> None:
    flat = np.zeros((2, 3), np.float32)
    assert top_k_accuracy(flat, np.array([0, 2]), 1) == 0.5


def test_agreement_compares_top_classes() -> None:
    other = LOGITS.copy()
    other[0] = [0, 9, 0]
    assert agreement(LOGITS, other) == pytest.approx(2 / 3)


def test_logit_snr_db_of_a_known_noise() -> None:
    reference = np.array([[1.0, -1.0]], np.float32)
    assert logit_snr_db(reference, reference * np.float32(0.99)) == pytest.approx(40, abs=1e-3)


def test_logit_snr_db_does_not_count_a_common_offset_as_signal() -> None:
    reference = np.array([[1001.0, 999.0]], np.float64).astype(np.float32)
    assert logit_snr_db(reference, reference + np.array([[0.125, 0]], np.float32)) < 30


def test_logit_snr_db_is_infinite_for_identical_logits() -> None:
    assert logit_snr_db(LOGITS, LOGITS) == math.inf
    assert logit_snr_db(LOGITS, LOGITS * np.float32(np.nan)) == -math.inf


def test_mcnemar_p_of_known_tables() -> None:
    right, wrong = np.ones(10, bool), np.zeros(10, bool)
    assert mcnemar_p(right, right) == 1
    assert mcnemar_p(right, wrong) == pytest.approx(2 / 1024)


def test_resampled_medians_of_one_group_are_efrons() -> None:
    values = np.random.default_rng(0).normal(2, 0.1, 50)
    draws = resampled_medians(values, [50], seed=1)
    low, high = grouped_ci95(draws, 1)
    assert (low, high) == tuple(np.quantile(draws, [0.025, 0.975]))
    assert low < np.median(values) < high
    assert high - low < 0.2
    assert np.array_equal(draws, resampled_medians(values, [50], seed=1))


def test_resampled_medians_take_groups_of_any_size() -> None:
    values = np.asarray([1.0, 1.0, 1.0, 2.0, 2.0])
    draws = resampled_medians(values, [3, 2], seed=0)
    assert set(draws) == {1.0, 2.0}


@pytest.mark.parametrize(("between", "within"), [(0.0, 0.02), (0.01, 0.02), (0.01, 0.005)])
def test_grouped_ci95_covers_what_it_says(between: float, within: float) -> None:
    """Eight groups of three, 400 times: groups differ, and the true median is 1."""
    rng = np.random.default_rng(7)
    hits = 0
    for seed in range(400):
        values = 1 + rng.normal(0, between, (8, 1)) + rng.normal(0, within, (8, 3))
        low, high = grouped_ci95(resampled_medians(values.ravel(), [3] * 8, seed, 1000), 8)
        hits += low <= 1 <= high
    assert hits / 400 >= 0.94


def test_pairs_of_one_process_alone_would_not_cover_it() -> None:
    """Why groups are drawn: the plain bootstrap takes pairs of one process for independent ones."""
    rng = np.random.default_rng(7)
    hits = 0
    for seed in range(200):
        values = 1 + rng.normal(0, 0.01, (8, 1)) + rng.normal(0, 0.005, (8, 3))
        low, high = grouped_ci95(resampled_medians(values.ravel(), [24], seed, 1000), 1)
        hits += low <= 1 <= high
    assert hits / 200 < 0.85


def test_minimum_samples_gives_mlperfs_figures() -> None:
    assert (minimum_samples(0.9), minimum_samples(0.99)) == (64, 662)


@pytest.mark.parametrize(
    ("share", "count", "expected"),
    [
        (0.5, 100, (0.4038, 0.5962)),  # values of R's prop.test(50, 100, correct = FALSE) and so on
        (1.0, 20, (0.8389, 1.0)),
        (0.0, 20, (0.0, 0.1611)),
    ],
)
def test_wilson_ci95(share: float, count: int, expected: tuple[float, float]) -> None:
    assert wilson_ci95(share, count) == pytest.approx(expected, abs=5e-5)


def test_wilson_ci95_covers_the_true_share() -> None:
    rng = np.random.default_rng(0)
    intervals = [wilson_ci95(float(found) / 250, 250) for found in rng.binomial(250, 0.9, 2000)]
    assert 0.93 < np.mean([low <= 0.9 <= high for low, high in intervals]) < 0.97


def test_mean_kl_nats_of_known_probabilities() -> None:
    one, other = np.log([[0.5, 0.5], [0.9, 0.1]]), np.log([[0.25, 0.75], [0.9, 0.1]])
    expected = (0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)) / 2
    assert mean_kl_nats(one.astype(np.float32), other.astype(np.float32)) == pytest.approx(expected, abs=1e-6)
    shifted = (one + 100).astype(np.float32)  # a softmax does not see a constant
    assert mean_kl_nats(one.astype(np.float32), shifted) == pytest.approx(0, abs=1e-9)


def test_resolvable_share_is_what_the_exact_test_first_calls_significant() -> None:
    assert resolvable_share(250, 0) == 6 / 250  # 250 pictures cannot resolve 0.5 points
    assert resolvable_share(250, 5) == 6 / 250
    found = round(resolvable_share(1000, 40) * 1000)
    right = np.repeat([True, False], [(40 + found) // 2, (40 - found) // 2])
    assert mcnemar_p(right, ~right) < 0.05
    fewer = np.repeat([True, False], [(40 + found) // 2 - 1, (40 - found) // 2 + 1])
    assert mcnemar_p(fewer, ~fewer) >= 0.05


def test_median_ci95_covers_the_true_median() -> None:
    rng = np.random.default_rng(0)
    found = [median_ci95(rng.exponential(1, 64)) for _ in range(2000)]
    inside = [interval[0] <= math.log(2) <= interval[1] for interval in found if interval is not None]
    assert len(inside) == 2000
    assert 0.94 < np.mean(inside) < 0.98


def test_median_ci95_needs_six_values() -> None:
    assert median_ci95(np.arange(5.0)) is None
    assert median_ci95(np.arange(6.0)) == (0, 5)


def test_logit_snr_does_not_see_what_all_classes_of_a_row_have_in_common() -> None:
    """A softmax does not, and the logarithm of its probabilities does not keep it."""
    reference = np.random.default_rng(0).normal(0, 3, (4, 10)).astype(np.float32)
    shifted = reference + np.asarray([[0], [1], [-7], [100]], np.float32)
    assert logit_snr_db(reference, shifted) > 100
    assert logit_snr_db(reference, 1.01 * shifted) == pytest.approx(40, abs=0.1)
