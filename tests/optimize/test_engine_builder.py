"""The builder with fakes of TensorRT 10.3, 10.13 and 11.1: what it asks for, refuses, reports, leaves."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from edgepress.artifact import Proof
from edgepress.engine_card import BatchRange, HardwareCompatibility
from edgepress.errors import InputError, MissingDeviceError, ProofError
from edgepress.files import sha256_of_file
from edgepress.local_gpu import LocalGpu, system_name
from edgepress.target import ComputeCapability
from edgepress.tensorrt_flavour import Flavour
from optimize.build_options import (
    BuildOptions,
    LayerDetail,
    Tf32,
    VersionCompatibility,
    WeightsInPlan,
)
from optimize.build_watch import Fraction, interruptible
from optimize.engine_from_onnx import engine_from_onnx
from tests.fakes.fake_tensorrt import FAKE_VERSIONS, NodeError, fake_tensorrt

MakeOnnx = Callable[..., Path]
ORIN = LocalGpu("Orin (nvgpu)", "8.7", "540.4.0")


@pytest.fixture(params=FAKE_VERSIONS)
def trt(request: pytest.FixtureRequest) -> Any:
    """Each fake."""
    return fake_tensorrt(request.param)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """Where plans are written, in a folder of their own."""
    return tmp_path / "plans" / "x.plan"


def test_plain_build_is_strongly_typed_in_fp32(trt: Any, make_onnx: MakeOnnx, plan: Path) -> None:
    built = engine_from_onnx(trt, make_onnx(), plan, ORIN)
    (asked,) = trt.fake.builds
    assert asked.creation_flags == {"STRONGLY_TYPED"}
    assert asked.flags == frozenset()
    assert asked.profiles == [{"images": ((1, 8, 8, 3),) * 3}]
    assert (asked.pools, asked.cache) == ({}, None)
    assert asked.config["profiling_verbosity"].name == "DETAILED"
    assert set(asked.config) == {"profiling_verbosity", "progress_monitor"}
    assert (built.flags, built.capabilities, built.version) == ((), ("8.7",), trt.__version__)
    assert [path.name for path in plan.parent.iterdir()] == ["x.plan"]


def test_options_reach_the_builder(trt: Any, make_onnx: MakeOnnx, plan: Path) -> None:
    options = BuildOptions(
        tf32=Tf32.ON,
        batch=BatchRange(1, 4, 16),
        workspace_bytes=1 << 28,
        optimization_level=5,
        hardware=HardwareCompatibility.AMPERE_PLUS,
        versions=VersionCompatibility.LATER,
        weights=WeightsInPlan.REFITTABLE,
        detail=LayerDetail.NAMES,
    )
    built = engine_from_onnx(trt, make_onnx(), plan, ORIN, options)
    (asked,) = trt.fake.builds
    assert asked.flags == {"TF32", "VERSION_COMPATIBLE", "REFIT"}
    assert asked.profiles == [{"images": ((1, 8, 8, 3), (4, 8, 8, 3), (16, 8, 8, 3))}]
    assert asked.pools == {"WORKSPACE": 1 << 28}
    assert asked.config["builder_optimization_level"] == 5
    assert asked.config["hardware_compatibility_level"].name == "AMPERE_PLUS"
    assert asked.config["profiling_verbosity"].name == "LAYER_NAMES_ONLY"
    assert built.flags == ("REFIT", "TF32", "VERSION_COMPATIBLE")
    assert built.batch == BatchRange(1, 4, 16)


def test_stripped_plan_has_no_weights(trt: Any, make_onnx: MakeOnnx, plan: Path) -> None:
    source = make_onnx()
    built = engine_from_onnx(trt, source, plan, ORIN, BuildOptions(weights=WeightsInPlan.STRIPPED))
    assert built.flags == ("REFIT_IDENTICAL", "STRIP_PLAN")
    assert plan.stat().st_size < source.stat().st_size / 2


def test_card_says_what_was_built(trt: Any, make_onnx: MakeOnnx, plan: Path) -> None:
    source = make_onnx()
    built = engine_from_onnx(trt, source, plan, ORIN, BuildOptions(tf32=Tf32.ON))
    card = built.card_of(plan, source, "c" * 64)
    assert (card.plan_sha256, card.plan_bytes) == (sha256_of_file(plan), plan.stat().st_size)
    assert (card.source_sha256, card.calibration) == (sha256_of_file(source), "c" * 64)
    assert card.flavour is (Flavour.TENSORRT_11 if card.version.startswith("11") else Flavour.TENSORRT_10)
    assert (card.version, card.system, card.flags) == (trt.__version__, system_name(), ("TF32",))
    assert (card.gpu, card.capabilities, card.driver) == ("Orin (nvgpu)", ("8.7",), "540.4.0")
    assert (card.batch, card.proof) == (BatchRange(1, 1, 1), Proof.INFERRED)
    assert card.build_ns == built.build_ns > 0
    assert built.provenance["capabilities"] == ["8.7"]


@pytest.mark.parametrize(
    ("version", "options", "said"),
    [
        (
            "10.3",
            BuildOptions(hardware=HardwareCompatibility.SAME_COMPUTE_CAPABILITY),
            r"plans for all GPUs of one compute capability: 10\.13 and later have that\. Leave it out, or",
        ),
        ("10.3", BuildOptions(optimization_level=6), r"^The optimization level is 6, wanted 0 to 5\.$"),
        ("10.3", BuildOptions(optimization_level=-1), r"level is -1, wanted 0 to 5"),
        (
            "11.1",
            BuildOptions(workspace_bytes=0),
            r"^The workspace is limited to 0 bytes, wanted at least 1\.$",
        ),
        (
            "11.1",
            BuildOptions(batch=BatchRange(4, 2, 8)),
            r"^The batch is 4 to 8, tuned for 2: wanted 1 ≤ least",
        ),
        ("11.1", BuildOptions(batch=BatchRange(0, 2, 8)), r"wanted 1 ≤ least"),
        ("11.1", BuildOptions(batch=BatchRange(1, 9, 8)), r"wanted 1 ≤ least"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_built(
    version: str, options: BuildOptions, said: str, make_onnx: MakeOnnx, plan: Path
) -> None:
    trt: Any = fake_tensorrt(version)
    trt.fake.has_driver = False  # nothing of TensorRT is touched
    with pytest.raises(InputError, match=said) as caught:
        engine_from_onnx(trt, make_onnx(), plan, ORIN, options)
    assert not isinstance(caught.value, MissingDeviceError)
    assert not plan.parent.exists()


def test_same_compute_capability_builds_where_it_is(make_onnx: MakeOnnx, plan: Path) -> None:
    trt: Any = fake_tensorrt("10.13")
    options = BuildOptions(hardware=HardwareCompatibility.SAME_COMPUTE_CAPABILITY)
    built = engine_from_onnx(trt, make_onnx(), plan, ORIN, options)
    assert built.hardware is HardwareCompatibility.SAME_COMPUTE_CAPABILITY
    assert trt.fake.builds[0].config["hardware_compatibility_level"].name == "SAME_COMPUTE_CAPABILITY"


def test_tensorrt_proper_builds_for_the_gpu_at_hand_only(trt: Any, make_onnx: MakeOnnx, plan: Path) -> None:
    with pytest.raises(
        InputError, match=r"^TensorRT 1[01] builds for the GPU at hand only, and a plan for sm86"
    ):
        engine_from_onnx(trt, make_onnx(), plan, ComputeCapability.SM86)


def test_batch_that_the_graph_fixes_is_kept(
    trt: Any, make_onnx: MakeOnnx, plan: Path, tmp_path: Path
) -> None:
    model = onnx.load(make_onnx())
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    source = tmp_path / "two.onnx"
    onnx.save(model, source)
    assert engine_from_onnx(trt, source, plan, ORIN).batch == BatchRange(2, 2, 2)
    same = BuildOptions(batch=BatchRange(2, 2, 2))
    assert engine_from_onnx(trt, source, plan, ORIN, same).batch == BatchRange(2, 2, 2)
    with pytest.raises(
        InputError, match=r"two\.onnx has a fixed batch of 2, and a plan for batches 1 to 8 was"
    ):
        engine_from_onnx(trt, source, plan, ORIN, BuildOptions(batch=BatchRange(1, 4, 8)))


def test_only_the_batch_may_be_open(trt: Any, make_onnx: MakeOnnx, plan: Path, tmp_path: Path) -> None:
    model = onnx.load(make_onnx())
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "height"
    onnx.save(model, tmp_path / "open.onnx")
    with pytest.raises(
        InputError, match=r"open\.onnx: input 'images' has the shape \(-1, -1, 8, 3\), and only"
    ):
        engine_from_onnx(trt, tmp_path / "open.onnx", plan, ORIN)


def test_timing_cache_is_kept_by_version_and_gpu(make_onnx: MakeOnnx, plan: Path, tmp_path: Path) -> None:
    source, options = make_onnx(), BuildOptions(timing_cache=tmp_path / "timings")
    first: Any = fake_tensorrt("10.3")
    engine_from_onnx(first, source, plan, ORIN, options)
    (file,) = (tmp_path / "timings").iterdir()
    assert file.name == "tensorrt-10.3.0.26-orin-nvgpu-8.7-540.4.0.timing"
    again: Any = fake_tensorrt("10.3")
    engine_from_onnx(again, source, plan, ORIN, options)
    assert again.fake.builds[0].cache == f"timings of {source.name};".encode()
    other: Any = fake_tensorrt("10.3")
    engine_from_onnx(other, source, plan, LocalGpu("Orin (nvgpu)", "8.7", "550.0"), options)
    newer: Any = fake_tensorrt("10.13")
    engine_from_onnx(newer, source, plan, ORIN, options)
    assert (other.fake.builds[0].cache, newer.fake.builds[0].cache) == (b"", b"")
    assert len(list((tmp_path / "timings").iterdir())) == 3


def test_parser_errors_are_told_node_by_node(trt: Any, make_onnx: MakeOnnx, plan: Path) -> None:
    trt.fake.parser_errors = (
        NodeError("Plugin not found,\n are the name and version correct?", 2, "relu1", "Foo"),
        NodeError("Non-zero zero point is not supported.", 5, "", "QuantizeLinear"),
        NodeError("Failed to parse the ONNX model.", -1),
    )
    with pytest.raises(ProofError) as caught:
        engine_from_onnx(trt, make_onnx(), plan, ORIN)
    assert (
        "cannot parse fp32-0-1.0.onnx: node 2 (Foo 'relu1'): Plugin not found, are the name and version "
        "correct?; "
        "node 5 (QuantizeLinear): Non-zero zero point is not supported; Failed to parse the ONNX model. Leave"
    ) in str(caught.value)
    assert not list(plan.parent.iterdir())


def test_many_parser_errors_are_counted(trt: Any, make_onnx: MakeOnnx, plan: Path) -> None:
    trt.fake.parser_errors = tuple(NodeError("no", number, f"n{number}") for number in range(7))
    with pytest.raises(
        ProofError, match=r"node 4 \(Conv 'n4'\): no; and 2 more\. Leave the engine recipes out"
    ):
        engine_from_onnx(trt, make_onnx(), plan, ORIN)


def test_build_that_fails_tells_the_tail_of_the_log(trt: Any, make_onnx: MakeOnnx, plan: Path) -> None:
    trt.fake.build_failure = ("one", "two", "three\n  lines", "four")
    plan.parent.mkdir()
    plan.write_bytes(b"former")
    with pytest.raises(
        ProofError, match=r"cannot build .* for Orin \(nvgpu\): two; three lines; four\. Leave this"
    ):
        engine_from_onnx(trt, make_onnx(), plan, ORIN)
    assert [path.read_bytes() for path in plan.parent.iterdir()] == [b"former"]


@pytest.mark.parametrize(
    "line",
    [
        "[defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)",
        "Error Code 2: OutOfMemory (Requested size was 411041792 bytes.)",
        "Tactic Device request: 4224MB Available: 3000MB. Device memory is insufficient to use tactic: "
        "cudaErrorMemoryAllocation",
    ],
)
def test_build_that_runs_out_of_memory_says_so(line: str, trt: Any, make_onnx: MakeOnnx, plan: Path) -> None:
    trt.fake.build_failure = (line, "no implementation for conv1", "give up", "Error Code 10")
    with pytest.raises(
        ProofError, match=r"ran out of device memory while .*Stop what else uses the GPU, or limit"
    ):
        engine_from_onnx(trt, make_onnx(), plan, ORIN)


def test_workspace_that_is_too_small_is_named_only_where_it_was_limited(
    trt: Any, make_onnx: MakeOnnx, plan: Path
) -> None:
    trt.fake.build_failure = ("no tactics to implement the operation within workspace limit",)
    with pytest.raises(ProofError, match=r"in a workspace of 1024 bytes: no tactics .*limit\. Allow more\.$"):
        engine_from_onnx(trt, make_onnx(), plan, ORIN, BuildOptions(workspace_bytes=1024))
    with pytest.raises(ProofError, match=r"within workspace limit\. Leave this recipe out for this GPU\.$"):
        engine_from_onnx(trt, make_onnx(), plan, ORIN)


def test_missing_driver_is_named(trt: Any, make_onnx: MakeOnnx, plan: Path) -> None:
    trt.fake.has_driver = False
    with pytest.raises(
        MissingDeviceError,
        match=r"finds no usable NVIDIA driver here: CUDA initialization failure with error: 35",
    ):
        engine_from_onnx(trt, make_onnx(), plan, ORIN)
    assert not list(plan.parent.iterdir())


def test_progress_is_told_in_percent(trt: Any, make_onnx: MakeOnnx, plan: Path) -> None:
    told: list[tuple[str, int, int]] = []
    engine_from_onnx(
        trt, make_onnx(), plan, ORIN, progress=lambda task, done, total: told.append((task, done, total))
    )
    assert [done for _, done, _ in told] == [16, 33, 50, 66, 83, 100]
    assert {(task, total) for task, _, total in told} == {("build fp32-0-1.0.onnx", 100)}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_build_leaves_nothing_behind(
    number: signal.Signals, trt: Any, make_onnx: MakeOnnx, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, steps = make_onnx(), []

    def interrupt() -> None:
        steps.append(1)
        if len(steps) == 2:
            signal.raise_signal(number)

    trt.fake.during_build = interrupt
    former = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            engine_from_onnx(trt, source, plan, ORIN)
        assert len(steps) == 2  # of six: the builder was told
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, former)
    assert not list(plan.parent.iterdir())
    monkeypatch.setattr(trt.fake, "during_build", lambda: None)
    engine_from_onnx(trt, source, plan, ORIN)
    assert plan.is_file()


def test_interruption_that_comes_too_late_for_the_builder_is_not_lost(
    make_onnx: MakeOnnx, plan: Path
) -> None:
    trt: Any = fake_tensorrt("10.3")
    build = trt.Builder.build_serialized_network

    def interrupted(self: Any, network: Any, config: Any) -> Any:
        made = build(self, network, config)
        signal.raise_signal(signal.SIGINT)
        return made

    trt.Builder.build_serialized_network = interrupted
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            engine_from_onnx(trt, make_onnx(), plan, ORIN)
    finally:
        signal.signal(signal.SIGINT, former)
    assert not list(plan.parent.iterdir())


def test_handler_of_somebody_else_is_left_alone() -> None:
    heard: list[int] = []
    former = signal.signal(signal.SIGTERM, lambda number, _frame: heard.append(number))
    try:
        with interruptible() as wish:
            signal.raise_signal(signal.SIGTERM)
        assert (heard, wish.is_wanted) == ([signal.SIGTERM], False)
    finally:
        signal.signal(signal.SIGTERM, former)


def test_fraction_never_falls_and_ignores_what_it_does_not_know() -> None:
    told: list[int] = []
    done = Fraction(told.append)
    done.step("unknown", 0)
    done.start("all", None, 4)
    done.step("all", 0)
    done.start("inner", "all", 2)
    done.step("inner", 0)
    done.step("inner", 1)
    done.finish("inner")
    done.step("inner", 1)
    done.step("all", 1)
    done.start("orphan", "gone", 10)
    done.step("orphan", 0)
    done.step("all", 3)
    assert told == [25, 37, 50, 100]
