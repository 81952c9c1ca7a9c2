"""Runs the model with ONNX Runtime on the CPU, and on nothing else. In a bundle: backend.py.

SPDX-License-Identifier: Apache-2.0
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from deploy.runtime.bundle import INSTALL, UNPACK, CouldNotRun, Refusal
else:  # beside it, on a device
    from bundle import INSTALL, UNPACK, CouldNotRun, Refusal

_CPU = ["CPUExecutionProvider"]
_ONLY_FATAL = 4


def versions() -> "dict[str, str]":
    """Of what computes the answers, by package."""
    try:
        import numpy
        import onnxruntime
    except ImportError as error:
        raise CouldNotRun(f"a package is missing ({error}). {INSTALL}") from error
    return {"numpy": str(numpy.__version__), "onnxruntime": str(onnxruntime.__version__)}


class Session:
    """One session.

    Attributes:
        where: The providers that run the nodes.
    """

    def __init__(self, session: Any, model: Any) -> None:
        self.where = ", ".join(session.get_providers())
        self._session = session
        self._file = model["file"]
        self._input, self._output = model["inputs"][0]["name"], model["outputs"][0]["name"]

    def run(self, inputs: Any) -> Any:
        """(N, …) → (N, classes) float32."""
        try:
            return self._session.run([self._output], {self._input: inputs})[0]
        except Exception as error:  # ONNX Runtime's errors share no other base
            raise Refusal(f"ONNX Runtime cannot run {self._file}: {error}. {UNPACK}") from error

    def close(self) -> None:
        """Let go of the model."""
        self._session = None


def open_session(manifest: Any, folder: Path, threads: int = 0) -> Session:
    """A session on the CPU; threads: 0 for all cores."""
    try:
        import onnxruntime
    except ImportError as error:
        raise CouldNotRun(f"onnxruntime cannot be imported ({error}). {INSTALL}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ONLY_FATAL
    path = folder / manifest["model"]["file"]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=_CPU)
    except Exception as error:  # ONNX Runtime's errors share no other base
        raise Refusal(f"ONNX Runtime cannot load {path.name}: {error}. {UNPACK}") from error
    if session.get_providers() != _CPU:
        raise Refusal(f"ONNX Runtime runs on {session.get_providers()}, and the CPU was asked for. {INSTALL}")
    return Session(session, manifest["model"])
