"""What precision an artifact has earned, layer by layer. Pure data; the readers are inspection_*.py."""

from collections.abc import Iterable
from dataclasses import dataclass

from edgepress.artifact import Precision, PrecisionShares, Proof, TensorSpec
from edgepress.errors import ProofError
from optimize.recipe import Recipe

EARNED_SHARE = 0.99
_PURE = (Precision.FP32, Precision.FP16, Precision.INT8)


@dataclass(frozen=True)
class Layer:
    """One weighted layer (convolution, matrix product) as found in a file.

    Attributes:
        name: As the file has it.
        parameters: Number of weights (without bias).
        macs: Multiply-accumulates for one picture.
        stored: Precision of the weights in the file.
        computed: Precision of the operands that are multiplied.
    """

    name: str
    parameters: int
    macs: int
    stored: Precision
    computed: Precision


@dataclass(frozen=True)
class Inspection:
    """What was read out of a file.

    Attributes:
        layers: All weighted layers, in graph order.
        casts: Format conversions left in the graph.
        transposes: Transpose nodes left in the graph.
        inputs: Input signature.
        outputs: Output signature.
    """

    layers: tuple[Layer, ...]
    casts: int
    transposes: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def shares(self, proof: Proof) -> PrecisionShares:
        """Shares of parameters and MACs in each precision."""
        return PrecisionShares(
            _shares((layer.stored, layer.parameters) for layer in self.layers),
            _shares((layer.computed, layer.macs) for layer in self.layers),
            self.casts,
            self.transposes,
            proof,
        )


def _shares(amounts: Iterable[tuple[Precision, int]]) -> dict[str, float]:
    totals = dict.fromkeys(_PURE, 0)
    for precision, amount in amounts:
        totals[precision] += amount
    whole = sum(totals.values())
    return {precision.value: total / whole if whole else 0.0 for precision, total in totals.items()}


def earned_precision(shares: PrecisionShares) -> Precision:
    """The one precision that holds ≥ 99 % of both parameters and MACs; MIXED where there is none."""
    for precision in _PURE:
        if min(shares.parameters[precision.value], shares.macs[precision.value]) >= EARNED_SHARE:
            return precision
    return Precision.MIXED


def require_promise(recipe: Recipe, inspection: Inspection) -> None:
    """Check that a file holds what the recipe's name promises.

    Raises:
        ProofError: It does not; the layers that were left out are named.
    """
    if not inspection.layers:
        raise ProofError(
            f"{recipe.name}: the file has no convolution or matrix product, so there is nothing to prove. "
            "Use a model with weighted layers."
        )
    stored, computed = recipe.weights.precision, recipe.activations.precision
    shares = inspection.shares(Proof.INSPECTED)
    parameters, macs = shares.parameters[stored.value], shares.macs[computed.value]
    if min(parameters, macs) >= EARNED_SHARE:
        return
    left_out = [
        layer.name for layer in inspection.layers if (layer.stored, layer.computed) != (stored, computed)
    ]
    raise ProofError(
        f"{recipe.name} wanted ≥ {EARNED_SHARE:.0%} of the weights in {stored.value} and of the MACs in "
        f"{computed.value}, got {parameters:.1%} and {macs:.1%}. Left out: {', '.join(left_out)}. "
        "Leave this recipe out for this model."
    )
