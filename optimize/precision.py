"""What precision an artifact has earned."""

from edgepress.artifact import Precision, PrecisionShares, Proof
from edgepress.errors import ProofError
from edgepress.inspection.layer import Inspection
from optimize.recipe import Recipe

EARNED_SHARE = 0.99
_PURE = (Precision.FP32, Precision.FP16, Precision.INT8)


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
