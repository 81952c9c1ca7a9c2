"""Each layer quantized alone, against another way to compute the same."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgepress.cli.main import main
from edgepress.errors import InputError
from edgepress.manifest import Manifest
from edgepress.metrics import logit_snr_db
from optimize.accuracy import sensitivity_stage
from optimize.accuracy.fake_quantization import TENSORRT, Scheme, rounded_activation, rounded_weight
from optimize.accuracy.sensitivity import responses_of
from optimize.accuracy.sensitivity_report import SensitivityReport
from optimize.accuracy.sensitivity_stage import SensitivityRequest, measure_sensitivity
from optimize.calibration import CalibrationTable, Range
from optimize.onnx_tensorrt_qdq_from_fp32 import onnx_tensorrt_qdq_from_fp32
from optimize.stage import OptimizeRequest, optimize_folder
from tests.optimize.ranges import ranges_of_onnx

LAYERS = ["conv1", "conv2", "dense"]


@pytest.mark.parametrize("scheme", [TENSORRT, Scheme(63, symmetric=False)])
def test_rounding_stays_within_half_a_step(scheme: Scheme) -> None:
    draw = np.random.default_rng(0)
    weight = draw.normal(0, 1, (4, 3, 2, 2)).astype(np.float32)
    step = np.abs(weight).max(axis=(1, 2, 3), keepdims=True) / scheme.weight_max
    rounded = rounded_weight(weight, 0, scheme)
    assert np.abs(rounded - weight).max() > 0
    assert np.all(np.abs(rounded - weight) <= step / 2 + 1e-6)
    values = np.linspace(0, 6, 10_000, dtype=np.float32)
    found = rounded_activation(values, Range(0, 6), scheme)
    assert np.abs(found - values).max() <= (6 / 127 if scheme.symmetric else 6 / 255) / 2 + 1e-6
    assert len(np.unique(found)) == (128 if scheme.symmetric else 256)


@pytest.mark.parametrize("scheme", [TENSORRT, Scheme(127, symmetric=False)])
def test_rounding_of_activations_clips_to_the_range_and_keeps_zero(scheme: Scheme) -> None:
    found = rounded_activation(np.asarray([-9, 0, 9], np.float32), Range(-1, 3), scheme)
    assert found[1] == 0
    assert found[2] == pytest.approx(3, abs=0.02)
    assert found[0] == pytest.approx(-3 if scheme.symmetric else -1, abs=0.02)


def test_rounding_of_a_channel_of_zeros_is_zero() -> None:
    assert np.all(rounded_weight(np.zeros((2, 3), np.float32), 0, TENSORRT) == 0)
    assert np.all(rounded_activation(np.zeros(3, np.float32), Range(0, 0), TENSORRT) == 0)


def by_reference(path: Path, pictures: list[np.ndarray]) -> np.ndarray:
    model = onnx.load(path)
    model.opset_import[0].version = 19  # the evaluator knows Q/DQ from there on; nothing else changed
    evaluator = ReferenceEvaluator(model)
    return np.concatenate([next(iter(evaluator.run(None, {"images": picture}))) for picture in pictures])


def test_responses_are_those_of_a_file_with_that_layer_alone_quantized(
    make_onnx: Callable[..., Path], pictures: list[np.ndarray], tmp_path: Path
) -> None:
    """Against a Q/DQ file for each layer, in ONNX' own reference evaluator."""
    path = make_onnx()
    ranges = ranges_of_onnx(path, pictures[:6], 6)
    found = responses_of(path, "logits", ranges, TENSORRT, iter(pictures), 12)
    assert list(found.layers) == LAYERS
    reference = by_reference(path, pictures)
    assert logit_snr_db(reference, found.reference) > 110
    for name in LAYERS:
        alone = tmp_path / f"{name}.onnx"
        onnx_tensorrt_qdq_from_fp32(path, alone, ranges, layers=frozenset({name}))
        expected = by_reference(alone, pictures)
        assert logit_snr_db(reference, expected) < 70
        assert logit_snr_db(expected, found.layers[name]) > 90, name


def test_responses_follow_a_branch_around_a_layer(tmp_path: Path) -> None:
    """A residual: what goes around the layer is read as it is, not rounded."""
    draw = np.random.default_rng(1)
    kernel = draw.normal(0, 0.5, (300, 300)).astype(np.float32)
    make = helper.make_node
    nodes = [
        make("Flatten", ["x"], ["flat"], "flat"),
        make("Relu", ["flat"], ["start"], "start"),
        make("MatMul", ["start", "w"], ["product"], "inner"),
        make("Add", ["product", "start"], ["sum"], "sum"),
        make("MatMul", ["sum", "w"], ["logits"], "outer"),  # the same weight again
    ]
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("x", 1, ["n", 10, 10, 3])],
        [helper.make_tensor_value_info("logits", 1, ["n", 300])],
        [numpy_helper.from_array(kernel, "w")],
    )
    path = tmp_path / "residual.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    pictures = [draw.normal(0, 1, (1, 10, 10, 3)).astype(np.float32) for _ in range(3)]
    ranges = ranges_of_onnx(path, pictures, 3)
    found = responses_of(path, "logits", ranges, TENSORRT, pictures, 3)
    start = np.maximum(np.concatenate(pictures).reshape(3, -1), 0)
    rounded = rounded_weight(kernel, 1, TENSORRT)
    inner = rounded_activation(start, ranges["start"], TENSORRT) @ rounded + start
    outer = rounded_activation(start @ kernel + start, ranges["sum"], TENSORRT) @ rounded
    assert logit_snr_db((inner @ kernel).astype(np.float32), found.layers["inner"]) > 100
    assert logit_snr_db(outer.astype(np.float32), found.layers["outer"]) > 100


def test_responses_refuse_a_layer_without_a_range(
    make_onnx: Callable[..., Path], pictures: list[np.ndarray]
) -> None:
    with pytest.raises(InputError, match="input 'nchw' of layer 'conv1' has no calibrated range"):
        responses_of(make_onnx(), "logits", {}, TENSORRT, pictures, 1)


@pytest.fixture
def optimized(spoilt_folder: Path, many: Path) -> Path:
    request = OptimizeRequest(
        spoilt_folder, "linux-x64-avx2", ("tensorrt_static_wi8_ai8",), str(many), samples=20
    )
    optimize_folder(request)
    return spoilt_folder


def test_measure_sensitivity_finds_the_spoilt_layer(optimized: Path, many: Path) -> None:
    report = measure_sensitivity(SensitivityRequest(optimized, str(many), images=200))
    first, *others = report.layers
    assert first.name == "conv2"
    assert first.logit_snr_db is not None
    assert first.logit_snr_db < 10
    assert all(layer.logit_snr_db is not None and layer.logit_snr_db > 30 for layer in others)
    assert (first.kind, first.parameters, first.macs) == ("Conv", 16 * 8 * 9, 16 * 4 * 4 * 8 * 9)
    assert first.agreement < min(layer.agreement for layer in others)
    assert report.images == 100  # those that calibrated are left out
    assert not report.labelled
    assert SensitivityReport.load(optimized) == report
    page = (optimized / "sensitivity.md").read_text()
    assert page.index("| conv2 | Conv |") < page.index("| conv1 | Conv |")
    assert "no labels" in page
    assert "<svg" in (optimized / "sensitivity.svg").read_text()


def test_measure_sensitivity_keeps_what_is_current(
    optimized: Path, many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = measure_sensitivity(SensitivityRequest(optimized, str(many), images=10))

    def refuse(*arguments: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(sensitivity_stage, "responses_of", refuse)
    assert measure_sensitivity(SensitivityRequest(optimized, str(many), images=10)) == first
    with pytest.raises(AssertionError, match="measured again"):
        measure_sensitivity(SensitivityRequest(optimized, str(many), images=11))


def test_measure_sensitivity_refuses_pictures_that_all_calibrated(optimized: Path, tmp_path: Path) -> None:
    table = CalibrationTable.load(optimized)
    assert table is not None
    used = set(table.sample.pictures)
    with np.load(table.sample.source) as archive:
        import hashlib

        images = [i for i in archive["images"] if hashlib.sha256(i.tobytes()).hexdigest() in used]
    np.savez(tmp_path / "used.npz", images=np.stack(images))
    with pytest.raises(InputError, match=r"20 pictures of .*used\.npz also calibrated"):
        measure_sensitivity(SensitivityRequest(optimized, str(tmp_path / "used.npz")))


def test_measure_sensitivity_asks_for_calibration_first(folder: Path, many: Path) -> None:
    with pytest.raises(InputError, match=r"no calibration\.json with the ranges of onnx-fp32.*edgepress"):
        measure_sensitivity(SensitivityRequest(folder, str(many)))


def test_measure_sensitivity_asks_for_an_onnx_model(folder: Path, many: Path) -> None:
    replace(Manifest.load(folder), artifacts=()).save()
    with pytest.raises(InputError, match=r"has none\. Export the model with --format onnx"):
        measure_sensitivity(SensitivityRequest(folder, str(many)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "has schema version None"),
        ('{"schema_version": 9}', "has schema version 9"),
        ('{"schema_version": 1}', "is damaged"),
    ],
)
def test_sensitivity_report_refuses_another_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "sensitivity.json").write_text(text)
    with pytest.raises(InputError, match=message):
        SensitivityReport.load(tmp_path)


def test_command_prints_the_table_or_json(
    optimized: Path, many: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sensitivity", str(optimized), "--data", str(many), "--images", "10"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["layer", "kind"]
    assert lines[1].startswith("conv2")
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["layers"][0]["name"] == "conv2"
