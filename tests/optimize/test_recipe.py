import re

import pytest

from edgepress.artifact import Format, Precision
from edgepress.errors import InputError
from edgepress.isa import Isa
from edgepress.target import ComputeCapability, Target, target_of
from optimize.recipe import (
    RECIPES,
    Granularity,
    NumberFormat,
    Recipe,
    recipe_named,
    recipe_of_artifact,
    recipes_for,
    require_suits,
)

ORT_INT8 = {"onnx_static_wi7_au8", "onnx_static_wi8_au8", "onnx_static_wi8_ai8"}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_recipe_name_decodes_to_its_fields(recipe: Recipe) -> None:
    decoded = re.fullmatch(
        r"(onnx|tensorrt|tflite|engine)_(static_)?w([fiu]\d+)_a(t?[fiu]\d+)(?:_([a-z]+)(f\d+))?", recipe.name
    )
    assert decoded is not None
    assert decoded[1] == recipe.family
    assert decoded[3] == recipe.weights.value
    assert decoded[4] == recipe.activations.value
    assert decoded[5] == (recipe.part.value if recipe.part else None)
    assert decoded[6] == (recipe.part_format.value if recipe.part else None)
    is_int8 = recipe.weights.precision is Precision.INT8
    assert bool(decoded[2]) is is_int8
    assert (recipe.granularity is Granularity.PER_CHANNEL) is is_int8
    assert bool(recipe.calibrated_on) is (is_int8 and recipe.format is not Format.ENGINE)


def test_recipes_that_are_made_on_request_only() -> None:
    assert {recipe.name for recipe in RECIPES if not recipe.default} == {
        "onnx_static_wu8_au8",
        "tensorrt_static_wi8_ai8_densef16",
        "tensorrt_static_wi8_ai8_restf16",
        "tflite_static_wi8_ai8_iof32",
        "engine_wf32_atf32",
        "engine_static_wi8_ai8_densef16",
        "engine_static_wi8_ai8_restf16",
    }
    everything = Target("t", Isa.X86_AVX2, (ComputeCapability.SM86,))
    assert all(recipe.default for recipe in recipes_for(everything))


@pytest.mark.parametrize("isa", Isa)
def test_unsigned_weights_may_be_asked_for_on_any_cpu(isa: Isa) -> None:
    require_suits(recipe_named("onnx_static_wu8_au8"), Target("t", isa, ()))


def test_recipe_part_says_what_each_layer_is() -> None:
    dense = recipe_named("tensorrt_static_wi8_ai8_densef16")
    assert dense.promised(dense=True) == (Precision.FP16, Precision.FP16)
    assert dense.promised(dense=False) == (Precision.INT8, Precision.INT8)
    assert dense.rest is NumberFormat.F16
    rest = recipe_named("tensorrt_static_wi8_ai8_restf16")
    assert (rest.promised(dense=True)[0], rest.rest) == (Precision.INT8, NumberFormat.F16)
    assert recipe_named("tflite_static_wi8_ai8_iof32").rest is NumberFormat.F32


def test_recipes_have_parents_before_children() -> None:
    seen: set[str] = set()
    for recipe in RECIPES:
        parent = recipe_of_artifact(recipe.parent)
        assert parent is None or parent.name in seen
        seen.add(recipe.name)


def test_recipe_named_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="Unknown recipe 'onnx_wf16_a16'. Did you mean 'onnx_wf16_af16'"):
        recipe_named("onnx_wf16_a16")


@pytest.mark.parametrize(
    ("isa", "wanted"),
    [
        (Isa.X86_AVX2, "onnx_static_wi7_au8"),
        (Isa.X86_AVX512, "onnx_static_wi7_au8"),
        (Isa.X86_VNNI, "onnx_static_wi8_au8"),
        (Isa.ARM64, "onnx_static_wi8_ai8"),
        (Isa.ARM64_DOT, "onnx_static_wi8_ai8"),
        (Isa.OTHER, "onnx_static_wi8_ai8"),
    ],
)
def test_recipes_for_picks_one_int8_format_by_isa(isa: Isa, wanted: str) -> None:
    names = {recipe.name for recipe in recipes_for(Target("t", isa, (ComputeCapability.SM86,)))}
    assert names & ORT_INT8 == {wanted}
    assert {"onnx_wf16_af16", "tensorrt_static_wi8_ai8", "engine_wf16_af16"} <= names


def test_recipes_for_leaves_engines_out_when_target_has_no_gpu() -> None:
    assert not [r for r in recipes_for(target_of("linux-arm64")) if r.format is Format.ENGINE]


def test_require_suits_names_the_recipe_that_does() -> None:
    with pytest.raises(InputError, match="does not suit target 'linux-x64-vnni'.*onnx_static_wi8_au8"):
        require_suits(recipe_named("onnx_static_wi7_au8"), target_of("linux-x64-vnni"))


def test_require_suits_refuses_engines_when_target_has_no_gpu() -> None:
    with pytest.raises(InputError, match="target 'linux-arm64' has none"):
        require_suits(recipe_named("engine_wf16_af16"), target_of("linux-arm64"))
