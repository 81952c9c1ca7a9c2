"""Calibration of the small classifier, against all of its activations at once."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgepress.errors import InputError, ProofError
from edgepress.inspection.onnx_graph import load_graph, without_weights
from optimize.calibration import CalibrationMethod, GraphCalibration, Range
from optimize.calibration.clipping import clipped_range
from optimize.calibration.histogram import Histogram
from optimize.calibration.onnx_calibration import (
    _Reduced,
    calibrate_onnx,
    tensors_of_onnx,
    tensors_of_onnx_file,
)
from tests.optimize.ranges import ranges_of_onnx

MakeOnnx = Callable[..., Path]
Pictures = list[NDArray[np.float32]]
# Of the small classifier in conftest.py; a chain has one range.
SOURCE = {
    **dict.fromkeys(("images", "nchw"), "images"),
    **dict.fromkeys(("relu1", "pool"), "relu1"),
    **dict.fromkeys(("relu2", "nhwc", "flat"), "relu2"),
    **{name: name for name in ("conv1", "conv2", "product", "logits")},
}
CLIPPABLE = {"relu1", "relu2", "product"}


def calibrated(
    path: Path, pictures: Pictures, method: CalibrationMethod = CalibrationMethod.MINMAX
) -> GraphCalibration:
    return calibrate_onnx(path, iter(pictures), [f"p{i}" for i in range(len(pictures))], method)


def activations_of(path: Path, pictures: Pictures) -> dict[str, NDArray[np.float32]]:
    model = onnx.load(path)
    names = [name for node in model.graph.node for name in node.output]
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    images = np.concatenate(pictures)
    return {"images": images, **dict(zip(names, session.run(None, {"images": images}), strict=True))}


def test_tensors_take_the_range_of_where_their_values_come_from(make_onnx: MakeOnnx) -> None:
    found = tensors_of_onnx_file(make_onnx())
    assert found.source == SOURCE
    assert found.clippable == CLIPPABLE


def test_minmax_is_what_every_activation_took(make_onnx: MakeOnnx, pictures: Pictures) -> None:
    path = make_onnx()
    found, values = calibrated(path, pictures), activations_of(path, pictures)
    assert set(found.observed) == set(found.ranges) == set(values)
    for name, array in values.items():
        assert found.observed[name].lowest == pytest.approx(array.min(), rel=1e-5, abs=1e-6)
        assert found.observed[name].highest == pytest.approx(array.max(), rel=1e-5, abs=1e-6)
    for name, source in SOURCE.items():
        assert found.ranges[name] == found.observed[source].with_range(Range(0, 0))
    assert ranges_of_onnx(path, pictures, len(pictures)) == found.ranges


@pytest.mark.parametrize("method", list(CalibrationMethod))
def test_ranges_do_not_depend_on_the_order_of_the_pictures(
    make_onnx: MakeOnnx, pictures: Pictures, method: CalibrationMethod
) -> None:
    path = make_onnx()
    pictures = [picture * 2.0 ** (i - 6) for i, picture in enumerate(pictures)]
    found = calibrated(path, pictures, method)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(pictures))
        other = calibrated(path, [pictures[i] for i in order], method)
        assert other.observed == found.observed
        if method is CalibrationMethod.MOVING_AVERAGE:  # equal up to the rounding of a sum
            for name, wanted in found.ranges.items():
                assert other.ranges[name].highest == pytest.approx(wanted.highest, rel=1e-9)
        else:
            assert other.ranges == found.ranges


@pytest.mark.parametrize("method", [m for m in CalibrationMethod if m.needs_histograms])
def test_methods_clip_new_values_by_all_pictures_and_nothing_else(
    make_onnx: MakeOnnx, pictures: Pictures, method: CalibrationMethod
) -> None:
    path = make_onnx()
    found, values = calibrated(path, pictures, method), activations_of(path, pictures)
    for name, source in SOURCE.items():
        seen = found.observed[source]
        wanted = seen
        if source in CLIPPABLE:
            histogram = Histogram()
            histogram.add(values[source], seen.lowest, seen.highest)
            wanted = clipped_range(method, histogram, seen)
        wanted = wanted.quantizable()
        assert found.ranges[name].lowest == pytest.approx(wanted.lowest, rel=2e-2, abs=1e-9)
        assert found.ranges[name].highest == pytest.approx(wanted.highest, rel=2e-2)


def test_only_what_gets_clipped_leaves_the_graph(make_onnx: MakeOnnx) -> None:
    for method in CalibrationMethod:
        graph = without_weights(load_graph(make_onnx()))
        _Reduced(graph, tensors_of_onnx(graph), method)
        outputs = {value.name for value in graph.graph.output}
        fetched = {name for name in outputs if not name.startswith("edgepress_")}
        assert fetched == (CLIPPABLE if method.needs_histograms else set())


def test_moving_average_is_the_mean_of_each_picture_up_to_a_hundred(
    make_onnx: MakeOnnx, pictures: Pictures
) -> None:
    path = make_onnx()
    found = calibrated(path, pictures, CalibrationMethod.MOVING_AVERAGE)
    values = activations_of(path, pictures)["relu1"]
    assert found.ranges["relu1"].highest == pytest.approx(values.max(axis=(1, 2, 3)).mean(), rel=1e-5)


@pytest.mark.parametrize("opset", [17, 18])
def test_channel_means_are_those_of_each_layers_input(
    make_onnx: MakeOnnx, pictures: Pictures, opset: int
) -> None:
    path = make_onnx()
    model = onnx.load(path)
    model.opset_import[0].version = opset
    onnx.save(model, path)
    values = activations_of(path, pictures)
    means = calibrated(path, pictures, CalibrationMethod.ENTROPY).channel_means
    assert set(means) == {"nchw", "pool", "flat"}
    for name in means:
        exact = values[name].astype(np.float64)
        wanted = exact.mean(axis=(0, 2, 3) if exact.ndim == 4 else 0)
        assert means[name].dtype == np.float32
        np.testing.assert_allclose(means[name], wanted, rtol=1e-5, atol=1e-6)


def test_progress_is_told_about_each_picture(make_onnx: MakeOnnx, pictures: Pictures) -> None:
    path, seen = make_onnx(), []
    ranges_of_onnx(path, pictures, 12, lambda *state: seen.append(state))
    assert seen == [(f"calibrate {path.stem}", i, 12) for i in range(1, 13)]


def test_halves_are_compared_tensor_by_tensor(make_onnx: MakeOnnx, pictures: Pictures) -> None:
    path = make_onnx()
    found = calibrated(path, [*pictures[:6], *(picture * 0.25 for picture in pictures[6:])])
    assert found.stability is not None
    assert found.stability.pictures == (6, 6)
    assert set(found.stability.differences) == CLIPPABLE
    halves = [calibrated(path, part) for part in (pictures[:6], [p * 0.25 for p in pictures[6:]])]
    first, second = (half.ranges["relu1"].highest for half in halves)
    assert found.stability.differences["relu1"] == pytest.approx(1 - second / first)
    assert calibrated(path, pictures[:1]).stability is None


def spoiled(path: Path, place: int) -> Path:
    """The classifier with one weight that is no number."""
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if t.name == "conv2_kernel")
    kernel = numpy_helper.to_array(tensor).copy()
    kernel[place, 0, 0, 0] = np.nan
    tensor.CopyFrom(numpy_helper.from_array(kernel, tensor.name))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("place", [0, 7, 15])
def test_a_nan_is_found_wherever_it_stands(make_onnx: MakeOnnx, pictures: Pictures, place: int) -> None:
    # ONNX Runtime's ReduceMin and ReduceMax, and its MaxPool, pass over a NaN unless it comes first.
    with pytest.raises(ProofError, match="picture 'p0' made tensor 'conv2' take .* not finite .nan…nan"):
        calibrated(spoiled(make_onnx(), place), pictures)


def test_a_picture_that_overflows_is_named(make_onnx: MakeOnnx, pictures: Pictures) -> None:
    pictures[3][0, 0, 0, 0] = np.inf
    with pytest.raises(
        ProofError, match="picture 'p3' made tensor 'images' take .* not finite .*--preprocess"
    ):
        calibrated(make_onnx(), pictures)


def test_no_pictures_are_refused(make_onnx: MakeOnnx) -> None:
    with pytest.raises(InputError, match="got no pictures: wanted at least 1. Name them with --data"):
        calibrated(make_onnx(), [])


def test_a_file_that_is_no_onnx_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"\xff no model")
    with pytest.raises(InputError, match="cannot be read as ONNX"):
        ranges_of_onnx(path, [], 0)


@pytest.mark.parametrize("method", list(CalibrationMethod))
def test_a_tensor_that_is_always_0_gets_a_positive_scale(
    make_onnx: MakeOnnx, pictures: Pictures, method: CalibrationMethod, caplog: pytest.LogCaptureFixture
) -> None:
    path = make_onnx()
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name in {"conv1_kernel", "conv1_bias"}:
            zeros = np.zeros_like(numpy_helper.to_array(tensor)) - (tensor.name == "conv1_bias")
            tensor.CopyFrom(numpy_helper.from_array(zeros.astype(np.float32), tensor.name))
    onnx.save(model, path)
    found = calibrated(path, pictures, method)
    assert found.observed["relu1"] == Range(0, 0)
    assert found.ranges["relu1"] == found.ranges["pool"] == Range(0, 1)
    assert found.channel_means["pool"].tolist() == [0] * 8
    assert "tensor 'relu1' is 0 for all pictures (2 such tensors)" in caplog.text


def graph_of(nodes: list[onnx.NodeProto], **constants: NDArray[np.generic]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 8, 8, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_pixels_that_are_preprocessed_inside_are_not_clipped() -> None:
    make = helper.make_node
    model = graph_of(
        [
            make("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
            make("Mul", ["float", "scale"], ["scaled"]),
            make("Transpose", ["scaled"], ["nchw"], perm=[0, 3, 1, 2]),
            make("Conv", ["nchw", "kernel"], ["conv"]),
            make("Mul", ["conv", "scale"], ["gated"]),
            make("Sigmoid", ["gated"], ["sigmoid"]),
            make("Mul", ["gated", "sigmoid"], ["swish"]),
            make("Flatten", ["swish"], ["y"]),
        ],
        scale=np.array([2.0], np.float32),
        kernel=np.zeros((4, 3, 3, 3), np.float32),
    )
    # The graph's output is swish, moved.
    assert tensors_of_onnx(model).clippable == {"conv", "gated", "sigmoid"}


@pytest.mark.parametrize("activation", ["Softmax", "Sigmoid"])
def test_logits_under_probabilities_are_not_clipped(activation: str) -> None:
    make = helper.make_node
    model = graph_of(
        [
            make("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
            make("Conv", ["float", "kernel"], ["conv"]),
            make(activation, ["conv"], ["inner"]),
            make("Conv", ["inner", "kernel"], ["logits"]),
            make("Flatten", ["logits"], ["flat"]),
            make(activation, ["flat"], ["y"]),
        ],
        kernel=np.zeros((8, 8, 1, 1), np.float32),
    )
    assert tensors_of_onnx(model).clippable == {"conv", "inner"}


@pytest.mark.parametrize(("value", "source"), [(0.0, "conv"), (-5.0, "padded")])
def test_padding_with_0_moves_values(value: float, source: str) -> None:
    make = helper.make_node
    model = graph_of(
        [
            make("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
            make("Conv", ["float", "kernel"], ["conv"]),
            make("Pad", ["conv", "pads", "value"], ["padded"]),
            make("Conv", ["padded", "kernel"], ["y"]),
        ],
        pads=np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        value=np.array(value, np.float32),
        kernel=np.zeros((8, 8, 1, 1), np.float32),
    )
    assert tensors_of_onnx(model).source["padded"] == source


def test_a_relu_takes_the_place_of_what_it_reads_only_if_nothing_else_reads_that() -> None:
    make = helper.make_node
    model = graph_of(
        [
            make("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
            make("Conv", ["float", "kernel"], ["a"]),
            make("Relu", ["a"], ["b"]),
            make("Conv", ["b", "kernel"], ["c"]),
            make("Relu", ["c"], ["d"]),
            make("Add", ["c", "d"], ["e"]),
            make("Conv", ["e", "kernel"], ["y"]),
        ],
        kernel=np.zeros((8, 8, 1, 1), np.float32),
    )
    assert tensors_of_onnx(model).clippable == {"b", "c", "d", "e"}
