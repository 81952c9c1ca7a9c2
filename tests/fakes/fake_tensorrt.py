"""A FAKE of NVIDIA's `tensorrt`, for machines without a GPU: no engine that it makes has ever run.

`fake_tensorrt("10.3")` gives an object like the module of that version. Which classes, methods and enum
members it has is read from tensorrt_api.json, which lists what NVIDIA's Python bindings of 10.3, 10.13 and
11.1 define: what a version lacks raises AttributeError, on the module and on a class, on reading and on
setting. What a version has and this fake does not imitate raises NotImplementedError.

What it does, it does as TensorRT does, as far as edgepress looks: it reads the inputs and outputs of a real
ONNX file, wants a profile for open dimensions, gives None and a line in the log where it fails, and opens
plans of its own version only. `module.fake` says what is to go wrong, and what was asked for.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

_API = Path(__file__).with_name("tensorrt_api.json")
_FULL_VERSIONS = {"10.3": "10.3.0.26", "10.13": "10.13.3.9", "11.1": "11.1.0.106"}
_ENUMS = (
    *("BuilderFlag", "NetworkDefinitionCreationFlag", "HardwareCompatibilityLevel", "ProfilingVerbosity"),
    *("MemoryPoolType", "TensorIOMode", "DataType", "TensorLocation", "LayerInformationFormat"),
    *(
        "SerializationFlag",
        "ErrorCodeTRT",
        "ExecutionContextAllocationStrategy",
        "EngineStat",
        "RuntimePlatform",
    ),
)
_SEVERITIES = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")
_NO_DRIVER = "pybind11::init(): factory function returned nullptr"
_MAGIC = "a plan of tests/fakes/fake_tensorrt.py"

FAKE_VERSIONS = tuple(_FULL_VERSIONS)
"""The versions that `fake_tensorrt` takes."""


@dataclass(frozen=True)
class NodeError:
    """What the parser says of one node.

    Attributes:
        desc: The message.
        node: Number of the node in the graph.
        name: Of the node; empty for none.
        operator: Of the node.
    """

    desc: str
    node: int = 0
    name: str = ""
    operator: str = "Conv"


@dataclass(frozen=True)
class Built:
    """One call of `build_serialized_network`, as it was asked for.

    Attributes:
        flags: Names of the builder's flags.
        creation_flags: Names of the flags that the network was created with.
        config: Everything that was set on the configuration, by attribute.
        pools: Limits in bytes by the name of the pool.
        profiles: (min, opt, max) by the name of the input, for each profile.
        cache: What the timing cache held before; None without one.
    """

    flags: frozenset[str]
    creation_flags: frozenset[str]
    config: dict[str, Any]
    pools: dict[str, int]
    profiles: list[dict[str, Any]]
    cache: bytes | None


@dataclass
class Fake:
    """What a fake module is to do, and what was asked of it.

    Attributes:
        has_driver: Without one, Builder and Runtime cannot be made.
        capability: Of the GPU that is pretended, as "8.7".
        parser_errors: What the parser says instead of reading.
        build_failure: Lines of the log with which the builder gives None; None to build.
        open_failure: The same for opening a plan.
        run_failure: The same for running.
        during_build: Called at each step of the build; may raise KeyboardInterrupt.
        on_execute: Called with (context, stream) for each inference: computes the outputs.
        layer_ms: What a profiler is told of each layer.
        precisions: Precision by layer in the inspector's report, as "Int8"; others are of their type.
        builds: What was built.
    """

    has_driver: bool = True
    capability: str = "8.7"
    parser_errors: tuple[NodeError, ...] = ()
    build_failure: tuple[str, ...] | None = None
    open_failure: tuple[str, ...] | None = None
    run_failure: tuple[str, ...] | None = None
    during_build: Callable[[], None] = lambda: None
    on_execute: Callable[[Any, int], None] = lambda _context, _stream: None
    layer_ms: float = 0.25
    precisions: dict[str, str] = field(default_factory=dict)
    builds: list[Built] = field(default_factory=list)


def fake_tensorrt(version: str) -> ModuleType:
    """A fake of `tensorrt` of one version, with its own state in `.fake`.

    Args:
        version: "10.3", "10.13" or "11.1".
    """
    api, module = _api()[version], ModuleType("tensorrt", f"Fake of TensorRT {version}.")
    module.__version__ = _FULL_VERSIONS[version]  # type: ignore[attr-defined]
    module.fake = Fake()  # type: ignore[attr-defined]
    for name in (name for name in _ENUMS if name in api):
        setattr(module, name, _enum(name, api[name], version))
    for name, behaviour in _BEHAVIOURS.items():
        if name in api:
            setattr(module, name, _generated(name, behaviour, api[name], module))
    module.ILogger.Severity = _numbered("Severity", list(_SEVERITIES), range(len(_SEVERITIES)))
    for severity in module.ILogger.Severity:
        setattr(module.ILogger, severity.name, severity)
    module.IHostMemory = HostMemory  # type: ignore[attr-defined]
    module.Logger = _logger_class(module)  # type: ignore[attr-defined]
    module.nptype = _nptype  # type: ignore[attr-defined]
    module.volume = _volume  # type: ignore[attr-defined]
    return module


@lru_cache(maxsize=1)
def _api() -> dict[str, dict[str, list[str]]]:
    value: dict[str, dict[str, list[str]]] = json.loads(_API.read_text(encoding="utf-8"))
    return value


def _enum(name: str, members: list[str], version: str) -> Any:
    """Members numbered in another way by each version, as NVIDIA renumbered some in 11."""
    names = [member for member in members if member not in {"name", "value"}]
    numbers = range(len(names)) if version.startswith("10") else range(len(names) - 1, -1, -1)
    return _numbered(name, names, numbers)


def _numbered(name: str, members: list[str], numbers: range) -> Any:
    make: Callable[..., Any] = IntEnum
    return make(name, list(zip(members, numbers, strict=True)))


def _generated(name: str, behaviour: type, allowed: list[str], module: ModuleType) -> type:
    """The class with what both the version has and the behaviour imitates."""
    namespace: dict[str, Any] = {
        key: value
        for key, value in vars(behaviour).items()
        if key.startswith("_") and key not in {"__dict__", "__weakref__"}
    }
    imitated = {key: getattr(behaviour, key) for key in vars(behaviour) if not key.startswith("_")}
    for attribute in allowed:
        own = vars(behaviour).get(attribute, _NotImitated(name, attribute))
        namespace[attribute] = own if attribute in imitated else _NotImitated(name, attribute)
    namespace.update(__setattr__=_set_known, _trt=module, __module__="tensorrt")
    bases = tuple(base for base in behaviour.__bases__ if base is not object)
    return type(name, bases, namespace)


class _NotImitated:
    """An attribute that the version has and the fake lacks."""

    def __init__(self, owner: str, name: str) -> None:
        self._text = f"the fake tensorrt does not imitate {owner}.{name}; add it to fake_tensorrt.py"

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        raise NotImplementedError(self._text)

    def __set__(self, instance: Any, value: Any) -> None:
        raise NotImplementedError(self._text)


def _set_known(self: Any, name: str, value: Any) -> None:
    """As pybind11's classes: only what the class has can be set; a class derived from it may have more."""
    is_derived = type(self).__module__ != "tensorrt"
    if not name.startswith("_") and not is_derived and not hasattr(type(self), name):
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
    object.__setattr__(self, name, value)


def _logger_class(module: ModuleType) -> type:
    class Logger(module.ILogger):  # type: ignore[name-defined,misc]
        def __init__(self, min_severity: Any = None) -> None:
            super().__init__()
            self.min_severity = module.ILogger.Severity.WARNING if min_severity is None else min_severity

        def log(self, severity: Any, message: str) -> None:
            """Say nothing: TensorRT prints here."""

    return Logger


def _nptype(dtype: Any) -> Any:
    import numpy as np

    names = {"FLOAT": "float32", "HALF": "float16", "INT64": "int64", "INT32": "int32"}
    names |= {"INT8": "int8", "UINT8": "uint8", "BOOL": "bool"}
    if dtype.name not in names:
        raise TypeError("Could not resolve TensorRT datatype to an equivalent numpy datatype.")
    return np.dtype(names[dtype.name]).type


def _volume(shape: Any) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


class _ILogger:
    def __init__(self) -> None:
        self._is_ready = True

    def log(self, severity: Any, message: str) -> None:
        raise NotImplementedError("Tried to call pure virtual function 'ILogger::log'")


class _IProfiler:
    def __init__(self) -> None:
        self._is_ready = True

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        raise NotImplementedError("Tried to call pure virtual function 'IProfiler::report_layer_time'")


class _IProgressMonitor:
    def __init__(self) -> None:
        self._is_ready = True

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        raise NotImplementedError("Tried to call pure virtual function 'IProgressMonitor::phase_start'")

    def phase_finish(self, phase_name: str) -> None:
        raise NotImplementedError("Tried to call pure virtual function 'IProgressMonitor::phase_finish'")

    def step_complete(self, phase_name: str, step: int) -> bool:
        raise NotImplementedError("Tried to call pure virtual function 'IProgressMonitor::step_complete'")


def _say(logger: Any, module: ModuleType, *lines: str) -> None:
    for line in lines:
        logger.log(module.ILogger.Severity.ERROR, line)


def _require_driver(logger: Any, module: Any) -> None:
    if not getattr(logger, "_is_ready", False):
        raise TypeError("tensorrt.ILogger.__init__() must be called when overriding __init__")
    if not module.fake.has_driver:
        _say(
            logger, module, "CUDA initialization failure with error: 35. Please check your CUDA installation"
        )
        raise TypeError(_NO_DRIVER)


class _Builder:
    _trt: Any

    def __init__(self, logger: Any) -> None:
        _require_driver(logger, self._trt)
        self._logger = logger

    def create_network(self, flags: int = 0) -> Any:
        network = self._trt.INetworkDefinition()
        network._creation_flags = frozenset(
            flag.name for flag in self._trt.NetworkDefinitionCreationFlag if flags >> int(flag) & 1
        )
        return network

    def create_builder_config(self) -> Any:
        return self._trt.IBuilderConfig()

    def create_optimization_profile(self) -> Any:
        return self._trt.IOptimizationProfile()

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        trt, fake = self._trt, self._trt.fake
        fake.builds.append(_asked_for(network, config))
        failure = fake.build_failure or _refusal(network, config)
        if failure:
            _say(self._logger, trt, *failure)
            return None
        monitor = config.__dict__.get("progress_monitor")
        if not _told(monitor, fake):
            _say(self._logger, trt, "The build was cancelled by the IProgressMonitor.")
            return None
        if (cache := config._cache) is not None:
            cache._data += f"timings of {network._source.name};".encode()
        return HostMemory(_plan_of(trt, network, config))


def _told(monitor: Any, fake: Fake) -> bool:
    """Go through the phases of a build; whether it was left to go on."""
    if monitor is not None and not getattr(monitor, "_is_ready", False):
        raise TypeError("tensorrt.IProgressMonitor.__init__() must be called when overriding __init__")
    if monitor is None:
        fake.during_build()
        return True
    monitor.phase_start("Building engine", None, 2)
    goes_on = all(_part_told(monitor, fake, part) for part in range(2))
    monitor.phase_finish("Building engine")
    return goes_on


def _part_told(monitor: Any, fake: Fake, part: int) -> bool:
    """One step of the build, in three; the first that is answered by False is the last."""
    monitor.phase_start("Timing graph nodes", "Building engine", 3)
    for step in range(3):
        fake.during_build()
        if not monitor.step_complete("Timing graph nodes", step):
            return False
    monitor.phase_finish("Timing graph nodes")
    return bool(monitor.step_complete("Building engine", part))


def _asked_for(network: Any, config: Any) -> Built:
    return Built(
        frozenset(flag.name for flag in config._flags),
        network._creation_flags,
        {name: value for name, value in vars(config).items() if not name.startswith("_")},
        dict(config._pools),
        [dict(profile._shapes) for profile in config._profiles],
        bytes(config._cache._data) if config._cache is not None else None,
    )


def _refusal(network: Any, config: Any) -> tuple[str, ...]:
    """Why TensorRT would not build this; empty if it would."""
    names = {flag.name for flag in config._flags}
    if "STRONGLY_TYPED" in network._creation_flags and names & {"FP16", "INT8", "BF16", "FP8"}:
        return (
            "Error Code 3: API Usage Error (precision flags are not compatible with a strongly typed "
            "network)",
        )
    open_inputs = [spec["name"] for spec in network._inputs if -1 in spec["shape"]]
    profiled = {name for profile in config._profiles for name in profile._shapes}
    if set(open_inputs) - profiled:
        return (
            "Error Code 4: API Usage Error (Network has dynamic or shape inputs, but no optimization profile "
            "has been defined.)",
        )
    for profile in config._profiles:
        for name, (least, best, most) in profile._shapes.items():
            if any(not a <= b <= c for a, b, c in zip(least, best, most, strict=True)):
                return (f"Error Code 4: profile of {name}: wanted min <= opt <= max",)
    return ()


def _plan_of(trt: Any, network: Any, config: Any) -> bytes:
    names = sorted(flag.name for flag in config._flags)
    value = {
        "magic": _MAGIC,
        "version": trt.__version__,
        "capability": trt.fake.capability,
        "flags": names,
        "hardware": _name_of(config.hardware_compatibility_level, "NONE"),
        "verbosity": _name_of(config.profiling_verbosity, "LAYER_NAMES_ONLY"),
        "inputs": network._inputs,
        "outputs": network._outputs,
        "layers": network._layers,
        "profiles": [profile._shapes for profile in config._profiles],
    }
    text = json.dumps(value).encode()
    size = 0 if "STRIP_PLAN" in names else network._source.stat().st_size
    return text.ljust(size)


def _name_of(member: Any, default: str) -> str:
    return default if member is None else str(member.name)


class HostMemory(bytes):
    """IHostMemory: real host memory has a buffer and no length; in Python 3.11 only bytes have a buffer."""

    @property
    def nbytes(self) -> int:
        """Its size."""
        return super().__len__()

    def __len__(self) -> int:
        raise TypeError("object of type 'tensorrt.IHostMemory' has no len()")


class _INetworkDefinition:
    _trt: Any

    def __init__(self) -> None:
        self._creation_flags: frozenset[str] = frozenset()
        self._source = Path()
        self._inputs: list[dict[str, Any]] = []
        self._outputs: list[dict[str, Any]] = []
        self._layers: list[dict[str, Any]] = []

    @property
    def num_inputs(self) -> int:
        return len(self._inputs)

    @property
    def num_outputs(self) -> int:
        return len(self._outputs)

    @property
    def num_layers(self) -> int:
        return len(self._layers)

    def get_input(self, index: int) -> Any:
        return self._trt.ITensor(self._inputs[index])

    def get_output(self, index: int) -> Any:
        return self._trt.ITensor(self._outputs[index])


class _ITensor:
    _trt: Any

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec

    @property
    def name(self) -> str:
        return str(self._spec["name"])

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._spec["shape"])

    @property
    def dtype(self) -> Any:
        return self._trt.DataType[self._spec["dtype"]]


class _IBuilderConfig:
    _trt: Any
    profiling_verbosity: Any = None
    hardware_compatibility_level: Any = None
    builder_optimization_level: int = 3
    progress_monitor: Any = None
    max_aux_streams: int = 0
    avg_timing_iterations: int = 1

    def __init__(self) -> None:
        self._flags = {self._trt.BuilderFlag.TF32}
        self._pools: dict[str, int] = {}
        self._profiles: list[Any] = []
        self._cache: Any = None

    @property
    def num_optimization_profiles(self) -> int:
        return len(self._profiles)

    def set_flag(self, flag: Any) -> None:
        self._flags.add(self._trt.BuilderFlag(flag))

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(self._trt.BuilderFlag(flag))

    def get_flag(self, flag: Any) -> bool:
        return flag in self._flags

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._pools[pool.name] = pool_size

    def get_memory_pool_limit(self, pool: Any) -> int:
        return self._pools.get(pool.name, 1 << 36)

    def add_optimization_profile(self, profile: Any) -> int:
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
        """As TensorRT: what another version or nobody wrote gives None, or an empty cache."""
        return self._trt.ITimingCache(bytes(serialized_timing_cache))

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        self._cache = cache
        return True if ignore_mismatch else cache is not None

    def get_timing_cache(self) -> Any:
        return self._cache


class _ITimingCache:
    def __init__(self, data: bytes = b"") -> None:
        self._data = data

    def serialize(self) -> Any:
        return HostMemory(self._data)


class _IOptimizationProfile:
    def __init__(self) -> None:
        self._shapes: dict[str, Any] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002  # TensorRT's own
        self._shapes[input] = (tuple(min), tuple(opt), tuple(max))

    def get_shape(self, input: str) -> list[tuple[int, ...]]:  # noqa: A002  # TensorRT's own
        return list(self._shapes[input])


class _OnnxParser:
    _trt: Any

    def __init__(self, network: Any, logger: Any) -> None:
        self._network, self._logger = network, logger
        self._errors: list[Any] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> Any:
        return self._errors[index]

    def clear_errors(self) -> None:
        self._errors.clear()

    def parse_from_file(self, path: str) -> bool:
        for error in self._trt.fake.parser_errors:
            self._errors.append(self._trt.ParserError(error))
            _say(self._logger, self._trt, error.desc)
        if not self._errors:
            _read_graph(self._network, Path(path))
        return not self._errors


class _ParserError:
    def __init__(self, error: NodeError) -> None:
        self._error = error

    def desc(self) -> str:
        return self._error.desc

    def node(self) -> int:
        return self._error.node

    def node_name(self) -> str:
        return self._error.name

    def node_operator(self) -> str:
        return self._error.operator


_DTYPES = {1: "FLOAT", 2: "UINT8", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL", 10: "HALF", 16: "BF16"}


def _read_graph(network: Any, path: Path) -> None:
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    stored = {tensor.name for tensor in graph.initializer}

    def spec(value: Any) -> dict[str, Any]:
        tensor = value.type.tensor_type
        shape = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim]
        return {"name": value.name, "shape": shape, "dtype": _DTYPES[tensor.elem_type]}

    network._source = path
    network._inputs = [spec(value) for value in graph.input if value.name not in stored]
    network._outputs = [spec(value) for value in graph.output]
    network._layers = [
        {"name": node.name or node.output[0], "operator": node.op_type, "output": node.output[0]}
        for node in graph.node
        if node.op_type not in {"QuantizeLinear", "DequantizeLinear", "Relu", "Constant"}
    ]


class _Runtime:
    _trt: Any
    engine_host_code_allowed: bool = False

    def __init__(self, logger: Any) -> None:
        _require_driver(logger, self._trt)
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
        trt = self._trt
        failure = trt.fake.open_failure or _why_not(trt, bytes(serialized_engine))
        if failure:
            _say(self._logger, trt, *failure)
            return None
        return trt.ICudaEngine(json.loads(bytes(serialized_engine)), self._logger)


def _why_not(trt: Any, plan: bytes) -> tuple[str, ...]:
    try:
        value = json.loads(plan)
    except ValueError:
        return ("IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Magic tag does not match)",)
    if value.get("magic") != _MAGIC:
        return ("IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Magic tag does not match)",)
    same_major = value["version"].split(".")[0] == trt.__version__.split(".")[0]
    is_compatible = "VERSION_COMPATIBLE" in value["flags"] and same_major
    if value["version"] != trt.__version__ and not is_compatible:
        return (
            "IRuntime::deserializeCudaEngine: Error Code 6: API Usage Error (The engine plan file is not "
            f"compatible with this version of TensorRT, expecting library version {trt.__version__} got "
            f"{value['version']}, please rebuild.)",
        )
    if value["capability"] != trt.fake.capability and value["hardware"] != "AMPERE_PLUS":
        return (
            "IRuntime::deserializeCudaEngine: Error Code 6: API Usage Error (The engine plan file is "
            "generated on an incompatible device, please rebuild.)",
        )
    return ()


class _ICudaEngine:
    _trt: Any

    def __init__(self, plan: dict[str, Any], logger: Any) -> None:
        self._plan, self._logger = plan, logger
        self._specs = {spec["name"]: spec for spec in (*plan["inputs"], *plan["outputs"])}
        self._refitted_bytes = 0

    @property
    def num_io_tensors(self) -> int:
        return len(self._specs)

    @property
    def num_layers(self) -> int:
        return len(self._plan["layers"])

    @property
    def num_optimization_profiles(self) -> int:
        return max(1, len(self._plan["profiles"]))

    @property
    def refittable(self) -> bool:
        return any(name.startswith("REFIT") for name in self._plan["flags"])

    @property
    def profiling_verbosity(self) -> Any:
        return self._trt.ProfilingVerbosity[self._plan["verbosity"]]

    @property
    def hardware_compatibility_level(self) -> Any:
        return self._trt.HardwareCompatibilityLevel[self._plan["hardware"]]

    @property
    def device_memory_size(self) -> int:
        return 1 << 20

    @property
    def device_memory_size_v2(self) -> int:
        return 1 << 20

    def get_tensor_name(self, index: int) -> str:
        return str(list(self._specs)[index])

    def get_tensor_mode(self, name: str) -> Any:
        mode, specs = self._trt.TensorIOMode, self._specs
        if name not in specs:
            return mode.NONE
        return mode.INPUT if specs[name] in self._plan["inputs"] else mode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._specs[name]["shape"])

    def get_tensor_dtype(self, name: str) -> Any:
        return self._trt.DataType[self._specs[name]["dtype"]]

    def get_tensor_location(self, _name: str) -> Any:
        return self._trt.TensorLocation.DEVICE

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return [tuple(shape) for shape in self._plan["profiles"][profile_index][name]]

    def create_execution_context(self, *_strategy: Any) -> Any:
        return self._trt.IExecutionContext(self)

    def create_engine_inspector(self) -> Any:
        return self._trt.EngineInspector(self)

    def create_serialization_config(self) -> Any:
        return self._trt.ISerializationConfig(self)

    def serialize_with_config(self, config: Any) -> Any:
        """With the weights, if they were put back and are not excluded."""
        plan = dict(self._plan)
        names = {flag.name for flag in config._flags}
        if self._refitted_bytes and "EXCLUDE_WEIGHTS" not in names:
            plan["flags"] = [name for name in plan["flags"] if name != "STRIP_PLAN"]
            return HostMemory(json.dumps(plan).encode().ljust(self._refitted_bytes))
        return HostMemory(json.dumps(plan).encode())


class _ISerializationConfig:
    _trt: Any

    def __init__(self, engine: Any) -> None:
        excludes = "STRIP_PLAN" in engine._plan["flags"]
        self._flags = {self._trt.SerializationFlag.EXCLUDE_WEIGHTS} if excludes else set()

    def clear_flag(self, flag: Any) -> bool:
        self._flags.discard(flag)
        return True


class _Refitter:
    def __init__(self, engine: Any, logger: Any) -> None:
        self._engine, self._logger, self._source = engine, logger, None

    def refit_cuda_engine(self) -> bool:
        """Whether weights were given."""
        if self._source is None:
            return False
        self._engine._refitted_bytes = Path(self._source).stat().st_size
        return True


class _OnnxParserRefitter:
    _trt: Any

    def __init__(self, refitter: Any, logger: Any) -> None:
        self._refitter, self._logger = refitter, logger
        self._errors: list[Any] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> Any:
        return self._errors[index]

    def refit_from_file(self, model_file: str) -> bool:
        """Whether the file has the layers of the engine."""
        network = self._trt.INetworkDefinition()
        _read_graph(network, Path(model_file))
        if network._layers != self._refitter._engine._plan["layers"]:
            self._errors.append(self._trt.ParserError(NodeError("Weights are not in the engine")))
            return False
        self._refitter._source = model_file
        return True


class _IExecutionContext:
    _trt: Any
    profiler: Any = None
    enqueue_emits_profile: bool = True
    nvtx_verbosity: Any = None

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    @property
    def engine(self) -> Any:
        return self._engine

    def set_input_shape(self, name: str, shape: Any) -> bool:
        """Whether the shape lies within the profile."""
        profiles = self._engine._plan["profiles"]
        least, _, most = profiles[0][name] if profiles and name in profiles[0] else (shape, shape, shape)
        fits = len(shape) == len(least) and all(
            a <= b <= c for a, b, c in zip(least, shape, most, strict=True)
        )
        if not fits:
            _say(
                self._engine._logger,
                self._trt,
                f"Error Code 3: shape of {name} {tuple(shape)} is out of the profile",
            )
            return False
        self._shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """With the batch of the inputs that were set; -1 before."""
        if name in self._shapes:
            return self._shapes[name]
        batch = next((shape[0] for shape in self._shapes.values()), -1)
        first, *rest = self._engine.get_tensor_shape(name)
        return (batch if first == -1 else first, *rest)

    def infer_shapes(self) -> list[str]:
        """Names of the inputs whose shape is not set."""
        return [s["name"] for s in self._engine._plan["inputs"] if -1 in self.get_tensor_shape(s["name"])]

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in self._engine._specs:
            return False
        self._addresses[name] = int(memory)
        return True

    def get_tensor_address(self, name: str) -> int:
        return self._addresses.get(name, 0)

    def execute_async_v3(self, stream_handle: int) -> bool:
        """Whether it was enqueued; the hook computes."""
        trt, logger = self._trt, self._engine._logger
        lacking = [name for name in self._engine._specs if not self._addresses.get(name)]
        failure = trt.fake.run_failure
        if lacking:
            failure = (f"Error Code 3: no address is set for {', '.join(lacking)}",)
        elif self.infer_shapes():
            failure = (f"Error Code 3: not all input shapes are set: {', '.join(self.infer_shapes())}",)
        if failure:
            _say(logger, trt, *failure)
            return False
        trt.fake.on_execute(self, int(stream_handle))
        if self.profiler is not None and self.enqueue_emits_profile:
            self.report_to_profiler()
        return True

    def report_to_profiler(self) -> bool:
        for layer in self._engine._plan["layers"]:
            self.profiler.report_layer_time(layer["name"], self._trt.fake.layer_ms)
        return True


class _EngineInspector:
    _trt: Any
    execution_context: Any = None

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def get_engine_information(self, layer_information_format: Any) -> str:
        """JSON as the version writes it: `Bindings` in 10, `I/O Tensors` in 11."""
        if layer_information_format.name != "JSON":
            raise NotImplementedError("the fake tensorrt writes JSON only")
        plan = self._engine._plan
        names = [layer["name"] for layer in plan["layers"]]
        is_detailed = plan["verbosity"] == "DETAILED"
        layers = list(_layers_of(self._trt, plan)) if is_detailed else names
        return json.dumps({"Layers": layers, **_ends(self._trt, plan)})


def _ends(trt: Any, plan: dict[str, Any]) -> dict[str, Any]:
    if trt.__version__.startswith("10."):
        return {"Bindings": [spec["name"] for spec in (*plan["inputs"], *plan["outputs"])]}
    modes = {"Input": plan["inputs"], "Output": plan["outputs"]}
    return {
        "I/O Tensors": [
            {
                "Name": s["name"],
                "IOMode": mode,
                "DataType": s["dtype"],
                "Dimensions": s["shape"],
                "Location": "Device",
            }
            for mode, specs in modes.items()
            for s in specs
        ]
    }


def _layers_of(trt: Any, plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each node as a layer of its own: this fake fuses only what follows a convolution."""
    for layer in plan["layers"]:
        precision = trt.fake.precisions.get(layer["name"], "FP32")
        tensor = {"Location": "Device", "Dimensions": [], "Format/Datatype": f"Row major linear {precision}"}
        yield {
            "Name": layer["name"],
            "LayerType": {"Conv": "CaskConvolution"}.get(layer["operator"], layer["operator"]),
            "Inputs": [{"Name": f"input of {layer['name']}", **tensor}],
            "Outputs": [{"Name": layer["output"], **tensor}],
            "TacticName": "fake_tactic",
            "Metadata": f"[ONNX Layer: {layer['name']}]",
        }


_BEHAVIOURS: dict[str, type] = {
    "ILogger": _ILogger,
    "IProfiler": _IProfiler,
    "IProgressMonitor": _IProgressMonitor,
    "Builder": _Builder,
    "INetworkDefinition": _INetworkDefinition,
    "ITensor": _ITensor,
    "IBuilderConfig": _IBuilderConfig,
    "ITimingCache": _ITimingCache,
    "IOptimizationProfile": _IOptimizationProfile,
    "OnnxParser": _OnnxParser,
    "ParserError": _ParserError,
    "Runtime": _Runtime,
    "ICudaEngine": _ICudaEngine,
    "IExecutionContext": _IExecutionContext,
    "EngineInspector": _EngineInspector,
    "ISerializationConfig": _ISerializationConfig,
    "Refitter": _Refitter,
    "OnnxParserRefitter": _OnnxParserRefitter,
}
