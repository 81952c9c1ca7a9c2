"""Weights put back into a plan, with fakes: the real refitter needs a GPU."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from edgepress.engine_card import EngineCard
from edgepress.errors import InputError, MissingDeviceError, ProofError
from edgepress.files import sha256_of_file
from edgepress.local_gpu import LocalGpu
from optimize.build_options import BuildOptions, WeightsInPlan
from optimize.engine_from_onnx import engine_from_onnx
from optimize.engine_refit import refitted
from tests.fakes.fake_tensorrt import FAKE_VERSIONS, fake_tensorrt

MakeOnnx = Callable[..., Path]
STRIPPED, REFITTABLE = WeightsInPlan.STRIPPED, WeightsInPlan.REFITTABLE


@pytest.fixture(params=FAKE_VERSIONS)
def trt(request: pytest.FixtureRequest) -> Any:
    """Each fake."""
    return fake_tensorrt(request.param)


def _built(trt: Any, source: Path, plan: Path, weights: WeightsInPlan) -> EngineCard:
    orin = LocalGpu("Orin", "8.7", None)
    return engine_from_onnx(trt, source, plan, orin, BuildOptions(weights=weights)).card_of(plan, source)


def test_stripped_plan_gets_its_weights_back(trt: Any, make_onnx: MakeOnnx, tmp_path: Path) -> None:
    source, plan, whole = make_onnx(), tmp_path / "thin.plan", tmp_path / "whole.plan"
    card = _built(trt, source, plan, STRIPPED)
    new = refitted(trt, card, plan, source, whole)
    assert plan.stat().st_size < source.stat().st_size / 2
    assert whole.stat().st_size == new.plan_bytes >= source.stat().st_size
    assert (new.plan_sha256, new.flags, new.source_sha256) == (sha256_of_file(whole), (), card.source_sha256)
    assert trt.Runtime(trt.Logger()).deserialize_cuda_engine(whole.read_bytes()) is not None


def test_stripped_plan_takes_its_own_weights_only(trt: Any, make_onnx: MakeOnnx, tmp_path: Path) -> None:
    plan, whole = tmp_path / "thin.plan", tmp_path / "whole.plan"
    card = _built(trt, make_onnx(0), plan, STRIPPED)
    with pytest.raises(
        InputError, match=r"takes the weights that it was built with only, and fp32-1-1\.0\.onnx is"
    ):
        refitted(trt, card, plan, make_onnx(1), whole)
    assert not whole.exists()


def test_refittable_plan_takes_others(trt: Any, make_onnx: MakeOnnx, tmp_path: Path) -> None:
    plan, other, changed = tmp_path / "a.plan", make_onnx(1), tmp_path / "b.plan"
    card = _built(trt, make_onnx(0), plan, REFITTABLE)
    new = refitted(trt, card, plan, other, changed)
    assert (new.flags, new.source_sha256) == (("REFIT",), sha256_of_file(other))


def test_what_cannot_be_refitted_is_refused(trt: Any, make_onnx: MakeOnnx, tmp_path: Path) -> None:
    source, plan, whole = make_onnx(), tmp_path / "a.plan", tmp_path / "b.plan"
    fixed = _built(trt, source, plan, WeightsInPlan.FIXED)
    with pytest.raises(
        InputError, match=r"a\.plan has its weights for good\. Build a stripped or a refittable"
    ):
        refitted(trt, fixed, plan, source, whole)
    card = _built(trt, source, plan, REFITTABLE)
    model = onnx.load(source)
    model.graph.node[1].name = "another"
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(
        ProofError, match=r"does not take the weights of other\.onnx: Weights are not in the engine\."
    ):
        refitted(trt, card, plan, tmp_path / "other.onnx", whole)
    trt.fake.open_failure = ("wrong device",)
    with pytest.raises(ProofError, match=r"does not open a\.plan: wrong device\. Build it anew\.$"):
        refitted(trt, card, plan, source, whole)
    trt.fake.has_driver = False
    with pytest.raises(MissingDeviceError, match=r"no usable NVIDIA driver here: CUDA init"):
        refitted(trt, card, plan, source, whole)
    plan.write_bytes(plan.read_bytes()[:-1])
    with pytest.raises(InputError, match="it is not whole"):
        refitted(trt, card, plan, source, whole)
    assert not whole.exists()
