"""Calibration of an FP32 TFLite graph with LiteRT: one picture at a time, one tensor at a time.

It is what is left to do where no ONNX file of the same network was exported, and for tensors that the ONNX
graph does not have. (litert_quantizer's own calibrator takes a moving average, which depends on the order of
the pictures, and reads all of them before it starts.)
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.errors import InputError
from edgepress.inspection.tflite_graph import TfliteModel, shape_of, tflite_model
from edgepress.machine import usable_cores
from edgepress.progress import Progress, silent
from optimize.calibration.method import CalibrationMethod
from optimize.calibration.observation import Observation, Seen
from optimize.calibration.quantized_tensors import Operation, QuantizedTensors, quantized_tensors
from optimize.calibration.range import Range
from optimize.calibration.table import GraphCalibration

MOVING = frozenset(
    {
        *("BATCH_TO_SPACE_ND", "DEPTH_TO_SPACE", "EXPAND_DIMS", "GATHER", "MAX_POOL_2D", "MIRROR_PAD", "PAD"),
        *("RESHAPE", "SLICE", "SPACE_TO_BATCH_ND", "SPACE_TO_DEPTH", "SQUEEZE", "STRIDED_SLICE", "TILE"),
        *("TRANSPOSE", "UNPACK"),
    }
)
_AFFINE = frozenset({"ADD", "CAST", "CONCATENATION", "DIV", "MUL", "SUB"})
CLIPPING = frozenset({"RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1"})
_SCORING = frozenset({"LOGISTIC", "LOG_SOFTMAX", "SOFTMAX"})
# Weighted operator → which of its inputs is the activation; the weight is the second.
_WEIGHTED = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 0, "FULLY_CONNECTED": 0, "TRANSPOSE_CONV": 2}


@dataclass(frozen=True)
class TfliteTensors:
    """The FP32 activations of a TFLite graph.

    Attributes:
        indices: Name → index of the tensor.
        quantized: How they get their ranges.
        widths: Activation that a weighted layer reads → its number of channels, or of features of a dense
            layer.
    """

    indices: Mapping[str, int]
    quantized: QuantizedTensors
    widths: Mapping[str, int]


def calibrate_tflite(
    path: Path,
    pictures: Iterable[NDArray[Any]],
    names: Sequence[str],
    method: CalibrationMethod = CalibrationMethod.MINMAX,
    progress: Progress = silent,
    only: frozenset[str] | None = None,
) -> GraphCalibration:
    """Run the graph on each picture once.

    Args:
        path: FP32 TFLite file with one input.
        pictures: The model's input, such as (1, height, width, 3) float32, read one by one.
        names: Of the pictures.
        method: How ranges are taken.
        progress: Told "calibrate NAME" after each picture.
        only: These activations and those that their ranges come from; None for all.

    Returns:
        As `calibrate_onnx` does; channels are last in TFLite, and dense layers read them so.

    Raises:
        InputError: `path` is no TFLite file, or a damaged one.
        ProofError: An activation is not finite.
    """
    tensors = tensors_of_tflite(path)
    wanted = _wanted(tensors, only)
    interpreter = interpreter_of(path)
    input_index = interpreter.get_input_details()[0]["index"]
    observation = Observation(method, tensors.quantized, len(names))
    for done, (picture, name) in enumerate(zip(pictures, names, strict=True), 1):
        interpreter.set_tensor(input_index, picture)
        interpreter.invoke()
        observation.take(_seen(interpreter, tensors, wanted, method), name)
        progress(f"calibrate {path.stem}", done, len(names))
    return observation.result()


def _wanted(tensors: TfliteTensors, only: frozenset[str] | None) -> Mapping[str, int]:
    if only is None:
        return tensors.indices
    names = only | {tensors.quantized.source[name] for name in only}
    return {name: index for name, index in tensors.indices.items() if name in names}


def _seen(
    interpreter: Any, tensors: TfliteTensors, wanted: Mapping[str, int], method: CalibrationMethod
) -> Iterator[Seen]:
    """What a picture gave, tensor by tensor."""
    for name, index in wanted.items():
        values = interpreter.get_tensor(index)
        means, fetched = {}, {}
        if name in tensors.widths:
            means[name] = values.reshape(-1, tensors.widths[name]).mean(axis=0, dtype=np.float64)
        if method.needs_histograms and name in tensors.quantized.clippable:
            fetched[name] = values
        yield Seen({name: Range(float(values.min()), float(values.max()))}, means, fetched)


def tensors_of_tflite(path: Path) -> TfliteTensors:
    """Names and roles of a graph's FP32 activations.

    Raises:
        InputError: `path` is no TFLite file.
    """
    from ai_edge_litert.schema_py_generated import TensorType

    with tflite_model(path) as model:
        found = [(_name(model, i), i) for i in model.activations()]
        quantized = quantized_tensors(
            _operations(model),
            [_name(model, model.graph.Inputs(i)) for i in range(model.graph.InputsLength())],
            [_name(model, model.graph.Outputs(i)) for i in range(model.graph.OutputsLength())],
        )
        floats = {name: i for name, i in found if model.tensor(i).Type() == TensorType.FLOAT32}
        widths = {name: width for name, width in _widths(model) if name in floats}
        return TfliteTensors(floats, quantized, widths)


def _name(model: TfliteModel, index: int) -> str:
    return str(model.tensor(index).Name().decode())


def _operations(model: TfliteModel) -> Iterator[Operation]:
    for kind, operator in model.operators():
        places = [operator.Inputs(i) for i in range(operator.InputsLength())]
        inputs = [i for i in places if i >= 0 and not model.is_constant(i)]
        yield Operation(
            inputs=tuple(_name(model, i) for i in inputs),
            outputs=tuple(_name(model, operator.Outputs(i)) for i in range(operator.OutputsLength())),
            moves=kind in MOVING and inputs[:1] == places[:1],
            is_affine=kind in _AFFINE,
            clips=kind in CLIPPING,
            scores=kind in _SCORING,
        )


def _widths(model: TfliteModel) -> Iterator[tuple[str, int]]:
    for kind, operator in model.operators():
        if kind in _WEIGHTED:
            activation, weight = operator.Inputs(_WEIGHTED[kind]), operator.Inputs(1)
            shaped = activation if kind == "DEPTHWISE_CONV_2D" else weight
            yield _name(model, activation), shape_of(model.tensor(shaped))[-1]


def interpreter_of(path: Path) -> Any:
    """A LiteRT interpreter that keeps all tensors.

    Raises:
        InputError: The file is damaged.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        with warnings.catch_warnings():
            # It warns that keeping all tensors costs memory; that cost is fixed, and wanted here.
            warnings.simplefilter("ignore", UserWarning)
            interpreter = Interpreter(
                model_path=str(path), num_threads=usable_cores(), experimental_preserve_all_tensors=True
            )
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{path} cannot be loaded by LiteRT ({error}). Export the model anew.") from error
    return interpreter
