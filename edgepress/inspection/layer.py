"""Layers with weights, and what a model consists of. Pure data; the readers are inspection_*.py."""

from collections.abc import Iterable
from dataclasses import dataclass

from edgepress.artifact import Precision, PrecisionShares, Proof, TensorSpec

_PURE = (Precision.FP32, Precision.FP16, Precision.INT8)
BYTES_PER_VALUE = {Precision.FP32: 4, Precision.FP16: 2, Precision.INT8: 1, Precision.MIXED: 4}


@dataclass(frozen=True)
class Layer:
    """One layer with weights (convolution, matrix product) as found in a model.

    Attributes:
        name: As the model has it.
        parameters: Number of weights (without bias); 0 where an earlier layer has the same.
        macs: Multiply-accumulates for one picture.
        stored: Precision of the weights in the file.
        computed: Precision of the operands that are multiplied.
        kind: The operator, as the format calls it.
        output_shape: Of one picture's result, without the batch; None for a dimension that is not known.
        biases: Number of bias values.
        stored_bytes: Size of weights and biases as they lie in the model; None where that is not known (then
            what `stored` says for a weight, and 4 for a bias).
        stored_type: Type of the weights as the format calls it, where `stored` is only near it ("int4").
    """

    name: str
    parameters: int
    macs: int
    stored: Precision
    computed: Precision
    kind: str = ""
    output_shape: tuple[int | None, ...] = ()
    biases: int = 0
    stored_bytes: int | None = None
    stored_type: str = ""

    @property
    def weight_bytes(self) -> int:
        """Size of weights and biases."""
        if self.stored_bytes is not None:
            return self.stored_bytes
        return self.parameters * BYTES_PER_VALUE[self.stored] + 4 * self.biases

    def bytes_by_precision(self) -> tuple[tuple[Precision, int], tuple[Precision, int]]:
        """Bytes of the weights, and of the biases, which have 2 bytes each or 4 (int32 is taken as FP32)."""
        weights = min(self.weight_bytes, self.parameters * BYTES_PER_VALUE[self.stored])
        biases = self.weight_bytes - weights
        of_biases = Precision.FP16 if biases == 2 * self.biases else Precision.FP32
        return (self.stored, weights), (of_biases, biases)


@dataclass(frozen=True)
class Inspection:
    """What was read out of a model.

    Attributes:
        layers: All weighted layers, in graph order.
        casts: Cast nodes left in the graph.
        transposes: Transpose nodes left in the graph.
        inputs: Input signature.
        outputs: Output signature.
        uncounted: What has weights whose MACs cannot be told, in words; it counts 0 MACs.
        unlisted: Floating-point values that are stored, but in none of the layers: of normalizations, slopes,
            constants. Scales of quantized tensors are not among them.
        weight_files: Names of the files beside the model in which it keeps weights.
        reformats: Conversions between integers and floating point that no 8-bit layer takes in.
    """

    layers: tuple[Layer, ...]
    casts: int
    transposes: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    uncounted: tuple[str, ...] = ()
    unlisted: int = 0
    weight_files: tuple[str, ...] = ()
    reformats: int = 0

    def shares(self, proof: Proof) -> PrecisionShares:
        """Shares of parameters and MACs in each precision."""
        return PrecisionShares(
            _shares((layer.stored, layer.parameters) for layer in self.layers),
            _shares((layer.computed, layer.macs) for layer in self.layers),
            self.casts,
            self.transposes,
            proof,
        )

    def byte_shares(self) -> dict[str, float]:
        """Share of the bytes of weights and biases in each precision."""
        return _shares(item for layer in self.layers for item in layer.bytes_by_precision())

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
