"""INT8 by the tools that stand beside ours, as a careful reader of their manuals would call them."""

import os
from enum import Enum
from pathlib import Path

from tests.performance.whole_process import Cost, cost_of

OPENVINO_PYTHON = "EDGEPRESS_NNCF_PYTHON"
"""Names the interpreter of an environment of its own that has openvino and nncf."""

_STATIC = """
import sys, pathlib, numpy
from onnxruntime import quantization as q
class Reader(q.CalibrationDataReader):
    def __init__(self): self.files = iter(sorted(pathlib.Path(sys.argv[2]).glob("*.npy")))
    def get_next(self):
        file = next(self.files, None)
        return None if file is None else {"images": numpy.load(file)}
q.quantize_static(
    sys.argv[1], sys.argv[3], Reader(), per_channel=True,
    activation_type=q.QuantType.QUInt8, weight_type=q.QuantType.QInt8,
    calibrate_method=q.CalibrationMethod.METHOD,
)
"""


def _static(method: str) -> str:
    return _STATIC.replace("METHOD", method)


class Peer(Enum):
    """The code gets the FP32 ONNX file, a folder of one input (1, h, w, 3) a .npy, and the file to write."""

    STATIC_U8S8_MINMAX = _static("MinMax")
    STATIC_U8S8_ENTROPY = _static("Entropy")
    NNCF = """
import sys, pathlib, numpy, openvino, nncf
files = sorted(pathlib.Path(sys.argv[2]).glob("*.npy"))
model = openvino.Core().read_model(sys.argv[1])
quantized = nncf.quantize(model, nncf.Dataset(files, numpy.load), subset_size=len(files))
openvino.save_model(quantized, sys.argv[3], compress_to_fp16=False)
"""

    @property
    def title(self) -> str:
        """As the tables call it."""
        return {
            Peer.STATIC_U8S8_MINMAX: "`quantize_static`, U8S8, per channel, min-max",
            Peer.STATIC_U8S8_ENTROPY: "`quantize_static`, U8S8, per channel, entropy",
            Peer.NNCF: "NNCF (OpenVINO), its defaults",
        }[self]

    @property
    def suffix(self) -> str:
        """Of the file that it writes."""
        return ".xml" if self is Peer.NNCF else ".onnx"


def peer_cost(peer: Peer, fp32: Path, inputs: Path, folder: Path) -> tuple[Path, Cost] | None:
    """Let a peer quantize, in a fresh process.

    Args:
        peer: Which one.
        fp32: ONNX file.
        inputs: Folder of .npy files.
        folder: For what it writes.

    Returns:
        Its file, and what that cost; None for NNCF where no environment has it.
    """
    interpreter = os.environ.get(OPENVINO_PYTHON) if peer is Peer.NNCF else None
    if peer is Peer.NNCF and interpreter is None:
        return None
    written = folder / f"{peer.name.lower()}{peer.suffix}"
    return written, cost_of(("-c", peer.value, fp32, inputs, written), folder, interpreter)
