"""From an open engine, which is a fake, to its report and its card."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgepress.artifact import Precision, Proof
from edgepress.errors import InputError
from edgepress.inspection.inspection_engine import engine_report, inspected_card, report_text
from edgepress.inspection.inspection_onnx import inspect_onnx
from edgepress.local_gpu import LocalGpu
from optimize.build_options import BuildOptions, LayerDetail
from optimize.engine_from_onnx import engine_from_onnx
from tests.fakes.fake_tensorrt import FAKE_VERSIONS, fake_tensorrt

F32, I8 = Precision.FP32, Precision.INT8


@pytest.mark.parametrize("version", FAKE_VERSIONS)
@pytest.mark.parametrize("detail", LayerDetail)
def test_report_of_an_open_engine(
    version: str, detail: LayerDetail, make_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    trt: Any = fake_tensorrt(version)
    trt.fake.precisions.update(conv1="Int8", conv2="Int8")
    source, plan, orin = make_onnx(), tmp_path / "x.plan", LocalGpu("Orin", "8.7", None)
    built = engine_from_onnx(trt, source, plan, orin, BuildOptions(detail=detail))
    engine = trt.Runtime(trt.Logger()).deserialize_cuda_engine(plan.read_bytes())
    text = report_text(trt, engine, engine.create_execution_context())
    report, card = engine_report(text, inspect_onnx(source).layers), built.card_of(plan, source)
    assert report.ends == ("images", "logits")
    if detail is LayerDetail.NAMES:
        assert (report.mac_share(I8), report.unknown) == (None, ("conv1", "conv2", "dense"))
        with pytest.raises(
            InputError, match=r"got none for conv1, conv2, dense\. Build the plan with detailed"
        ):
            inspected_card(card, report)
        return
    assert [layer.precision for layer in report.weighted] == [I8, I8, F32]
    share = report.mac_share(I8)
    assert share is not None
    assert 0.9 < share < 1
    assert (card.proof, inspected_card(card, report).proof) == (Proof.INFERRED, Proof.INSPECTED)
