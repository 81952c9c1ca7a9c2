"""Inspector reports of TensorRT 10 and 11, written by hand."""

import json
from pathlib import Path

import pytest

from edgepress.artifact import Precision
from edgepress.errors import InputError
from edgepress.inspection.inspection_engine import engine_report, inspected_card
from edgepress.inspection.layer import Layer

REPORTS = Path(__file__).parent / "engine_reports"
F32, F16, I8 = Precision.FP32, Precision.FP16, Precision.INT8
NETWORK = (
    Layer("conv1", 216, 600, I8, I8, "Conv"),
    Layer("conv2", 1152, 300, I8, I8, "Conv"),
    Layer("dense", 80, 100, I8, I8, "MatMul"),
)


def _text(name: str) -> str:
    text = (REPORTS / f"{name}.json").read_text(encoding="utf-8")
    assert "by hand" in json.loads(text)["_handmade"]
    return text


def test_report_of_tensorrt_10() -> None:
    report = engine_report(_text("tensorrt-10"), NETWORK)
    assert report.ends == ("images", "logits")
    assert [(layer.name, layer.precision) for layer in report.weighted] == [
        ("conv1", I8),
        ("conv2", F16),
        ("dense", F32),  # INT8 times FP32 is no INT8
    ]
    assert (report.mac_share(I8), report.mac_share(F16), report.mac_share(F32)) == (0.6, 0.3, 0.1)
    assert [layer.name for layer in report.fused] == ["conv1 + relu1", "dense"]
    assert report.fused[0].sources == ("conv1", "relu1")
    assert report.fused[0].tactic.startswith("sm80_xmma")
    assert report.reformats == 1
    assert report.unknown == ()
    assert report.weighted[0].engine_layer == "conv1 + relu1"


def test_report_of_tensorrt_11() -> None:
    report = engine_report(_text("tensorrt-11"), NETWORK)
    assert report.ends == ("images", "logits")
    assert [layer.precision for layer in report.weighted] == [I8, I8, F16]
    assert report.mac_share(I8) == pytest.approx(0.9)
    assert report.weighted[1].engine_layer == "conv2_myl0_2"
    assert report.reformats == 0


def test_layer_without_metadata_is_told_by_its_name() -> None:
    value = json.loads(_text("tensorrt-10"))
    for layer in value["Layers"]:
        layer["Metadata"] = ""
    report = engine_report(json.dumps(value), NETWORK)
    assert report.weighted[0].engine_layer == "conv1 + relu1"
    assert report.weighted[0].precision is I8


def test_layer_that_no_engine_layer_names_is_unknown() -> None:
    report = engine_report(_text("tensorrt-10"), (*NETWORK, Layer("lost", 1, 1, I8, I8)))
    assert report.unknown == ("lost",)
    assert report.mac_share(I8) is None


def test_reformat_never_stands_for_a_layer() -> None:
    value = json.loads(_text("tensorrt-10"))
    value["Layers"] = [{**value["Layers"][0], "Metadata": "[ONNX Layer: conv1]"}]
    assert engine_report(json.dumps(value), NETWORK[:1]).unknown == ("conv1",)


@pytest.mark.parametrize("odd", ["FP8", "BF16", "Int32", ""])
def test_type_that_is_none_of_three_is_unknown(odd: str) -> None:
    value = json.loads(_text("tensorrt-11"))
    value["Layers"][3]["Inputs"][0]["Format/Datatype"] = odd
    assert engine_report(json.dumps(value), NETWORK).unknown == ("dense",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", r"^The inspector's report is no JSON \(.*\)\. Ask the inspector of an open engine"),
        ("[]", r"^The inspector's report has no list of layers\. Ask"),
        ('{"Layers": {}, "Bindings": []}', r"has no list of layers"),
        ('{"Layers": []}', r"^The inspector's report has no `Bindings` or `I/O Tensors`\. Ask"),
        ('{"Layers": [3], "Bindings": []}', r"has a layer that is neither a name nor an object\. Ask"),
    ],
)
def test_what_is_no_report_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        engine_report(text, NETWORK)


def test_card_of_a_report_without_weighted_layers_stays_inferred() -> None:
    report = engine_report(_text("tensorrt-10"), ())
    assert report.mac_share(I8) is None
    with pytest.raises(InputError, match="got none for any"):
        inspected_card(None, report)  # type: ignore[arg-type]  # it is not looked at
