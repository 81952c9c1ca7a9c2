"""The runner of plans, on fakes of TensorRT and CUDA (tests/fakes). Nothing here has run on a GPU."""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepress.artifact import Device, Format, Precision, Runtime
from edgepress.cuda.fault import CudaError, CudaFault
from edgepress.errors import (
    DeviceFaultError,
    EdgepressError,
    InputError,
    MissingDeviceError,
    MissingRuntimeError,
)
from edgepress.machine import cuda_device_absence
from edgepress.runners import tensorrt_runner
from edgepress.runners.runner import DeviceMemoryUse, DeviceTime, NamedOutputs, OnGpu, runner_kind
from edgepress.runners.tensorrt_binding import Launch
from edgepress.runners.tensorrt_runner import TensorRtRunner
from edgepress.tensorrt_flavour import Flavour
from tests.fakes import fake_plan_runtime as fake
from tests.fakes.fake_cuda import MIB, Error, FakeCuda, Injection, Pace
from tests.fakes.fake_plan_runtime import (
    KERNEL_NS,
    LAYERS,
    Failure,
    FakePlanRuntime,
    Spec,
    plan_bytes,
    write_plan,
)

WEIGHTS = ((1.0, 2.0), (3.0, 4.0), (5.0, 6.0))
IMAGES = np.random.default_rng(7).random((4, 2, 2, 3), np.float32)
LOGITS = IMAGES.mean((1, 2)) @ np.asarray(WEIGHTS, np.float32)
INPUT_BYTES, SCORE_BYTES = 48, 8  # of one picture
FIXED, DYNAMIC = Spec(WEIGHTS), Spec(WEIGHTS, batches=(1, 4))


def opened(
    folder: Path,
    cuda: FakeCuda,
    trt: FakePlanRuntime | None = None,
    spec: Spec = FIXED,
    launch: Launch = Launch.QUEUED,
) -> TensorRtRunner:
    path = write_plan(folder / "m.plan", plan_bytes(spec))
    return TensorRtRunner(path, lambda: (trt or FakePlanRuntime(cuda), cuda), launch)


@pytest.mark.parametrize("launch", Launch)
def test_infer_gives_the_scores_of_each_picture(launch: Launch, tmp_path: Path) -> None:
    cuda = FakeCuda()
    with opened(tmp_path, cuda, launch=launch) as runner:
        found = [runner.infer(image[None]) for image in IMAGES]
        named = runner.outputs(IMAGES[:1])
        assert isinstance(runner, NamedOutputs)
        assert isinstance(runner, OnGpu)
    np.testing.assert_allclose(np.concatenate(found), LOGITS, rtol=1e-5)  # each is the caller's own copy
    assert {name: array.shape for name, array in named.items()} == {"aux": (1, 2), "logits": (1, 2)}
    np.testing.assert_allclose(named["aux"], -LOGITS[:1], rtol=1e-5)
    cuda.assert_nothing_left()


@pytest.mark.parametrize("launch", Launch)
def test_a_profile_takes_every_batch_in_it_and_no_other(launch: Launch, tmp_path: Path) -> None:
    cuda = FakeCuda()
    with opened(tmp_path, cuda, spec=DYNAMIC, launch=launch) as runner:
        for batch in (1, 4, 2, 2):
            np.testing.assert_allclose(runner.infer(IMAGES[:batch]), LOGITS[:batch], rtol=1e-5)
        with pytest.raises(InputError, match=r"m.plan takes a batch of 1 to 4, got 5. Use another batch"):
            runner.infer(np.zeros((5, 2, 2, 3), np.float32))
        np.testing.assert_allclose(runner.infer(IMAGES[:3]), LOGITS[:3], rtol=1e-5)
    cuda.assert_nothing_left()


def test_a_plan_of_fp16_takes_and_gives_float32(tmp_path: Path) -> None:
    with opened(tmp_path, FakeCuda(), spec=Spec(WEIGHTS, dtype="HALF")) as runner:
        found = runner.infer(IMAGES[:1])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, LOGITS[:1], rtol=2e-3)


def test_evidence_says_what_runs_where_and_how(tmp_path: Path) -> None:
    with opened(tmp_path, FakeCuda()) as runner:
        assert runner.evidence == "TensorRT 10 (10.3.0), Fake RTX A2000 (8.6), TF32 off, queued, one stream"
    with opened(tmp_path, FakeCuda(), launch=Launch.GRAPH) as runner:
        assert (
            runner.evidence == "TensorRT 10 (10.3.0), Fake RTX A2000 (8.6), TF32 off, CUDA graph, one stream"
        )


def test_without_a_graph_that_can_be_recorded_it_says_so_and_runs(tmp_path: Path) -> None:
    cuda = FakeCuda(Injection(Error.cudaErrorStreamCaptureInvalidated, 1, "cudaStreamEndCapture"))
    with opened(tmp_path, cuda, launch=Launch.GRAPH) as runner:
        assert "no CUDA graph (it cannot be recorded: cudaErrorStreamCaptureInvalidated)" in runner.evidence
        np.testing.assert_allclose(runner.infer(IMAGES[:1]), LOGITS[:1], rtol=1e-5)
    cuda.assert_nothing_left()


def test_ten_thousand_inferences_leave_nothing_and_make_nothing(tmp_path: Path) -> None:
    cuda = FakeCuda()
    trt = FakePlanRuntime(cuda)
    streams: set[int] = set()
    trt.on_execute = lambda context, stream: streams.add(stream)
    with opened(tmp_path, cuda, trt) as runner:
        runner.infer(IMAGES[:1])
        before, live = runner.device_memory(), cuda.live.copy()
        makers = ("cudaMalloc", "cudaHostAlloc", "cudaEventCreate", "cudaStreamCreateWithFlags")
        made = {name: cuda.calls[name] for name in makers}
        for _ in range(10_000):
            runner.infer(IMAGES[:1])
        assert runner.device_memory() == before
        assert cuda.live == live
        assert {name: cuda.calls[name] for name in makers} == made
    assert trt.executions == 10_001
    assert len(streams) == 1
    assert 0 not in streams
    cuda.assert_nothing_left()


def test_device_times_tell_copies_and_compute_apart(tmp_path: Path) -> None:
    cuda = FakeCuda(pace=Pace(copy_ns=2_000, copy_bytes_per_ns=1, call_ns=0))
    with opened(tmp_path, cuda) as runner:
        times = runner.device_times(IMAGES[:1], 3)
    assert times == (DeviceTime(2_000 + INPUT_BYTES, KERNEL_NS, 2_000 + SCORE_BYTES),) * 3
    cuda.assert_nothing_left()


def test_device_memory_tells_activations_from_all_that_was_taken(tmp_path: Path) -> None:
    with opened(tmp_path, FakeCuda()) as runner:
        found = runner.device_memory()
    buffers_bytes = INPUT_BYTES + 2 * SCORE_BYTES
    assert found == DeviceMemoryUse(2 * MIB, 6 * MIB + buffers_bytes)


def test_layer_times_come_from_the_profiler_in_a_run_of_its_own(tmp_path: Path) -> None:
    with opened(tmp_path, FakeCuda()) as runner:
        found = runner.layer_times(IMAGES[:1], 3)
    assert tuple(layer.name for layer in found) == LAYERS
    assert [layer.operator for layer in found] == ["CaskConvolution", "Reformatting CopyNode", "fc1"]
    assert [layer.precision for layer in found] == [Precision.INT8, None, None]
    assert {layer.place for layer in found} == {"TensorRT"}
    # The context's first executions are that of `infer` and three to warm up: the median is the sixth.
    np.testing.assert_allclose([layer.duration_ns for layer in found], [106_000, 206_000, 306_000])


def test_layer_times_do_without_the_inspector(tmp_path: Path) -> None:
    cuda = FakeCuda()
    with opened(tmp_path, cuda, FakePlanRuntime(cuda, Failure.NO_REPORT)) as runner:
        found = runner.layer_times(IMAGES[:1], 3)
    assert [layer.operator for layer in found] == ["conv1", "Reformatting CopyNode", "fc1"]
    assert {layer.precision for layer in found} == {None}


@pytest.mark.parametrize(
    ("cuda", "reason"),
    [
        (FakeCuda(driver_version=0), "no NVIDIA driver is loaded"),
        (FakeCuda(driver_version=11040), "the driver is for CUDA 11.4, cuda-python for 13.5"),
        (FakeCuda(devices=0), "cudaErrorNoDevice"),
    ],
    ids=["no driver", "driver too old", "no GPU"],
)
def test_without_a_device_the_reason_is_one_line(cuda: FakeCuda, reason: str, tmp_path: Path) -> None:
    with pytest.raises(MissingDeviceError) as caught, opened(tmp_path, cuda):
        pass
    assert str(caught.value).startswith(f"no CUDA device ({reason}). ")
    assert "\n" not in str(caught.value)
    cuda.assert_nothing_left()


@pytest.mark.parametrize(
    ("failure", "kind", "text"),
    [
        (Failure.NO_DRIVER, MissingDeviceError, r"no CUDA device \(TensorRT 10.3.0 cannot start: CUDA init"),
        (Failure.REFUSED, InputError, "TensorRT 10.3.0 does not take .*m.plan: .*Version tag does not match"),
        (Failure.FULL_AT_LOAD, DeviceFaultError, r"too little memory while .* is loaded \(7892 of 8192 MiB"),
        (Failure.FULL_AT_CONTEXT, DeviceFaultError, r"too little memory while .* is loaded \(7888 of 8192"),
    ],
)
def test_what_tensorrt_refuses_at_loading(
    failure: Failure, kind: type[EdgepressError], text: str, tmp_path: Path
) -> None:
    cuda = FakeCuda()
    with pytest.raises(kind, match=text) as caught, opened(tmp_path, cuda, FakePlanRuntime(cuda, failure)):
        pass
    assert "\n" not in str(caught.value)
    cuda.assert_nothing_left()


@pytest.mark.parametrize(
    ("failure", "kind", "text"),
    [
        (Failure.FULL_AT_RUN, DeviceFaultError, "too little memory while .*m.plan is run .*OutOfMemory"),
        (Failure.NOT_QUEUED, DeviceFaultError, "TensorRT could not run .*m.plan: .*Error Code 3"),
        (Failure.KERNEL, CudaError, "cudaStreamSynchronize gave cudaErrorLaunchFailure, .* A kernel failed"),
    ],
)
def test_what_fails_in_the_third_inference(
    failure: Failure, kind: type[EdgepressError], text: str, tmp_path: Path
) -> None:
    cuda = FakeCuda()
    trt = FakePlanRuntime(cuda, failure, fail_at=3)
    with pytest.raises(kind, match=text), opened(tmp_path, cuda, trt) as runner:
        for i in range(3):
            found = runner.infer(IMAGES[:1])
            assert i < 2
            np.testing.assert_allclose(found, LOGITS[:1], rtol=1e-5)
    cuda.assert_nothing_left()


def test_a_gpu_lost_in_mid_run_ends_it_and_what_was_had_stays(tmp_path: Path) -> None:
    cuda = FakeCuda(Injection(Error.cudaErrorUnknown, 500))
    found = []
    with pytest.raises(CudaError, match="The GPU does not answer any more") as caught:
        with opened(tmp_path, cuda) as runner:
            while True:
                found.append(runner.infer(IMAGES[:1]))
    assert caught.value.fault is CudaFault.LOST
    assert len(found) > 50
    np.testing.assert_allclose(np.concatenate(found), np.repeat(LOGITS[:1], len(found), 0), rtol=1e-5)
    cuda.assert_nothing_left()


def test_out_of_memory_for_the_buffers_is_told_at_the_allocation(tmp_path: Path) -> None:
    cuda = FakeCuda(Injection(Error.cudaErrorMemoryAllocation, 2, "cudaMalloc"))
    with pytest.raises(CudaError, match="cudaMalloc of 8 bytes gave cudaErrorMemoryAllocation") as caught:
        with opened(tmp_path, cuda):
            pass
    assert caught.value.fault is CudaFault.OUT_OF_MEMORY
    cuda.assert_nothing_left()


def test_a_batch_that_does_not_fit_leaves_the_runner_able_to_take_a_smaller_one(tmp_path: Path) -> None:
    cuda = FakeCuda(Injection(Error.cudaErrorMemoryAllocation, 5, "cudaMalloc"))
    with opened(tmp_path, cuda, spec=DYNAMIC) as runner:
        with pytest.raises(CudaError, match="cudaErrorMemoryAllocation"):
            runner.infer(IMAGES)
        np.testing.assert_allclose(runner.infer(IMAGES[:1]), LOGITS[:1], rtol=1e-5)
    cuda.assert_nothing_left()


@pytest.mark.parametrize("launch", Launch)
def test_whichever_call_of_cuda_fails_nothing_is_left(launch: Launch, tmp_path: Path) -> None:
    def run(cuda: FakeCuda) -> None:
        with opened(tmp_path, cuda, launch=launch) as runner:
            runner.device_times(IMAGES[:1], 1)

    whole = FakeCuda()
    run(whole)
    for number in range(1, whole.calls["any"] + 1):
        cuda = FakeCuda(Injection(Error.cudaErrorUnknown, number))
        with pytest.raises(CudaError, match="cudaErrorUnknown"):
            run(cuda)
        cuda.assert_nothing_left()


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (Spec(WEIGHTS, extra_inputs=1), "has 2 inputs and 2 outputs, wanted one picture in, and logits out"),
        (Spec(WEIGHTS, dtype="BF16"), "has a tensor images of type BF16, wanted FLOAT, HALF"),
    ],
)
def test_a_plan_that_is_none_of_ours_is_refused(spec: Spec, text: str, tmp_path: Path) -> None:
    cuda = FakeCuda()
    with pytest.raises(InputError, match=text), opened(tmp_path, cuda, spec=spec):
        pass
    cuda.assert_nothing_left()


def test_pictures_of_another_size_are_refused(tmp_path: Path) -> None:
    with opened(tmp_path, FakeCuda()) as runner:
        with pytest.raises(InputError, match=r"takes pictures of shape \(2, 2, 3\), got \(3, 2, 3\)"):
            runner.infer(np.zeros((1, 3, 2, 3), np.float32))


def flipped(plan: bytes) -> bytes:
    return plan[:40] + bytes([plan[40] ^ 1]) + plan[41:]


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda plan: plan[:-7], r"m.plan has \d+ bytes, and \d+ were built: it is not whole. Copy it again"),
        (flipped, r"m.plan is not what was built: SHA-256 is \w+…, its card says \w+…. Copy it again"),
        (lambda plan: b"", "m.plan has 0 bytes"),
    ],
    ids=["truncated", "a bit flipped", "empty"],
)
def test_a_damaged_plan_never_gets_to_tensorrt(
    damage: Callable[[bytes], bytes], text: str, tmp_path: Path
) -> None:
    cuda = FakeCuda()
    trt = FakePlanRuntime(cuda)
    runner = opened(tmp_path, cuda, trt)
    path = tmp_path / "m.plan"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=text), runner:
        pass
    assert trt.runtimes == 0
    cuda.assert_nothing_left()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"version": "10.13.3.9"},
            r"built with TensorRT 10 \(10.13.3.9\), and here is TensorRT 10 \(10.3.0\)",
        ),
        ({"flavour": Flavour.TENSORRT_RTX}, r"built with TensorRT-RTX \(10.3.0\), and here is TensorRT 10"),
        ({"capabilities": ("8.9",)}, "built for compute capability 8.9, and the Fake RTX A2000 here has 8.6"),
        ({"system": "Linux riscv64"}, "built on Linux riscv64"),
    ],
    ids=["version", "flavour", "GPU", "system"],
)
def test_a_plan_for_another_place_never_gets_to_tensorrt(
    changes: dict[str, Any], text: str, tmp_path: Path
) -> None:
    cuda = FakeCuda()
    trt = FakePlanRuntime(cuda)
    runner = opened(tmp_path, cuda, trt)
    write_plan(tmp_path / "m.plan", plan_bytes(FIXED), **changes)
    with pytest.raises(InputError, match=f"m.plan cannot run here: .*{text}") as caught, runner:
        pass
    assert "\n" not in str(caught.value)
    assert trt.runtimes == 0
    cuda.assert_nothing_left()


def test_a_plan_without_its_card_or_a_card_without_its_plan_is_refused(tmp_path: Path) -> None:
    runner = opened(tmp_path, FakeCuda())
    (tmp_path / "m.plan").unlink()
    with pytest.raises(InputError, match=r"There is no plan at .*m.plan"), runner:
        pass
    runner = opened(tmp_path, FakeCuda())
    (tmp_path / "m.engine.json").unlink()
    with pytest.raises(InputError, match=r"Build m.plan anew: its card comes with it|m.engine.json"), runner:
        pass


def test_evidence_says_that_a_plan_may_use_tf32(tmp_path: Path) -> None:
    runner = opened(tmp_path, FakeCuda())
    write_plan(tmp_path / "m.plan", plan_bytes(FIXED), flags=("TF32",))
    with runner:
        assert "TF32 on" in runner.evidence


@pytest.mark.parametrize(
    ("runtime", "package", "name"),
    [(Runtime.TENSORRT, "tensorrt", "tensorrt"), (Runtime.TENSORRT_RTX, "tensorrt_rtx", "tensorrt-rtx")],
)
def test_a_missing_package_is_named(
    runtime: Runtime, package: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    opener = runner_kind(runtime, Device.CUDA).open
    with pytest.raises(MissingRuntimeError, match=f"{name!r} is not installed"), opener(tmp_path / "m", 1):
        pass


def test_a_tensorrt_whose_libraries_are_missing_is_told_from_one_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.11: cannot open')")
    opener = runner_kind(Runtime.TENSORRT, Device.CUDA).open
    with pytest.raises(InputError, match=r"tensorrt is installed and cannot be loaded \(libnvinfer.so.11"):
        with opener(tmp_path / "m", 1):
            pass


def test_kinds_are_for_plans_on_cuda() -> None:
    for runtime in (Runtime.TENSORRT, Runtime.TENSORRT_RTX):
        kind = runner_kind(runtime, Device.CUDA)
        assert kind.formats == (Format.ENGINE,)
        assert kind.profiler is not None


def test_the_fake_has_no_name_that_the_real_module_lacks() -> None:
    """TensorRT-RTX, which has TensorRT 11's interface and can be imported without a GPU."""
    trt: Any = pytest.importorskip("tensorrt_rtx")
    pairs = [
        (fake.FakeRuntime, trt.Runtime),
        (fake.FakeEngine, trt.ICudaEngine),
        (fake.FakeContext, trt.IExecutionContext),
        (fake.FakeInspector, trt.EngineInspector),
        (fake.LayerInformationFormat, trt.LayerInformationFormat),
        (fake.Logging, trt.ILogger),
        (fake.Profiling, trt.IProfiler),
        (fake.DataType, trt.DataType),
        (fake.TensorIOMode, trt.TensorIOMode),
        (fake.Logging.Severity, trt.ILogger.Severity),
    ]
    for ours, real in pairs:
        names = {name for name in vars(ours) if not name.startswith("_")}
        assert names <= set(dir(real)), (ours, names - set(dir(real)))
    assert hasattr(trt.IExecutionContext, "profiler")
    assert "deserialize_cuda_engine" in dir(trt.Runtime)
    assert inspect.isclass(trt.ILogger)


def test_the_real_tensorrt_rtx_refuses_a_plan_without_a_gpu_and_says_why(tmp_path: Path) -> None:
    """Real logger, runtime and plan; only CUDA is the fake, so that the runner gets as far as TensorRT."""
    trt: Any = pytest.importorskip("tensorrt_rtx")
    if cuda_device_absence() is None:
        pytest.skip("there is a GPU, which could run the plan")
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    images = network.add_input("images", trt.float32, (1, 2, 2, 3))
    network.mark_output(network.add_activation(images, trt.ActivationType.RELU).get_output(0))
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    path = tmp_path / "real.plan"
    plan = bytes(builder.build_serialized_network(network, config))
    write_plan(path, plan, flavour=Flavour.TENSORRT_RTX, version=trt.__version__)
    cuda = FakeCuda()
    runner = TensorRtRunner(path, lambda: (trt, cuda))
    with pytest.raises(
        InputError, match=rf"TensorRT {trt.__version__} does not take .*real.plan: "
    ) as caught:
        with runner:
            pass
    assert "\n" not in str(caught.value)
    assert "it gives no reason" not in str(caught.value)
    cuda.assert_nothing_left()


def test_a_profiler_of_the_real_tensorrt_rtx_keeps_the_times() -> None:
    trt: Any = pytest.importorskip("tensorrt_rtx")
    found: dict[str, list[float]] = {}
    profiler = tensorrt_runner._profiler_of(trt, found)
    assert isinstance(profiler, trt.IProfiler)
    profiler.report_layer_time("conv1", 0.25)
    profiler.report_layer_time("conv1", 0.5)
    assert found == {"conv1": [0.25, 0.5]}
