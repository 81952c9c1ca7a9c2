"""The fakes have what their versions have, no less and no more, and fail as TensorRT does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.fakes.fake_tensorrt import FAKE_VERSIONS, NodeError, fake_tensorrt

_OWN = {"ILogger", "Logger", "IHostMemory", "Profiler"}  # with more than the list has, or not imitated
LIST = json.loads((Path(__file__).parent / "tensorrt_api.json").read_text(encoding="utf-8"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """One convolution with an open batch: (batch, 3, 4, 4) → (batch, 2, 4, 4)."""
    kernel = numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "kernel")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "kernel"], ["y"], "conv")],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2, 4, 4])],
        [kernel],
    )
    path = tmp_path / "one.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


class Log:
    """What a logger of any of the fakes was told."""

    def __init__(self, trt: Any) -> None:
        class Logger(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.lines: list[str] = []

            def log(self, _severity: Any, message: str) -> None:
                self.lines.append(message)

        self.logger = Logger()

    @property
    def said(self) -> str:
        """All of it."""
        return " ".join(self.logger.lines)


def _plan(trt: Any, source: Path, log: Log, *flags: str, most: int = 4, hardware: str = "NONE") -> Any:
    builder = trt.Builder(log.logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    assert trt.OnnxParser(network, log.logger).parse_from_file(str(source))
    config = builder.create_builder_config()
    for flag in flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    config.hardware_compatibility_level = trt.HardwareCompatibilityLevel[hardware]
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if most:
        profile = builder.create_optimization_profile()
        profile.set_shape("x", (1, 3, 4, 4), (2, 3, 4, 4), (most, 3, 4, 4))
        config.add_optimization_profile(profile)
    return builder.build_serialized_network(network, config)


@pytest.mark.parametrize("version", FAKE_VERSIONS)
@pytest.mark.parametrize(
    "kind", ["BuilderFlag", "NetworkDefinitionCreationFlag", "HardwareCompatibilityLevel"]
)
def test_enums_have_the_members_of_their_version(version: str, kind: str) -> None:
    members = set(getattr(fake_tensorrt(version), kind).__members__)
    assert members == set(LIST[version][kind]) - {"name", "value"}


@pytest.mark.parametrize("version", FAKE_VERSIONS)
def test_classes_have_no_attribute_that_their_version_lacks(version: str) -> None:
    trt = fake_tensorrt(version)
    checked = 0
    for name, attributes in LIST[version].items():
        made = getattr(trt, name, None)
        if made is None or hasattr(made, "__members__") or name in _OWN:
            continue
        public = {attribute for attribute in dir(made) if not attribute.startswith("_")}
        assert public == set(attributes), name
        checked += 1
    assert checked == 17


def test_versions_differ_where_tensorrt_does() -> None:
    old, new = fake_tensorrt("10.3"), fake_tensorrt("11.1")
    assert hasattr(old.ICudaEngine, "device_memory_size")
    assert not hasattr(new.ICudaEngine, "device_memory_size")
    with pytest.raises(AttributeError):
        new.NetworkDefinitionCreationFlag.EXPLICIT_BATCH  # noqa: B018
    config = new.Builder(Log(new).logger).create_builder_config()
    with pytest.raises(AttributeError, match="int8_calibrator"):
        config.int8_calibrator = None
    with pytest.raises(NotImplementedError, match="does not imitate IBuilderConfig.DLA_core"):
        config.DLA_core  # noqa: B018
    assert int(old.BuilderFlag.TF32) != int(new.BuilderFlag.TF32)


@pytest.mark.parametrize("version", FAKE_VERSIONS)
def test_plan_runs_within_its_profile(version: str, source: Path) -> None:
    trt: Any = fake_tensorrt(version)
    log, seen = Log(trt), []
    trt.fake.on_execute = lambda context, stream: seen.append((context.get_tensor_shape("y"), stream))
    engine = trt.Runtime(log.logger).deserialize_cuda_engine(_plan(trt, source, log))
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    assert [(name, engine.get_tensor_mode(name).name) for name in names] == [("x", "INPUT"), ("y", "OUTPUT")]
    assert engine.get_tensor_shape("x") == (-1, 3, 4, 4)
    assert trt.nptype(engine.get_tensor_dtype("x")) is np.float32
    assert engine.get_tensor_profile_shape("x", 0) == [(1, 3, 4, 4), (2, 3, 4, 4), (4, 3, 4, 4)]
    context = engine.create_execution_context()
    assert context.infer_shapes() == ["x"]
    assert not context.execute_async_v3(7)
    assert "no address is set for x, y" in log.said
    assert all(context.set_tensor_address(name, 64) for name in names)
    assert not context.execute_async_v3(7)
    assert "not all input shapes are set: x" in log.said
    assert not context.set_input_shape("x", (5, 3, 4, 4))
    assert "out of the profile" in log.said
    assert context.set_input_shape("x", (3, 3, 4, 4))
    assert context.execute_async_v3(7)
    assert seen == [((3, 2, 4, 4), 7)]


def test_profiler_is_told_of_each_layer_where_the_enqueue_emits(source: Path) -> None:
    trt: Any = fake_tensorrt("10.13")
    told: list[tuple[str, float]] = []

    class Profiler(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            told.append((layer_name, ms))

    log = Log(trt)
    context = (
        trt.Runtime(log.logger).deserialize_cuda_engine(_plan(trt, source, log)).create_execution_context()
    )
    context.profiler = Profiler()
    context.set_input_shape("x", (1, 3, 4, 4))
    for name in ("x", "y"):
        context.set_tensor_address(name, 64)
    context.enqueue_emits_profile = False
    assert context.execute_async_v3(1)
    assert told == []
    context.enqueue_emits_profile = True
    assert context.execute_async_v3(1)
    assert told == [("conv", 0.25)]


@pytest.mark.parametrize(
    ("version", "key"), [("10.3", "Bindings"), ("10.13", "Bindings"), ("11.1", "I/O Tensors")]
)
def test_inspector_writes_the_keys_of_its_version(version: str, key: str, source: Path) -> None:
    trt: Any = fake_tensorrt(version)
    trt.fake.precisions["conv"] = "Int8"
    log = Log(trt)
    engine = trt.Runtime(log.logger).deserialize_cuda_engine(_plan(trt, source, log))
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    report = json.loads(text)
    assert set(report) == {"Layers", key}
    assert "Int8" in report["Layers"][0]["Outputs"][0]["Format/Datatype"]


def test_open_batch_needs_a_profile(source: Path) -> None:
    trt: Any = fake_tensorrt("10.3")
    log = Log(trt)
    assert _plan(trt, source, log, most=0) is None
    assert "no optimization profile has been defined" in log.said


def test_precision_flags_do_not_go_with_strong_typing(source: Path) -> None:
    trt: Any = fake_tensorrt("10.3")
    log = Log(trt)
    assert _plan(trt, source, log, "FP16") is None
    assert "strongly typed" in log.said


def test_plan_opens_with_its_own_version_and_gpu_only(source: Path) -> None:
    old, new, log = fake_tensorrt("10.3"), fake_tensorrt("10.13"), Log(fake_tensorrt("10.3"))
    plan = _plan(old, source, log)
    assert old.Runtime(log.logger).deserialize_cuda_engine(plan) is not None
    assert new.Runtime(log.logger).deserialize_cuda_engine(plan) is None
    assert "expecting library version 10.13.3.9 got 10.3.0.26" in log.said
    old.fake.capability = "8.6"
    assert old.Runtime(log.logger).deserialize_cuda_engine(plan) is None
    assert "incompatible device" in log.said
    assert old.Runtime(log.logger).deserialize_cuda_engine(bytes(plan)[:40]) is None
    assert "Magic tag does not match" in log.said
    wide = _plan(old, source, log, "VERSION_COMPATIBLE", hardware="AMPERE_PLUS")
    assert new.Runtime(log.logger).deserialize_cuda_engine(wide) is not None
    assert fake_tensorrt("11.1").Runtime(log.logger).deserialize_cuda_engine(wide) is None


def test_failures_are_scripted(source: Path) -> None:
    trt: Any = fake_tensorrt("11.1")
    log = Log(trt)
    trt.fake.build_failure = ("no tactic",)
    assert _plan(trt, source, log) is None
    trt.fake.build_failure = None
    plan = _plan(trt, source, log)
    trt.fake.open_failure = ("device lost",)
    assert trt.Runtime(log.logger).deserialize_cuda_engine(plan) is None
    trt.fake.open_failure, trt.fake.run_failure = None, ("launch failed",)
    context = trt.Runtime(log.logger).deserialize_cuda_engine(plan).create_execution_context()
    context.set_input_shape("x", (1, 3, 4, 4))
    for name in ("x", "y"):
        context.set_tensor_address(name, 64)
    assert not context.execute_async_v3(1)
    assert all(line in log.said for line in ("no tactic", "device lost", "launch failed"))
    trt.fake.parser_errors = (NodeError("no such thing", 3, "conv", "Foo"),)
    parser = trt.OnnxParser(trt.Builder(log.logger).create_network(0), log.logger)
    assert not parser.parse_from_file(str(source))
    error = parser.get_error(0)
    assert (error.desc(), error.node(), error.node_name(), error.node_operator()) == (
        "no such thing",
        3,
        "conv",
        "Foo",
    )
    trt.fake.has_driver = False
    for kind in (trt.Builder, trt.Runtime):
        with pytest.raises(TypeError, match="factory function returned nullptr"):
            kind(log.logger)
    assert "error: 35" in log.said


def test_derived_classes_must_call_the_constructor(source: Path) -> None:
    trt: Any = fake_tensorrt("10.3")

    class Forgetful(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            """Call nothing."""

    with pytest.raises(TypeError, match="__init__"):
        trt.Builder(Forgetful())
    assert source.exists()
