"""Weights for a TensorRT plan that was built without them, or others for a plan that can be refitted.

Needs the GPU that the plan was built for. TensorRT takes the weights from the ONNX file by their names.
"""

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from edgepress.engine_card import EngineCard, require_whole
from edgepress.errors import InputError, MissingDeviceError, ProofError
from edgepress.files import sha256_of_file, size_bytes, write_bytes
from edgepress.tensorrt_log import TensorRtLog, logger_of, tail

_STRIPPED = "STRIP_PLAN"
_IDENTICAL = "REFIT_IDENTICAL"
_REFIT = "REFIT"


def refitted(trt: ModuleType, card: EngineCard, plan: Path, source: Path, destination: Path) -> EngineCard:
    """Write a plan with the weights of an ONNX file.

    Args:
        trt: The TensorRT that built the plan.
        card: Of the plan.
        plan: Without weights, or refittable; unchanged.
        source: ONNX file with the same network: the very one that the plan was built from, unless the plan is
            refittable with other weights.
        destination: New plan.

    Returns:
        The card of the new plan.

    Raises:
        InputError: The plan is damaged or cannot be refitted, or the ONNX file is another one.
        MissingDeviceError: TensorRT finds no usable NVIDIA driver.
        ProofError: TensorRT does not open the plan, or does not take the weights; nothing is written.
    """
    require_whole(card, plan)
    source_sha256 = sha256_of_file(source)
    _require_refittable(card, plan, source, source_sha256)
    log = TensorRtLog()
    logger = logger_of(trt, log)
    try:
        runtime = trt.Runtime(logger)
    except TypeError as error:  # pybind11's way to say that a constructor gave nothing
        raise MissingDeviceError(
            f"TensorRT {trt.__version__} finds no usable NVIDIA driver here: {log.tail()}. "
            "`edgepress doctor` says what is there."
        ) from error
    engine = runtime.deserialize_cuda_engine(plan.read_bytes())
    if engine is None:
        raise ProofError(
            f"TensorRT {trt.__version__} does not open {plan.name}: {log.tail()}. Build it anew."
        )
    _refit(trt, engine, source, logger, log)
    write_bytes(destination, _with_weights(trt, engine))
    return replace(
        card,
        plan_sha256=sha256_of_file(destination),
        plan_bytes=size_bytes(destination),
        flags=tuple(flag for flag in card.flags if flag not in {_STRIPPED, _IDENTICAL}),
        source_sha256=source_sha256,
    )


def _require_refittable(card: EngineCard, plan: Path, source: Path, source_sha256: str) -> None:
    if not {_STRIPPED, _REFIT} & set(card.flags):
        raise InputError(
            f"{plan.name} has its weights for good. Build a stripped or a refittable plan, or build one from "
            f"{source.name}."
        )
    if _IDENTICAL in card.flags and source_sha256 != card.source_sha256:
        raise InputError(
            f"{plan.name} takes the weights that it was built with only, and {source.name} is another "
            f"file (SHA-256 {source_sha256[:12]}…, wanted {card.source_sha256[:12]}…). Take that one."
        )


def _refit(trt: ModuleType, engine: Any, source: Path, logger: Any, log: TensorRtLog) -> None:
    refitter = trt.Refitter(engine, logger)
    parser = trt.OnnxParserRefitter(refitter, logger)
    if not parser.refit_from_file(str(source)) or not refitter.refit_cuda_engine():
        errors = [str(parser.get_error(index).desc()) for index in range(parser.num_errors)]
        raise ProofError(
            f"TensorRT {trt.__version__} does not take the weights of {source.name}: "
            f"{tail(errors or log.messages)}. Build a plan from it."
        )


def _with_weights(trt: ModuleType, engine: Any) -> bytes:
    """The plan with its weights, which an engine that was stripped leaves out by default."""
    config = engine.create_serialization_config()
    config.clear_flag(trt.SerializationFlag.EXCLUDE_WEIGHTS)
    return bytes(memoryview(engine.serialize_with_config(config)))
