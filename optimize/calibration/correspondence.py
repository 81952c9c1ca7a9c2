"""Which tensors of a TFLite file are those of the ONNX file: by their names, proven by their values.

Both files are exported from the same network, and edgepress names tensors alike in both. A name proves
nothing, so both run on one picture, and each pair of values is compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.inspection.onnx_graph import load
from optimize.calibration.onnx_calibration import fetching_session
from optimize.calibration.table import GraphCalibration
from optimize.calibration.tflite_calibration import TfliteTensors, interpreter_of

# As a share of the tensor's spread. FP32 kernels of different runtimes stay below 1e-5 for VGG16; a layer
# whose scale is off by 2 %, swapped channels or another flatten order exceed 1e-2.
TOLERANCE = 1e-3

Values = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Correspondence:
    """What a TFLite graph and an ONNX graph have in common.

    Attributes:
        differences: Tensor that both have, with the same values → how far these differ at most, as a share of
            its spread.
        channel_means: Activation that a weighted layer of the TFLite graph reads → its mean per channel or
            feature in the TFLite graph's order.
    """

    differences: Mapping[str, float]
    channel_means: Mapping[str, NDArray[np.float32]]


def correspondence(
    onnx_path: Path,
    onnx_input: NDArray[Any],
    tflite_path: Path,
    tflite_input: NDArray[Any],
    tensors: TfliteTensors,
    found: GraphCalibration,
) -> Correspondence:
    """Run both files on the same picture and compare.

    Args:
        onnx_path: FP32 ONNX file.
        onnx_input: The picture as it reads it.
        tflite_path: FP32 TFLite file.
        tflite_input: The picture as it reads it.
        tensors: Of the TFLite file.
        found: Of the ONNX file.
    """
    shared = found.observed.keys() & tensors.indices.keys()
    exact = _onnx_values(onnx_path, onnx_input, sorted(shared | found.channel_means.keys()))
    interpreter = interpreter_of(tflite_path)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], tflite_input)
    interpreter.invoke()
    differences: dict[str, float] = {}
    means: dict[str, NDArray[np.float32]] = {}
    for name, index in tensors.indices.items():
        values = interpreter.get_tensor(index)
        difference = relative_difference(exact[name], values) if name in exact else np.inf
        if difference <= TOLERANCE:
            differences[name] = difference
        if name in tensors.widths:
            mean = _mean(values, tensors.widths[name], exact, found.channel_means)
            means.update({} if mean is None else {name: mean})
    return Correspondence(differences, means)


def _onnx_values(path: Path, picture: NDArray[Any], names: list[str]) -> Values:
    model = load(path)
    session = fetching_session(model, names)
    del model
    return dict(zip(names, session.run(None, {session.get_inputs()[0].name: picture}), strict=True))


def relative_difference(exact: NDArray[np.float32], values: NDArray[np.float32]) -> float:
    """Largest difference of two tensors as a share of the first one's spread; infinite if sizes do not fit.

    A map may be stored channels first in `exact` and channels last in `values`: the nearer order counts. A
    tensor that is 0 everywhere proves nothing: infinite, too.
    """
    if exact.size != values.size:
        return np.inf
    orders = [exact, exact.transpose(0, 2, 3, 1)] if exact.ndim == 4 else [exact]
    return min(_difference(order.reshape(-1), values.reshape(-1)) for order in orders)


def _difference(exact: NDArray[np.float32], values: NDArray[np.float32]) -> float:
    difference = float(np.max(np.abs(exact - values), initial=0))
    spread = float(np.max(exact, initial=0) - np.min(exact, initial=0))
    return difference / spread if spread else np.inf


def _mean(
    values: NDArray[np.float32], width: int, exact: Values, onnx_means: Mapping[str, NDArray[np.float32]]
) -> NDArray[np.float32] | None:
    """The mean of the ONNX layer input that has these values, in the order of `values`; None if none has."""
    rows = values.reshape(-1, width)
    for name, mean in onnx_means.items():
        if mean.shape != (width,) or exact[name].size != rows.size:
            continue
        found = exact[name]
        own = (found.transpose(0, *range(2, found.ndim), 1) if found.ndim > 2 else found).reshape(-1, width)
        if _difference(own, rows) <= TOLERANCE:
            return mean
        if values.ndim == 4 and found.ndim == 2 and rows.shape[0] == values.shape[0]:
            height, across, channels = values.shape[1:]
            order = np.arange(width).reshape(channels, height, across).transpose(1, 2, 0).reshape(-1)
            if _difference(own[:, order], rows) <= TOLERANCE:
                return mean[order]
    return None
