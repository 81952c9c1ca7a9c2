from dataclasses import replace

import pytest

from benchmark.quantities import Accuracy, Basis, Speedup
from benchmark.report.number_text import (
    decibels,
    megabytes,
    milliseconds,
    percent,
    points,
    probability,
    shares,
    significant,
    times,
    with_prefix,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (milliseconds(474_686), "0.475"),
        (milliseconds(3_768_325), "3.77"),
        (milliseconds(204_123_456), "204.1"),
        (milliseconds(None), "–"),
        (significant(14_028.9), "14,029"),
        (megabytes(981_061), "1.0"),
        (megabytes(553_388_688), "553"),
        (megabytes(None), "–"),
        (percent(0.97829), "97.83"),
        (percent(None), "–"),
        (points(-0.002), "−0.2"),
        (points(0.01), "+1.0"),
        (points(-0.0003), "−0.03"),
        (probability(0.6), "p = 0.6"),
        (probability(0.0494), "p = 0.049"),
        (probability(1.0), "p = 1"),
        (probability(0.00012), "p < 0.001"),
        (with_prefix(83.2e9), "83.2 G"),
        (with_prefix(820e6), "820 M"),
        (with_prefix(3.0), "3 "),
        (shares({"fp32": 0.07, "int8": 0.93, "fp16": 0.0}), "int8 93 %, fp32 7 %"),
        (shares({"int8": 0.999, "fp32": 0.001}), "int8 100 %, fp32 < 1 %"),
        (shares({}), "–"),
    ],
)
def test_numbers(text: str, expected: str) -> None:
    assert text == expected


def test_times_has_an_interval_unless_it_is_one_by_definition(faster: Speedup) -> None:
    assert times(faster) == "2.50× [2.40–2.60]"
    assert times(replace(faster, basis=Basis.DEFINITION)) == "1 (baseline)"
    assert times(None) == "–"


def test_decibels_of_logits_that_are_identical_or_not_finite(measured_accuracy: Accuracy) -> None:
    assert decibels(measured_accuracy) == "30.0"
    assert decibels(replace(measured_accuracy, logit_snr_db=None, logits_identical=True)) == "identical"
    assert decibels(replace(measured_accuracy, logit_snr_db=None)) == "–"
    assert decibels(None) == "–"
