"""TensorRT-RTX builds without a GPU; running a plan is not tested here."""

import importlib.util
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgepress.engine_card import BatchRange, HardwareCompatibility
from edgepress.errors import InputError, MissingRuntimeError, ProofError
from edgepress.local_gpu import LocalGpu
from edgepress.machine import cuda_device_absence
from edgepress.target import ComputeCapability
from optimize.build_options import (
    BuildOptions,
    LayerDetail,
    Tf32,
    VersionCompatibility,
    WeightsInPlan,
)
from optimize.engine_from_onnx import engine_from_onnx, tensorrt_rtx
from optimize.onnx_fp16_from_fp32 import onnx_fp16_from_fp32
from optimize.onnx_qdq_from_fp32 import onnx_qdq_from_fp32
from optimize.onnx_tensorrt_qdq_from_fp32 import onnx_tensorrt_qdq_from_fp32
from optimize.recipe import recipe_named
from tests.optimize.ranges import ranges_of_onnx

MakeOnnx = Callable[..., Path]
Pictures = list[np.ndarray]

needs_builder = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx has no package for this platform"
)


@needs_builder
@pytest.mark.parametrize("capability", [ComputeCapability.SM86, ComputeCapability.SM89])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_engine_from_onnx_builds_without_a_gpu(
    precision: str, capability: ComputeCapability, make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path
) -> None:
    source, plan = make_onnx(), tmp_path / "x.plan"
    ranges, made_from = ranges_of_onnx(source, pictures, 12), tmp_path / f"{precision}.onnx"
    if precision == "fp16":
        onnx_fp16_from_fp32(source, made_from, ranges)
    elif precision == "int8":
        onnx_tensorrt_qdq_from_fp32(source, made_from, ranges)
    else:
        made_from = source
    made = engine_from_onnx(tensorrt_rtx(), made_from, plan, capability)
    assert plan.stat().st_size > 5000
    assert made.capabilities == capability.capabilities
    assert made.batch == BatchRange(1, 1, 1)


@needs_builder
def test_engine_from_onnx_takes_a_batch_that_the_graph_fixes(make_onnx: MakeOnnx, tmp_path: Path) -> None:
    model = onnx.load(make_onnx())
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(model, tmp_path / "two.onnx")
    made = engine_from_onnx(
        tensorrt_rtx(), tmp_path / "two.onnx", tmp_path / "x.plan", ComputeCapability.SM86
    )
    assert made.batch == BatchRange(2, 2, 2)


@needs_builder
def test_engine_from_onnx_reports_what_the_parser_refuses(
    make_onnx: MakeOnnx, pictures: Pictures, tmp_path: Path
) -> None:
    source, plan = make_onnx(), tmp_path / "x.plan"
    onnx_qdq_from_fp32(
        recipe_named("onnx_static_wi8_ai8"), source, tmp_path / "q.onnx", ranges_of_onnx(source, pictures, 12)
    )
    with pytest.raises(
        ProofError,
        match=r"cannot parse q\.onnx: node \d+ \(DequantizeLinear .*has type Int32 but must have type",
    ):
        engine_from_onnx(tensorrt_rtx(), tmp_path / "q.onnx", plan, ComputeCapability.SM86)
    assert not plan.exists()


@needs_builder
def test_engine_from_onnx_reports_what_the_builder_refuses(make_onnx: MakeOnnx, tmp_path: Path) -> None:
    with pytest.raises(ProofError, match="cannot build .* for sm75: .*FP32"):
        engine_from_onnx(tensorrt_rtx(), make_onnx(), tmp_path / "x.plan", ComputeCapability.SM75)


@needs_builder
@pytest.mark.parametrize("capability", [c for c in ComputeCapability if c is not ComputeCapability.SM75])
def test_rtx_takes_what_is_asked_for(
    capability: ComputeCapability, make_onnx: MakeOnnx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt: Any = tensorrt_rtx()
    build, asked = trt.Builder.build_serialized_network, []

    def seen(builder: Any, network: Any, config: Any) -> Any:
        count = config.num_compute_capabilities
        asked.append(
            (
                [config.get_compute_capability(index).name for index in range(count)],
                config.get_flag(trt.BuilderFlag.TF32),
                config.builder_optimization_level,
                config.profiling_verbosity.name,
                config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE),
                config.num_optimization_profiles,
            )
        )
        return build(builder, network, config)

    monkeypatch.setattr(trt.Builder, "build_serialized_network", seen)
    source = make_onnx()
    options = BuildOptions(
        tf32=Tf32.ON, optimization_level=2, detail=LayerDetail.NAMES, workspace_bytes=1 << 30
    )
    engine_from_onnx(trt, source, tmp_path / "x.plan", capability)
    engine_from_onnx(trt, source, tmp_path / "x.plan", capability, options)
    named = [] if capability is ComputeCapability.ALL else [capability.name]
    assert [entry[:4] for entry in asked] == [
        (named, False, 3, "DETAILED"),
        (named, True, 2, "LAYER_NAMES_ONLY"),
    ]
    assert (asked[1][4], [entry[5] for entry in asked]) == (1 << 30, [1, 1])


@needs_builder
def test_rtx_builds_for_a_range_of_batches(make_onnx: MakeOnnx, tmp_path: Path) -> None:
    options, plan = BuildOptions(batch=BatchRange(1, 4, 8)), tmp_path / "x.plan"
    built = engine_from_onnx(tensorrt_rtx(), make_onnx(), plan, ComputeCapability.SM86, options)
    assert built.batch == BatchRange(1, 4, 8)
    assert plan.stat().st_size > 5000


@needs_builder
def test_workspace_limit_reaches_the_builder(make_onnx: MakeOnnx, tmp_path: Path) -> None:
    with pytest.raises(ProofError, match=r"for sm86 in a workspace of 1048576 bytes: .*Allow more\.$"):
        engine_from_onnx(
            tensorrt_rtx(),
            make_onnx(),
            tmp_path / "x.plan",
            ComputeCapability.SM86,
            BuildOptions(workspace_bytes=1 << 20),
        )


@needs_builder
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            BuildOptions(weights=WeightsInPlan.STRIPPED),
            "cannot give plans without weights: no version of it has that",
        ),
        (BuildOptions(weights=WeightsInPlan.REFITTABLE), "cannot give plans whose weights can be exchanged"),
        (BuildOptions(versions=VersionCompatibility.LATER), "cannot give version compatible plans"),
        (
            BuildOptions(hardware=HardwareCompatibility.AMPERE_PLUS),
            "cannot give plans for all GPUs from Ampere on",
        ),
        (
            BuildOptions(timing_cache=Path("cache")),
            r"TensorRT-RTX \(1\..*\) cannot give a timing cache: no version",
        ),
    ],
)
def test_rtx_refuses_what_it_lacks(
    options: BuildOptions, said: str, make_onnx: MakeOnnx, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        engine_from_onnx(tensorrt_rtx(), make_onnx(), tmp_path / "x.plan", ComputeCapability.SM86, options)
    assert not (tmp_path / "x.plan").exists()


@needs_builder
def test_rtx_builds_for_the_gpu_at_hand_by_its_capability(make_onnx: MakeOnnx, tmp_path: Path) -> None:
    plan = tmp_path / "x.plan"
    built = engine_from_onnx(tensorrt_rtx(), make_onnx(), plan, LocalGpu("RTX 3090", "8.6", "570.1"))
    assert built.place is ComputeCapability.SM86
    with pytest.raises(
        InputError,
        match=r"no plans for the H100 \(compute capability 9\.0\): it builds for 7\.5, 8\.0, .* 12\.0\. Take",
    ):
        engine_from_onnx(tensorrt_rtx(), make_onnx(), plan, LocalGpu("H100", "9.0", "570.1"))


@needs_builder
def test_rtx_tells_progress(make_onnx: MakeOnnx, tmp_path: Path) -> None:
    told: list[int] = []

    def tell(task: str, done: int, total: int) -> None:
        assert (task, total) == (f"build {source.name}", 100)
        told.append(done)

    source = make_onnx()
    engine_from_onnx(tensorrt_rtx(), source, tmp_path / "x.plan", ComputeCapability.SM86, progress=tell)
    assert told == sorted(set(told))
    assert len(told) > 10
    assert told[-1] > 80


@needs_builder
def test_rtx_ends_at_ctrl_c_and_leaves_nothing(make_onnx: MakeOnnx, tmp_path: Path) -> None:
    told: list[int] = []

    def interrupt(task: str, done: int, total: int) -> None:
        told.append(done)
        if task and done > total / 5:
            signal.raise_signal(signal.SIGINT)

    source, folder = make_onnx(), tmp_path / "plans"
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            engine_from_onnx(
                tensorrt_rtx(), source, folder / "x.plan", ComputeCapability.SM86, progress=interrupt
            )
    finally:
        signal.signal(signal.SIGINT, former)
    assert not list(folder.iterdir())
    assert max(told) < 50  # the builder was told, and did not go on


@needs_builder
def test_rtx_plan_is_refused_without_a_gpu(make_onnx: MakeOnnx, tmp_path: Path) -> None:
    if cuda_device_absence() is None:
        pytest.skip("there is a GPU")
    trt, plan = tensorrt_rtx(), tmp_path / "x.plan"
    engine_from_onnx(trt, make_onnx(), plan, ComputeCapability.ALL)
    log = trt.Logger(trt.Logger.INTERNAL_ERROR)
    assert trt.Runtime(log).deserialize_cuda_engine(plan.read_bytes()) is None


def test_tensorrt_rtx_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(
        MissingRuntimeError, match=r"'tensorrt-rtx' is not installed.*edgepress\[tensorrt-rtx"
    ):
        tensorrt_rtx()
