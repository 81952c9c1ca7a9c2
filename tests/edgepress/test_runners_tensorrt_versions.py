"""Plans of TensorRT 10.3, 10.13 and 11.1 from builder to runner, on fakes that have each version's names."""

from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgepress.engine_card import BatchRange
from edgepress.errors import DeviceFaultError, InputError, MissingDeviceError
from edgepress.local_gpu import LocalGpu
from edgepress.runners.tensorrt_binding import Launch
from edgepress.runners.tensorrt_runner import TensorRtRunner
from edgepress.tensorrt_flavour import flavour_of
from optimize.build_options import BuildOptions
from optimize.engine_from_onnx import engine_from_onnx
from tests.fakes.computing_means import computing_means
from tests.fakes.fake_cuda import FakeCuda
from tests.fakes.fake_plan_runtime import write_plan
from tests.fakes.fake_tensorrt import FAKE_VERSIONS, fake_tensorrt

GPU = LocalGpu("Fake RTX A2000", "8.6", None)
IMAGES = np.random.default_rng(3).random((4, 2, 2, 3), np.float32)


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


@pytest.fixture(params=FAKE_VERSIONS)
def trt(request: pytest.FixtureRequest, cuda: FakeCuda) -> ModuleType:
    """A version whose engines give each picture's mean channels, computed on the stream."""
    module = fake_tensorrt(request.param)
    module.fake.capability = GPU.capability
    return computing_means(module, cuda)


def built(trt: ModuleType, folder: Path) -> Path:
    """A plan for batches of 1 to 4, with its card."""
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 2, 2, 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])
    node = helper.make_node("GlobalAveragePool", ["images"], ["logits"], name="pool")
    source, plan = folder / "m.onnx", folder / "m.plan"
    onnx.save(helper.make_model(helper.make_graph([node], "tiny", [images], [logits])), source)
    found = engine_from_onnx(trt, source, plan, GPU, BuildOptions(batch=BatchRange(1, 1, 4)))
    changes = {"flavour": flavour_of(trt), "version": found.version, "flags": found.flags}
    return write_plan(plan, plan.read_bytes(), **changes)


@pytest.mark.parametrize("launch", Launch)
def test_a_plan_runs_with_the_version_that_built_it(
    launch: Launch, trt: ModuleType, cuda: FakeCuda, tmp_path: Path
) -> None:
    with TensorRtRunner(built(trt, tmp_path), lambda: (trt, cuda), launch) as runner:
        for batch in (1, 4, 2):
            np.testing.assert_allclose(runner.infer(IMAGES[:batch]), IMAGES[:batch].mean((1, 2)), rtol=1e-6)
        assert trt.__version__ in runner.evidence
        assert "TF32 off" in runner.evidence
        assert runner.device_memory().activation_bytes == 1 << 20
        with pytest.raises(InputError, match="takes a batch of 1 to 4, got 5"):
            runner.infer(np.zeros((5, 2, 2, 3), np.float32))
    cuda.assert_nothing_left()


def test_the_profiler_is_told_each_layer(trt: ModuleType, cuda: FakeCuda, tmp_path: Path) -> None:
    with TensorRtRunner(built(trt, tmp_path), lambda: (trt, cuda)) as runner:
        (layer,) = runner.layer_times(IMAGES[:1], 2)
    assert (layer.name, layer.duration_ns) == ("pool", 250_000)


def test_without_a_driver_tensorrt_says_so(trt: ModuleType, cuda: FakeCuda, tmp_path: Path) -> None:
    plan = built(trt, tmp_path)
    trt.fake.has_driver = False
    with pytest.raises(MissingDeviceError, match=r"no CUDA device \(TensorRT .* cannot start: CUDA init"):
        with TensorRtRunner(plan, lambda: (trt, cuda)):
            pass
    cuda.assert_nothing_left()


@pytest.mark.parametrize("at", ["open_failure", "run_failure"])
def test_full_memory_is_told_at_loading_and_at_running(
    at: str, trt: ModuleType, cuda: FakeCuda, tmp_path: Path
) -> None:
    plan = built(trt, tmp_path)
    setattr(trt.fake, at, ("Error Code 2: OutOfMemory (Requested size was 1 bytes.)",))
    with pytest.raises(DeviceFaultError, match="too little memory while .*m.plan is (loaded|run)"):
        with TensorRtRunner(plan, lambda: (trt, cuda)) as runner:
            runner.infer(IMAGES[:1])
    cuda.assert_nothing_left()
