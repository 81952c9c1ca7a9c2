"""Some layers of a TFLite file in INT8, the rest in FP32: names, boundaries, numbers, in real LiteRT."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepress.artifact import Precision
from edgepress.errors import InputError, ProofError
from edgepress.inspection.inspection_tflite import inspect_tflite
from edgepress.inspection.tflite_graph import tflite_model
from edgepress.metrics import logit_snr_db
from edgepress.models.keras_import import import_keras
from edgepress.models.weights import draw_random
from edgepress.runners import litert_runner
from export.conversion import Conversion
from export.tflite_from_keras import tflite_from_keras
from optimize.accuracy.promise import require_layers
from optimize.calibration import Ranges
from optimize.recipe import recipe_named
from optimize.tflite_int8_from_fp32 import tflite_int8_from_fp32
from optimize.tflite_layer_subset import float_part, layers_of_tflite
from tests.optimize.ranges import ranges_of_tflite

INT8, FLOAT_IO = "tflite_static_wi8_ai8", "tflite_static_wi8_ai8_iof32"
LAYERS = ("conv_1", "conv_10", "my_conv_1", "fc.1", "predictions")
PICTURES = [np.random.default_rng(i).uniform(-1, 1, (1, 8, 8, 3)).astype(np.float32) for i in range(12)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Convolutions with names that begin or end alike, a sum, a layer that runs twice, and dense layers."""
    keras = import_keras()
    layers = keras.layers
    x = images = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="conv_1")(x)
    x = layers.MaxPooling2D(2, name="pool")(x)
    y = layers.Conv2D(6, 3, padding="same", activation="relu", name="conv_10")(x)
    x = layers.Add(name="sum")([x, y])
    twice = layers.Conv2D(6, 1, activation="relu", name="my_conv_1")
    x = layers.Flatten(name="flat")(twice(twice(x)))
    x = layers.Dense(8, activation="relu", name="fc.1")(x)
    network = keras.Model(images, layers.Dense(5, name="predictions")(x))
    draw_random(network, 0)
    path = tmp_path_factory.mktemp("tflite") / "fp32.tflite"
    tflite_from_keras(Conversion(network))(path)
    return path


@pytest.fixture(scope="module")
def ranges(source: Path) -> Ranges:
    return ranges_of_tflite(source, PICTURES, len(PICTURES))


def operators_of(path: Path) -> Counter[str]:
    with tflite_model(path) as model:
        return Counter(name for name, _ in model.operators())


def logits_of(path: Path) -> np.ndarray:
    with litert_runner.on_cpu(path, 1) as runner:
        return np.concatenate([runner.infer(picture) for picture in PICTURES])


def quantized(source: Path, result: Path, ranges: Ranges, recipe: str, *layers: str) -> list[str]:
    made = tflite_int8_from_fp32(recipe_named(recipe), source, result, ranges, layers=frozenset(layers))
    return list(made["float_layers"])


def test_layers_are_called_as_in_onnx_also_the_one_that_makes_the_logits(source: Path) -> None:
    assert layers_of_tflite(source) == LAYERS
    with tflite_model(source) as model:
        outputs = [name for name, _ in model.outputs()]
    assert outputs == ["logits"]  # what litert_quantizer calls that layer


@pytest.mark.parametrize(
    "layers",
    [{"conv_1"}, {"conv_10"}, {"fc.1"}, {"predictions"}, {"my_conv_1"}, {"conv_1", "fc.1"}, set(LAYERS[1:])],
    ids=lambda layers: "+".join(sorted(layers)),
)
def test_only_the_named_layers_are_quantized(
    layers: set[str], source: Path, ranges: Ranges, tmp_path: Path
) -> None:
    result = tmp_path / "some.tflite"
    left = quantized(source, result, ranges, INT8, *layers)
    assert left == [name for name in LAYERS if name not in layers]
    inspection = inspect_tflite(result)
    assert {layer.name for layer in inspection.layers if layer.computed is Precision.INT8} == layers
    assert {layer.name for layer in inspection.layers if layer.stored is Precision.INT8} == layers
    require_layers(recipe_named(INT8), inspection, frozenset(layers))
    assert {spec.dtype for spec in (*inspection.inputs, *inspection.outputs)} == {"int8"}
    assert 20 < logit_snr_db(logits_of(source), logits_of(result)) < 60


def test_nothing_quantized_gives_the_numbers_of_fp32(source: Path, ranges: Ranges, tmp_path: Path) -> None:
    result = tmp_path / "none.tflite"
    assert quantized(source, result, ranges, FLOAT_IO) == list(LAYERS)
    np.testing.assert_allclose(logits_of(result), logits_of(source), rtol=1e-5, atol=1e-6)
    assert not {"QUANTIZE", "DEQUANTIZE"} & operators_of(result).keys()


def test_all_names_give_the_same_file_as_none(source: Path, ranges: Ranges, tmp_path: Path) -> None:
    named, every = tmp_path / "named.tflite", tmp_path / "every.tflite"
    assert quantized(source, named, ranges, INT8, *LAYERS) == []
    assert tflite_int8_from_fp32(recipe_named(INT8), source, every, ranges) == {}
    assert named.read_bytes() == every.read_bytes()


def test_no_boundary_gains_nothing(source: Path, ranges: Ranges, tmp_path: Path) -> None:
    result = tmp_path / "some.tflite"
    quantized(source, result, ranges, FLOAT_IO, "conv_1", "fc.1")
    with tflite_model(result) as model:
        found = {name: model.type_of(op.Outputs(0)).name for name, op in model.operators()}
    # The pooling behind conv_1 stays in 8 bits; the sum of what is in FP32 does not, and no Reshape either.
    assert {name: found[name] for name in ("MAX_POOL_2D", "ADD", "RESHAPE")} == {
        "MAX_POOL_2D": "INT8",
        "ADD": "FLOAT32",
        "RESHAPE": "FLOAT32",
    }
    run = operators_of(result)
    assert (run["QUANTIZE"], run["DEQUANTIZE"]) == (2, 2)


def test_a_sum_is_in_8_bits_only_between_8_bit_layers(source: Path) -> None:
    def summed(*layers: str) -> bool:
        part = float_part(source, frozenset(layers), integer_input=True)
        return "ADD" not in {operator.kind for operator in part.operators}

    assert summed("conv_1", "conv_10", "my_conv_1")
    assert not summed("conv_1", "conv_10")
    assert not summed("conv_10", "my_conv_1")


def test_an_unknown_layer_is_refused_with_the_nearest(source: Path, ranges: Ranges, tmp_path: Path) -> None:
    result = tmp_path / "some.tflite"
    with pytest.raises(InputError, match=r"Unknown layer 'fc1'. Did you mean 'fc\.1'. .*Known: conv_1,"):
        quantized(source, result, ranges, INT8, "fc1")
    assert not result.exists()


def test_a_layer_that_runs_twice_must_be_quantized_both_times(
    source: Path, ranges: Ranges, tmp_path: Path
) -> None:
    quantized(source, tmp_path / "some.tflite", ranges, INT8, "my_conv_1")
    inspection = inspect_tflite(tmp_path / "some.tflite")
    first = next(i for i, layer in enumerate(inspection.layers) if layer.name == "my_conv_1")
    spoilt = list(inspection.layers)
    spoilt[first] = replace(spoilt[first], computed=Precision.FP32)
    require_layers(recipe_named(INT8), inspection, frozenset({"my_conv_1"}))
    with pytest.raises(ProofError, match="Wrong: my_conv_1"):
        require_layers(
            recipe_named(INT8), replace(inspection, layers=tuple(spoilt)), frozenset({"my_conv_1"})
        )
