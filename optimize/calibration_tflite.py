"""Activation ranges of an FP32 TFLite graph, with LiteRT: one picture at a time, one tensor at a time.

TFLite's tensors have names and fusions of their own, so its ranges are taken from its own graph, with
the same pictures and the same min-max rule as for ONNX. (litert_quantizer's calibrator takes a moving
average, which depends on the order of the pictures, and reads all of them before it starts.)
"""

import logging
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.errors import InputError
from edgepress.inspection.tflite_graph import tflite_model
from edgepress.machine import usable_cores
from edgepress.progress import Progress, silent
from optimize.calibration import Range, widen

_LOGGER = logging.getLogger(__name__)


def ranges_of_tflite(
    path: Path, pictures: Iterable[NDArray[np.float32]], total: int, progress: Progress = silent
) -> dict[str, Range]:
    """Smallest and largest value of each FP32 activation over all pictures.

    Args:
        path: FP32 TFLite file with one input.
        pictures: Model inputs (1, height, width, 3) float32, read one by one.
        total: Number of pictures, for `progress` only.
        progress: Told "calibrate NAME" after each picture.

    Returns:
        Tensor name → range; inputs and outputs of the graph are among them.

    Raises:
        InputError: `path` is no TFLite file, or a damaged one.
        ProofError: An activation is not finite.
    """
    activations = _activations(path)
    interpreter = _interpreter(path)
    input_index = interpreter.get_input_details()[0]["index"]
    ranges: dict[str, Range] = {}
    for done, picture in enumerate(pictures, 1):
        interpreter.set_tensor(input_index, picture)
        interpreter.invoke()
        for name, index in activations.items():
            values = interpreter.get_tensor(index)
            widen(ranges, name, float(values.min()), float(values.max()))
        progress(f"calibrate {path.stem}", done, total)
    return ranges


def _activations(path: Path) -> dict[str, int]:
    from ai_edge_litert.schema_py_generated import TensorType

    with tflite_model(path) as model:
        found = [(model.tensor(i).Name().decode(), i) for i in model.activations()]
        return {name: i for name, i in found if model.tensor(i).Type() == TensorType.FLOAT32}


def _interpreter(path: Path) -> Any:
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
