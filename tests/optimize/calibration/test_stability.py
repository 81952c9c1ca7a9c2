import logging

import pytest

from optimize.calibration import Range, Stability
from optimize.calibration.stability import UNSTABLE, stability_of, warn_if_unstable


def test_stability_is_the_share_of_the_width_by_which_the_ends_differ() -> None:
    first = {"same": Range(0, 4), "shorter": Range(0, 3), "shifted": Range(-1, 4), "dead": Range(0, 0)}
    second = {"same": Range(0, 4), "shorter": Range(0, 4), "shifted": Range(-6, 4), "dead": Range(0, 0)}
    found = stability_of(first, second, (3, 4))
    assert found.differences == {"same": 0, "shorter": 0.25, "shifted": 0.5, "dead": 0}
    assert found.worst == ("shifted", 0.5)
    assert Stability.from_json(found.to_json()) == found


@pytest.mark.parametrize("excess", [-0.01, 0.01])
def test_a_warning_names_the_worst_tensor_and_what_to_give(
    caplog: pytest.LogCaptureFixture, excess: float
) -> None:
    stability = Stability((4, 4), {"fc1": UNSTABLE + excess, "fc2": 0.1})
    with caplog.at_level(logging.WARNING):
        warn_if_unstable("onnx-fp32", stability)
    if excess < 0:
        assert not caplog.records
    else:
        (record,) = caplog.records
        assert "8 calibration pictures are too few" in record.getMessage()
        assert "41 % for tensor 'fc1'" in record.getMessage()
        assert "Give --samples 32." in record.getMessage()


def test_one_picture_has_a_warning_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    warn_if_unstable("onnx-fp32", None)
    assert "onnx-fp32 was calibrated on one picture" in caplog.text
