"""CalibrationMethod: how the range of a tensor follows from the values that it took."""

from enum import Enum


class CalibrationMethod(str, Enum):
    """The rule, each with its source. What follows from the pictures alone is the same in any order of them.

    Attributes:
        MINMAX: All that was seen (R. Krishnamoorthi, arXiv 1806.08342, section 3.1). Nothing is clipped.
        MOVING_AVERAGE: Average over the pictures of each picture's smallest and largest value (B. Jacob et
            al., arXiv 1712.05877, section 3.1). Up to 100 pictures it is the plain mean, so that the first
            picture has no more weight than the others; beyond, the constant is 0.01 and late pictures weigh
            more: the one method that then depends on the order.
        PERCENTILE: All but 0.01 % of the values (H. Wu et al., arXiv 2004.09602, section 3.3); of a tensor
            with negative values, half of it at each end.
        ENTROPY: The threshold of magnitudes with the least Kullback-Leibler divergence between the values and
            their 128 levels (S. Migacz, 8-bit Inference with TensorRT, GTC 2017). Exact zeros are left out:
            any scale represents them, and behind a Relu they would outweigh everything else.
        MSE: The threshold of magnitudes with the least mean squared error of 128 levels (H. Wu et al., as
            above, names it; R. Banner et al., arXiv 1810.05723, derive it); zeros as for ENTROPY.
    """

    MINMAX = "minmax"
    MOVING_AVERAGE = "moving-average"
    PERCENTILE = "percentile"
    ENTROPY = "entropy"
    MSE = "mse"

    @property
    def parameter(self) -> float | int | None:
        """Constant of the average, percentage of the values, or number of levels; None for MINMAX."""
        return _PARAMETERS[self]

    @property
    def needs_histograms(self) -> bool:
        """Whether it looks at more than the smallest and the largest value."""
        return self not in {CalibrationMethod.MINMAX, CalibrationMethod.MOVING_AVERAGE}


# Signed int8 has 128 levels for magnitudes, and that is what a Relu's output gets in a symmetric format.
_PARAMETERS: dict[CalibrationMethod, float | int | None] = {
    CalibrationMethod.MINMAX: None,
    CalibrationMethod.MOVING_AVERAGE: 0.01,
    CalibrationMethod.PERCENTILE: 99.99,
    CalibrationMethod.ENTROPY: 128,
    CalibrationMethod.MSE: 128,
}
