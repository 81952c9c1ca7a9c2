"""TensorRT engine from ONNX, by one strongly typed builder for TensorRT 10.x, 11.x and TensorRT-RTX.

Precision is that of the ONNX file: no precision flag is set, and none exists in 11 and RTX. TF32 is cleared
unless it is asked for, so that an FP32 engine computes in FP32. The module is a parameter; what it lacks is
refused by `edgepress.tensorrt_flavour` before anything is built. TensorRT-RTX builds with no GPU and no
driver, for named compute capabilities; TensorRT proper builds for the GPU at hand.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from edgepress.artifact import Proof
from edgepress.engine_card import SCHEMA_VERSION, BatchRange, EngineCard, HardwareCompatibility
from edgepress.errors import InputError, MissingDeviceError, ProofError
from edgepress.files import atomic_path, sha256_of_file, size_bytes
from edgepress.local_gpu import LocalGpu, system_name
from edgepress.progress import Progress, silent
from edgepress.record import to_json
from edgepress.target import ComputeCapability
from edgepress.tensorrt_flavour import FLAVOURS, Flavour, facts_of, flavour_of, imported
from edgepress.tensorrt_log import TensorRtLog, logger_of, on_one_line, tail
from optimize.build_options import (
    PLAIN_BUILD,
    BuildOptions,
    Tf32,
    builds_without_gpu,
    flags_of,
    require_possible,
)
from optimize.build_watch import Interruption, interruptible, monitor
from optimize.timing_cache import attach, cache_file, keep

_LOGGER = logging.getLogger(__name__)
_SHOWN_ERRORS = 5
_OTHER_RECIPE = "Leave the engine recipes out for this model."

Place = ComputeCapability | LocalGpu
"""What a plan is built for: GPUs by their compute capability, without one, or the GPU at hand."""


@dataclass(frozen=True)
class BuiltPlan:
    """A plan that was built, and how.

    Attributes:
        flavour: TensorRT that built it.
        version: Of that TensorRT.
        place: What it was built for.
        hardware: On which other GPUs it runs.
        flags: Names of the builder's flags, sorted.
        batch: That it takes.
        build_ns: What parsing and building took.
    """

    flavour: Flavour
    version: str
    place: Place
    hardware: HardwareCompatibility
    flags: tuple[str, ...]
    batch: BatchRange
    build_ns: int

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Compute capabilities that it was built for, e.g. ("8.6",)."""
        if isinstance(self.place, LocalGpu):
            return (self.place.capability,)
        return self.place.capabilities

    @property
    def provenance(self) -> Mapping[str, Any]:
        """As the manifest keeps it."""
        return {
            "builder": f"{FLAVOURS[self.flavour].module} {self.version}",
            "capabilities": list(self.capabilities),
            "flags": list(self.flags),
            "batch": to_json(self.batch),
            "build_ns": self.build_ns,
        }

    def card_of(self, plan: Path, source: Path, calibration: str | None = None) -> EngineCard:
        """The card that belongs beside the plan.

        Args:
            plan: The file that was written.
            source: The ONNX file that it was built from.
            calibration: Fingerprint of the ranges in it.
        """
        return self.card(sha256_of_file(plan), size_bytes(plan), sha256_of_file(source), calibration)

    def card(
        self, plan_sha256: str, plan_bytes: int, source_sha256: str, calibration: str | None = None
    ) -> EngineCard:
        """As `card_of`, for files that were hashed already."""
        gpu = self.place if isinstance(self.place, LocalGpu) else None
        return EngineCard(
            schema_version=SCHEMA_VERSION,
            plan_sha256=plan_sha256,
            plan_bytes=plan_bytes,
            flavour=self.flavour,
            version=self.version,
            system=system_name(),
            capabilities=self.capabilities,
            gpu=gpu.name if gpu is not None else None,
            driver=gpu.driver if gpu is not None else None,
            hardware=self.hardware,
            flags=self.flags,
            batch=self.batch,
            source_sha256=source_sha256,
            calibration=calibration,
            build_ns=self.build_ns,
            proof=Proof.INFERRED,
        )


def tensorrt_rtx() -> ModuleType:
    """The TensorRT-RTX module.

    Raises:
        MissingRuntimeError: It is not installed (there is no package for every platform).
        InputError: It cannot be loaded, or is of a version that is not supported.
    """
    module: ModuleType = imported(Flavour.TENSORRT_RTX)
    return module


def engine_from_onnx(
    trt: ModuleType,
    source: Path,
    destination: Path,
    place: Place,
    options: BuildOptions = PLAIN_BUILD,
    progress: Progress = silent,
) -> BuiltPlan:
    """Build an engine.

    Args:
        trt: `tensorrt` (10.x or 11.x) or `tensorrt_rtx`.
        source: ONNX file in the precision of the engine; unchanged.
        destination: New plan file; what is there is replaced once the plan is whole.
        place: What it is built for.
        options: How it is built.
        progress: Told "build NAME" in percent.

    Returns:
        What was built, from which `BuiltPlan.card_of` makes the plan's card.

    Raises:
        InputError: This TensorRT has no such option or builds for no such GPU, or the batch does not fit the
            graph.
        MissingDeviceError: TensorRT finds no usable NVIDIA driver.
        ProofError: The parser or the builder refused the graph, or device memory ran out.
        KeyboardInterrupt: The user ended the build. In each of these cases nothing is written.
    """
    require_possible(trt, options)
    place = _possible_place(trt, place)
    started_ns = time.perf_counter_ns()
    with interruptible() as wish, atomic_path(destination) as temporary:
        batch = _built(_Build(trt, source, place, options), temporary, wish, progress)
        if wish.is_wanted:
            raise KeyboardInterrupt
    return BuiltPlan(
        flavour_of(trt),
        str(trt.__version__),
        place,
        options.hardware,
        tuple(sorted(flags_of(options))),
        batch,
        time.perf_counter_ns() - started_ns,
    )


@dataclass(frozen=True)
class _Build:
    """What one build is asked for."""

    trt: ModuleType
    source: Path
    place: Place
    options: BuildOptions

    @property
    def title(self) -> str:
        return f"{facts_of(self.trt).title} ({self.trt.__version__})"

    @property
    def place_name(self) -> str:
        return self.place.name if isinstance(self.place, LocalGpu) else self.place.value


def _possible_place(trt: ModuleType, place: Place) -> Place:
    """What this TensorRT can build for: names for RTX, the GPU at hand for the others."""
    if not builds_without_gpu(trt):
        if isinstance(place, LocalGpu):
            return place
        raise InputError(
            f"{facts_of(trt).title} builds for the GPU at hand only, and a plan for {place.value} was "
            "wanted. Build on that device, or take TensorRT-RTX."
        )
    if isinstance(place, ComputeCapability):
        return place
    for capability in ComputeCapability:
        if capability.capabilities == (place.capability,):
            return capability
    known = ", ".join(c.capabilities[0] for c in ComputeCapability if c is not ComputeCapability.ALL)
    raise InputError(
        f"TensorRT-RTX has no plans for the {place.name} (compute capability {place.capability}): it builds "
        f"for {known}. Take TensorRT itself there."
    )


def _built(build: _Build, plan_file: Path, wish: Interruption, progress: Progress) -> BatchRange:
    """Write the plan and give the batch that it takes."""
    trt, options, log = build.trt, build.options, TensorRtLog()
    logger = logger_of(trt, log)
    builder = _builder(build, logger, log)
    creation = facts_of(trt).creation_flags
    network = builder.create_network(
        sum(1 << int(getattr(trt.NetworkDefinitionCreationFlag, name)) for name in creation)
    )
    parser = trt.OnnxParser(network, logger)  # owns the weights: it must live until the plan is built
    if not parser.parse_from_file(str(build.source)):
        raise _unparsed(build, parser, log)
    batch = _batch(build, network)
    config = _config(build, builder)
    config.add_optimization_profile(_profile(builder, network, batch))
    watching = monitor(trt, wish, f"build {build.source.name}", progress)  # not kept alive by TensorRT
    config.progress_monitor = watching
    cache = _cache_of(build)
    if cache is not None:
        attach(config, cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _unbuilt(build, log)
    if cache is not None:
        keep(config, cache)
    plan_file.write_bytes(plan)
    _LOGGER.info("%s: built for %s with %s", build.source.name, build.place_name, sorted(flags_of(options)))
    return batch


def _builder(build: _Build, logger: Any, log: TensorRtLog) -> Any:
    try:
        return build.trt.Builder(logger)
    except TypeError as error:  # pybind11's way to say that a constructor gave nothing
        raise MissingDeviceError(
            f"{build.title} finds no usable NVIDIA driver here: {tail(log.messages or [str(error)])}. "
            "Install or update the driver; `edgepress doctor` says what is there."
        ) from error


def _unparsed(build: _Build, parser: Any, log: TensorRtLog) -> ProofError:
    """The parser's errors, node by node."""
    errors = [_node_error(parser.get_error(index)) for index in range(parser.num_errors)]
    for error in errors:
        _LOGGER.info("%s: %s", build.source.name, error)
    shown = "; ".join(errors[:_SHOWN_ERRORS]) or log.tail()
    more = f"; and {len(errors) - _SHOWN_ERRORS} more" if len(errors) > _SHOWN_ERRORS else ""
    return ProofError(f"{build.title} cannot parse {build.source.name}: {shown}{more}. {_OTHER_RECIPE}")


def _node_error(error: Any) -> str:
    """One error of the parser, with the node that it is about."""
    text = on_one_line(str(error.desc())).rstrip(".")
    if error.node() < 0:
        return text
    name = f" {error.node_name()!r}" if error.node_name() else ""
    return f"node {error.node()} ({error.node_operator()}{name}): {text}"


def _unbuilt(build: _Build, log: TensorRtLog) -> ProofError:
    """Why the builder gave no plan."""
    reason = log.tail()
    if log.tells_full():
        return ProofError(
            f"{build.title} ran out of device memory while it built {build.source.name} for "
            f"{build.place_name}: {reason}. Stop what else uses the GPU, or limit the workspace."
        )
    limit = build.options.workspace_bytes
    if limit is not None and "workspace" in " ".join(log.messages).lower():
        return ProofError(
            f"{build.title} cannot build {build.source.name} for {build.place_name} in a workspace of "
            f"{limit} bytes: {reason}. Allow more."
        )
    return ProofError(
        f"{build.title} cannot build {build.source.name} for {build.place_name}: {reason}. Leave this recipe "
        "out for this GPU."
    )


def _config(build: _Build, builder: Any) -> Any:
    trt, options = build.trt, build.options
    config = builder.create_builder_config()
    if options.tf32 is Tf32.OFF:
        config.clear_flag(trt.BuilderFlag.TF32)
    for name in sorted(flags_of(options)):
        config.set_flag(getattr(trt.BuilderFlag, name))
    config.profiling_verbosity = getattr(trt.ProfilingVerbosity, options.detail.value)
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if options.hardware is not HardwareCompatibility.NONE:
        level = getattr(trt.HardwareCompatibilityLevel, options.hardware.value)
        config.hardware_compatibility_level = level
    # For all, nothing is set: RTX's own default is "8.0, 8.6, 8.9, 12.0, and later".
    if isinstance(build.place, ComputeCapability) and build.place is not ComputeCapability.ALL:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, build.place.value.upper()), 0)
    return config


def _cache_of(build: _Build) -> Path | None:
    """File of the timing cache. Only what builds on a GPU has one, see `require_possible`."""
    folder, gpu = build.options.timing_cache, build.place
    return cache_file(folder, build.trt, gpu) if folder is not None and isinstance(gpu, LocalGpu) else None


def _batch(build: _Build, network: Any) -> BatchRange:
    """The batches that the plan takes: those that were asked for, if the graph leaves the batch open.

    Raises:
        InputError: Another dimension is open, or the graph fixes another batch than is wanted.
    """
    shapes = {
        tensor.name: tuple(tensor.shape) for tensor in map(network.get_input, range(network.num_inputs))
    }
    for name, (_, *rest) in shapes.items():
        if any(size < 0 for size in rest):
            raise InputError(
                f"{build.source.name}: input {name!r} has the shape {shapes[name]}, and only the batch may "
                "be open. Export the model with fixed sizes."
            )
    fixed = {shape[0] for shape in shapes.values() if shape[0] >= 0}
    wanted = build.options.batch
    if not fixed:
        return wanted or BatchRange(1, 1, 1)
    own = BatchRange(*(max(fixed),) * 3)
    if wanted not in {None, own}:
        raise InputError(
            f"{build.source.name} has a fixed batch of {own.most}, and a plan for batches {wanted.least} to "
            f"{wanted.most} was wanted. Export the model without --batch."
        )
    return own


def _profile(builder: Any, network: Any, batch: BatchRange) -> Any:
    profile = builder.create_optimization_profile()
    for tensor in map(network.get_input, range(network.num_inputs)):
        first, *rest = tensor.shape
        sizes = (batch.least, batch.usual, batch.most) if first < 0 else (first,) * 3
        profile.set_shape(tensor.name, *((size, *rest) for size in sizes))
    return profile
