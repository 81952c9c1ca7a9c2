"""Layers with weights, and what a model consists of. Pure data; the readers are inspection_*.py."""

from collections.abc import Iterable
from dataclasses import dataclass

from edgepress.artifact import Precision, PrecisionShares, Proof, TensorSpec

_PURE = (Precision.FP32, Precision.FP16, Precision.INT8)
_BYTES = {Precision.FP32: 4, Precision.FP16: 2, Precision.INT8: 1, Precision.MIXED: 4}


@dataclass(frozen=True)
class Layer:
    """One layer with weights (convolution, matrix product) as found in a model.

    Attributes:
        name: As the model has it.
        parameters: Number of weights (without bias).
        macs: Multiply-accumulates for one picture.
        stored: Precision of the weights in the file.
        computed: Precision of the operands that are multiplied.
        kind: The operator, as the format calls it.
        output_shape: Of one picture's result, without the batch; None for a dimension that is not known.
        biases: Number of bias values.
        bias_bytes_each: Size of one bias value as it is stored: 4 for FP32 and for INT32 beside INT8 weights.
    """

    name: str
    parameters: int
    macs: int
    stored: Precision
    computed: Precision
    kind: str = ""
    output_shape: tuple[int | None, ...] = ()
    biases: int = 0
    bias_bytes_each: int = 4

    @property
    def weight_bytes(self) -> int:
        """Size of weights and biases as they are stored."""
        return self.parameters * _BYTES[self.stored] + self.bias_bytes_each * self.biases


@dataclass(frozen=True)
class Inspection:
    """What was read out of a model.

    Attributes:
        layers: All weighted layers, in graph order.
        casts: Format conversions left in the graph.
        transposes: Transpose nodes left in the graph.
        inputs: Input signature.
        outputs: Output signature.
        uncounted: What has weights whose MACs cannot be told, in words; it counts 0 MACs.
    """

    layers: tuple[Layer, ...]
    casts: int
    transposes: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    uncounted: tuple[str, ...] = ()

    def shares(self, proof: Proof) -> PrecisionShares:
        """Shares of parameters and MACs in each precision."""
        return PrecisionShares(
            _shares((layer.stored, layer.parameters) for layer in self.layers),
            _shares((layer.computed, layer.macs) for layer in self.layers),
            self.casts,
            self.transposes,
            proof,
        )

    @property
    def parameters(self) -> int:
        """All weights and biases."""
        return sum(layer.parameters + layer.biases for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one picture."""
        return sum(layer.macs for layer in self.layers)

    @property
    def weight_bytes(self) -> int:
        """Size of all weights and biases."""
        return sum(layer.weight_bytes for layer in self.layers)


def _shares(amounts: Iterable[tuple[Precision, int]]) -> dict[str, float]:
    totals = dict.fromkeys(_PURE, 0)
    for precision, amount in amounts:
        totals[precision] += amount
    whole = sum(totals.values())
    return {precision.value: total / whole if whole else 0.0 for precision, total in totals.items()}
