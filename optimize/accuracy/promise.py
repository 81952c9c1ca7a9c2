"""Whether an artifact of which only some layers are quantized has exactly these in integers."""

from edgepress.errors import ProofError
from edgepress.inspection.layer import Inspection
from optimize.recipe import Recipe


def require_layers(recipe: Recipe, inspection: Inspection, layers: frozenset[str]) -> None:
    """Check that these layers are in the recipe's precision, and that no other one is.

    Args:
        recipe: Says the precision.
        inspection: Of the file.
        layers: Names of the layers that are to be quantized; at least one.

    Raises:
        ProofError: One is not, or another one is; it is named.
    """
    promised = recipe.weights.precision, recipe.activations.precision
    kept = {layer.name for layer in inspection.layers if (layer.stored, layer.computed) == promised}
    left = {layer.name for layer in inspection.layers if (layer.stored, layer.computed) != promised}
    wrong = sorted((kept ^ layers) | (kept & left))  # a layer that runs twice has to be so both times
    if not wrong and layers:
        return
    raise ProofError(
        f"{recipe.name} wanted {len(layers)} layers in {promised[0].value}, got {len(kept & layers)} of them "
        f"and {len(kept - layers)} others. Wrong: {', '.join(wrong) or 'none is quantized'}. "
        "Leave --max-drop out for this model."
    )
