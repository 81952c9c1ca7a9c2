"""Whether an artifact has earned what its recipe promises."""

from edgepress.artifact import Proof
from edgepress.errors import ProofError
from edgepress.inspection.earned import EARNED_SHARE
from edgepress.inspection.layer import Inspection
from optimize.recipe import Recipe


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
