"""TensorRT engine from ONNX, with no GPU and no driver: TensorRT-RTX compiles ahead of time.

The network is strongly typed: precision is that of the ONNX file, and no precision flag exists. TF32 is
cleared, so that an FP32 engine computes in FP32. The module is a parameter, since TensorRT proper has
the same builder.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from edgepress.errors import MissingRuntimeError, ProofError
from edgepress.target import ComputeCapability

_LOGGER = logging.getLogger(__name__)
_TAIL = 3


def tensorrt_rtx() -> ModuleType:
    """The TensorRT-RTX module.

    Raises:
        MissingRuntimeError: It is not installed (there is no package for every platform).
    """
    try:
        import tensorrt_rtx as module
    except ImportError as error:
        raise MissingRuntimeError("tensorrt-rtx", "tensorrt-rtx") from error
    return module  # type: ignore[no-any-return]


def engine_from_onnx(
    trt: ModuleType, source: Path, destination: Path, capability: ComputeCapability
) -> Mapping[str, Any]:
    """Build an engine for one GPU generation, and for the batch that the graph fixes, or 1.

    Args:
        trt: `tensorrt_rtx`.
        source: ONNX file in the precision of the engine; unchanged.
        destination: New plan file.
        capability: GPU generation that the plan is compiled for.

    Returns:
        Provenance: builder version, capability, batch.

    Raises:
        ProofError: The parser or the builder refused the graph; nothing is written.
    """
    log = _log_for(trt)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)  # owns the weights: it must live until the plan is built
    if not parser.parse_from_file(str(source)):
        errors = [str(parser.get_error(i).desc()) for i in range(parser.num_errors)]
        raise ProofError(
            f"TensorRT {trt.__version__} cannot parse {source.name}: {_tail(errors or log.messages)}. "
            "Leave the engine recipes out for this model."
        )
    plan = builder.build_serialized_network(network, _config(trt, builder, network, capability))
    if plan is None:
        raise ProofError(
            f"TensorRT {trt.__version__} cannot build {source.name} for {capability.value}: "
            f"{_tail(log.messages)}. Leave this recipe out for this GPU."
        )
    destination.write_bytes(plan)
    batch = _shape(network.get_input(0))[0]
    return {"builder": f"{trt.__name__} {trt.__version__}", "capability": capability.value, "batch": batch}


def _config(trt: ModuleType, builder: Any, network: Any, capability: ComputeCapability) -> Any:
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, capability.value.upper()), 0)
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        profile.set_shape(tensor.name, *[_shape(tensor)] * 3)
    config.add_optimization_profile(profile)
    return config


def _shape(tensor: Any) -> list[int]:
    """An input's shape, with 1 for an open batch."""
    batch, *rest = tensor.shape
    return [max(1, batch), *rest]


def _log_for(trt: ModuleType) -> Any:
    """A TensorRT logger that keeps warnings and errors instead of printing them."""

    class Log(trt.ILogger):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.messages: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            _LOGGER.debug("%s: %s", severity, message)
            if severity in {trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR}:
                self.messages.append(message)

    return Log()


def _tail(messages: list[str]) -> str:
    last = [" ".join(message.split()) for message in messages[-_TAIL:]]
    return "; ".join(last) or "no reason given"
