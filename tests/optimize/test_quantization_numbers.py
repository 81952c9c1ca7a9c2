"""What quantization promises about numbers: bounds that hold for any weight, and ONNX' own reference."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from edgepress.metrics import logit_snr_db
from optimize.onnx_qdq_from_fp32 import onnx_qdq_from_fp32
from optimize.onnx_tensorrt_qdq_from_fp32 import (
    largest_of_channels,
    onnx_tensorrt_qdq_from_fp32,
    quantize_weight,
    quantize_with,
    scales_of,
)
from optimize.recipe import NumberFormat, recipe_named
from tests.optimize.ranges import ranges_of_onnx

MakeOnnx = Callable[..., Path]
Pictures = list[np.ndarray]
F16, F32 = NumberFormat.F16, NumberFormat.F32


def weights(seed: int) -> tuple[np.ndarray, int]:
    """A random weight and its axis of output channels: any rank, spread, skew and magnitude."""
    draw = np.random.default_rng(seed)
    shape = tuple(draw.integers(1, 7, draw.integers(1, 5)).tolist())
    kinds = (draw.normal, draw.laplace, draw.uniform, draw.gumbel)
    weight = kinds[seed % 4](size=shape) * 10.0 ** draw.uniform(-6, 4)
    axis = int(draw.integers(len(shape)))
    weight *= 10.0 ** draw.uniform(-3, 0, [n if i == axis else 1 for i, n in enumerate(shape)])
    if seed % 3 == 0:
        np.moveaxis(weight, axis, 0)[0] = 0  # a dead channel
    return weight.astype(np.float32), axis


@pytest.mark.parametrize("rest", [F32, F16])
def test_quantized_weights_are_within_half_a_step(rest: NumberFormat) -> None:
    for seed in range(300):
        weight, axis = weights(seed)
        scales = scales_of(largest_of_channels(weight, axis), rest)
        stored = quantize_with(weight, axis, scales)
        assert stored.dtype == np.int8
        assert np.abs(stored.astype(int)).max(initial=0) <= 127
        assert scales.shape == (weight.shape[axis],)
        assert scales.dtype == np.float32
        assert np.all(np.isfinite(scales) & (scales > 0))
        steps = scales.reshape([-1 if i == axis else 1 for i in range(weight.ndim)])
        # The division and the product each round once, by 2⁻²⁴ of 127 steps at most.
        assert np.all(np.abs(weight - steps * stored) <= steps * (0.5 + 127 * 2.0**-22)), seed


def test_quantize_weight_uses_all_steps_of_each_channel_that_lives() -> None:
    for seed in range(300):
        weight, axis = weights(seed)
        stored, scales = quantize_weight(weight, axis)
        others = tuple(i for i in range(weight.ndim) if i != axis)
        largest = np.abs(stored.astype(int)).max(axis=others)
        alive = np.abs(weight).max(axis=others) > 127e-12
        assert np.all(largest[alive] == 127)
        assert np.all(largest[np.abs(weight).max(axis=others) == 0] == 0)
        assert np.all(scales > 0)


def test_quantize_weight_is_symmetric() -> None:
    for seed in range(100):
        weight, axis = weights(seed)
        (stored, scales), (mirrored, same) = quantize_weight(weight, axis), quantize_weight(-weight, axis)
        np.testing.assert_array_equal(stored, -mirrored)
        np.testing.assert_array_equal(scales, same)


def test_fp16_scales_are_exact_in_fp16_and_normal() -> None:
    for seed in range(300):
        weight, axis = weights(seed)
        scales = scales_of(largest_of_channels(weight, axis), F16)
        np.testing.assert_array_equal(scales.astype(np.float16).astype(np.float32), scales)
        assert np.all(scales >= 2.0**-14)


def session_of(path: Path, *, optimized: bool) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def by_reference(path: Path, pictures: Pictures) -> np.ndarray:
    model = onnx.load(path)
    # The evaluator knows Q/DQ from operator set 19 on; no operator here changed its meaning since 17.
    model.opset_import[0].version = max(model.opset_import[0].version, 19)
    evaluator = ReferenceEvaluator(model)
    return np.concatenate([next(iter(evaluator.run(None, {"images": picture}))) for picture in pictures])


def by_onnxruntime(path: Path, pictures: Pictures, *, optimized: bool) -> np.ndarray:
    session = session_of(path, optimized=optimized)
    return np.concatenate([session.run(None, {"images": picture})[0] for picture in pictures])


def kill_a_filter(path: Path) -> None:
    model = onnx.load(path)
    for name in ("conv1_kernel", "conv1_bias"):
        tensor = next(t for t in model.graph.initializer if t.name == name)
        array = numpy_helper.to_array(tensor).copy()
        array[2] = 0
        tensor.CopyFrom(numpy_helper.from_array(array, name))
    onnx.save(model, path)


@pytest.mark.parametrize("is_dead", [False, True])
@pytest.mark.parametrize("rest", [F32, F16])
def test_our_qdq_for_tensorrt_means_to_onnx_what_it_means_to_onnx_runtime(
    rest: NumberFormat, is_dead: bool, make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path
) -> None:
    source, result = make_onnx(), tmp_path / "q.onnx"
    if is_dead:
        kill_a_filter(source)
    onnx_tensorrt_qdq_from_fp32(source, result, ranges_of_onnx(source, pictures, 12), rest=rest)
    reference = by_reference(result, pictures)
    assert np.all(np.isfinite(reference))
    found = by_onnxruntime(result, pictures, optimized=False)
    # Sums in another order: a value at the border of two steps may fall to the other side.
    assert logit_snr_db(reference, found) > (45 if rest is F32 else 30)
    assert logit_snr_db(by_reference(source, pictures), found) > 18


@pytest.mark.parametrize("is_dead", [False, True])
@pytest.mark.parametrize("name", ["onnx_static_wi7_au8", "onnx_static_wu8_au8"])
def test_qdq_for_onnx_runtime_means_to_onnx_what_its_8_bit_kernels_compute(
    name: str, is_dead: bool, make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path
) -> None:
    """On any CPU: neither 7-bit weights nor unsigned ones saturate."""
    source, result = make_onnx(), tmp_path / "q.onnx"
    if is_dead:
        kill_a_filter(source)
    onnx_qdq_from_fp32(recipe_named(name), source, result, ranges_of_onnx(source, pictures, 12))
    reference = by_reference(result, pictures)
    assert np.all(np.isfinite(reference))
    assert logit_snr_db(reference, by_onnxruntime(result, pictures, optimized=True)) > 40
    assert logit_snr_db(by_reference(source, pictures), reference) > 18
