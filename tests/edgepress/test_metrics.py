import math

import numpy as np
import pytest

from edgepress.metrics import (
    agreement,
    logit_snr_db,
    mcnemar_p,
    median_with_ci95,
    minimum_samples,
    top_k_accuracy,
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


def test_median_with_ci95_covers_the_median_and_repeats() -> None:
    values = np.random.default_rng(0).normal(2, 0.1, 50)
    median, (low, high) = median_with_ci95(values, seed=1)
    assert low < median < high
    assert high - low < 0.2
    assert median_with_ci95(values, seed=1) == (median, (low, high))


def test_minimum_samples_gives_mlperfs_figures() -> None:
    assert (minimum_samples(0.9), minimum_samples(0.99)) == (64, 662)
