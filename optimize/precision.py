"""Whether an artifact has earned what its recipe promises."""

from collections.abc import Mapping

from edgepress.artifact import Content, LeftBehind, Precision
from edgepress.errors import ProofError
from edgepress.inspection.earned import EARNED_SHARE
from edgepress.inspection.layer import Inspection, Layer
from optimize.layer_subset import is_dense
from optimize.recipe import Recipe

# Less than this in FP16 is no FP16 artifact, whatever the reason.
_SMALLEST_SHARE = 0.5

Pair = tuple[Precision, Precision]


def require_promise(recipe: Recipe, inspection: Inspection, excused: Mapping[str, str] | None = None) -> None:
    """Check that a file holds what the recipe's name promises.

    Args:
        recipe: Its promise.
        inspection: Of the file.
        excused: Layers that FP16 cannot hold, with the reason: they may be in FP32, as long as they are the
            smaller part.

    Raises:
        ProofError: The file does not hold it; the layers that were left out are named.
    """
    excused = excused or {}
    if not inspection.layers:
        raise ProofError(
            f"{recipe.name}: the file has no convolution or matrix product, so there is nothing to prove. "
            "Use a model with weighted layers."
        )
    left = [layer for layer in inspection.layers if not _is_kept(recipe, layer)]
    kept = [layer for layer in inspection.layers if layer not in left]
    unexcused = [layer for layer in left if layer.name not in excused]
    parameters, macs = _shares(kept, inspection)
    lost = max(_shares(unexcused, inspection))
    if lost <= 1 - EARNED_SHARE and min(parameters, macs) >= (_SMALLEST_SHARE if excused else EARNED_SHARE):
        return
    promise, left_out = _promise(recipe, inspection), [layer.name for layer in left]
    raise ProofError(
        f"{recipe.name} wanted {promise}, got {parameters:.1%} and {macs:.1%}. "
        f"Left out: {', '.join(left_out)}. Leave this recipe out for this model."
    )


def content_of(inspection: Inspection, recipe: Recipe, reasons: Mapping[str, str]) -> Content:
    """What a file holds beside its shares.

    Args:
        inspection: Of the file.
        recipe: Says what its layers are called to be.
        reasons: Why layers were left out on purpose, by name.
    """
    called = recipe.weights.precision, recipe.activations.precision
    left = (
        layer
        for layer in inspection.layers
        if layer.computed is not called[1] or (layer.parameters and layer.stored is not called[0])
    )
    return Content(
        inspection.byte_shares(),
        inspection.reformats,
        tuple(
            LeftBehind(layer.name, layer.stored, layer.computed, _reason(recipe, layer, reasons))
            for layer in left
        ),
    )


def _reason(recipe: Recipe, layer: Layer, reasons: Mapping[str, str]) -> str:
    if layer.name in reasons:
        return reasons[layer.name]
    if _is_kept(recipe, layer):
        return f"{recipe.name} leaves dense layers in {layer.computed.value}"
    return "the converter has no such version of it"


def _is_kept(recipe: Recipe, layer: Layer) -> bool:
    stored, computed = _promised(recipe, layer)
    # A product of two activations has no weight, and a weight counts with the first layer that has it.
    return layer.computed is computed and (layer.stored is stored or not layer.parameters)


def _promised(recipe: Recipe, layer: Layer) -> Pair:
    return recipe.promised(dense=is_dense(layer.kind))


def _shares(layers: list[Layer], whole: Inspection) -> tuple[float, float]:
    """Their share of all weights and of all MACs; 0 where there are none."""
    parameters, macs = sum(layer.parameters for layer in whole.layers), whole.macs
    return (
        sum(layer.parameters for layer in layers) / parameters if parameters else 0.0,
        sum(layer.macs for layer in layers) / macs if macs else 0.0,
    )


def _promise(recipe: Recipe, inspection: Inspection) -> str:
    promises = {_promised(recipe, layer) for layer in inspection.layers}
    if len(promises) > 1:
        return f"≥ {EARNED_SHARE:.0%} of the weights and of the MACs as its name says"
    stored, computed = promises.pop()
    return f"≥ {EARNED_SHARE:.0%} of the weights in {stored.value} and of the MACs in {computed.value}"
