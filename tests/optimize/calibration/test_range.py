import pytest

from optimize.calibration import Range


def test_with_range_holds_both() -> None:
    assert Range(-1, 2).with_range(Range(0, 5)) == Range(-1, 5)
    assert Range(-7, 5).magnitude == 7


@pytest.mark.parametrize(
    ("seen", "wanted"),
    [
        (Range(2, 3), Range(0, 3)),
        (Range(-3, -2), Range(-3, 0)),
        (Range(0, 0), Range(0, 1)),
        (Range(-1e-30, 1e-30), Range(0, 1)),
        (Range(-1e-6, 1e-7), Range(-1e-6, 1e-7)),
    ],
)
def test_quantizable_has_zero_inside_and_a_positive_width(seen: Range, wanted: Range) -> None:
    assert seen.quantizable() == wanted
