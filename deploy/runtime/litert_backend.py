"""Runs the model of this bundle with LiteRT on the CPU. Needs Python 3.10, numpy and ai-edge-litert.

In a bundle this file is `backend.py`, and infer.py and verify.py ask it for a session.

SPDX-License-Identifier: Apache-2.0
"""

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INSTALL = "Run: pip install -r requirements.txt"
UNPACK = "Unpack the bundle again."
_STDERR = 2


def versions() -> "dict[str, str]":
    """Of what computes the answers, by package; CouldNotRun where one is missing."""
    from importlib import metadata

    from bundle import CouldNotRun

    try:
        import ai_edge_litert
        import numpy
    except ImportError as error:
        raise CouldNotRun(f"{error}. {INSTALL}") from error
    del ai_edge_litert
    try:
        return {"ai-edge-litert": metadata.version("ai-edge-litert"), "numpy": str(numpy.__version__)}
    except metadata.PackageNotFoundError as error:
        raise CouldNotRun(f"The version of {error.name} is not known here. {INSTALL}") from error


def open_session(manifest: Any, folder: "Path", threads: int = 0) -> "Session":
    """Load the model of the bundle in `folder`; 0 threads are as many as there are cores for this process."""
    from bundle import CouldNotRun, Refusal

    try:
        import numpy  # noqa: F401  # LiteRT fails without it in a less clear way
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise CouldNotRun(f"{error}. {INSTALL}") from error
    model = manifest["model"]
    path = folder / model["file"]
    try:
        with _native_messages_held_back():
            interpreter = Interpreter(model_path=str(path), num_threads=threads or _cores())
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise Refusal(f"LiteRT cannot load {path.name}: {reason}. {UNPACK}") from error
    return Session(interpreter, model)


class Session:
    """A loaded model.

    Attributes:
        where: What runs it, in words, as far as LiteRT tells.
    """

    def __init__(self, interpreter: Any, model: Any) -> None:
        inputs, outputs = _tensors_by_name(interpreter)
        self._file = model["file"]
        self._interpreter = interpreter
        self._input = self._named(inputs, model["inputs"][0]["name"], "input")
        self._output = self._named(outputs, model["outputs"][0]["name"], "output")
        self.where = f"LiteRT on the CPU ({_kernels(interpreter)})"

    def _named(self, tensors: "dict[str, Any]", name: str, kind: str) -> Any:
        from bundle import Refusal

        if name not in tensors:
            found = ", ".join(tensors)
            raise Refusal(
                f"{self._file} has no {kind} {name!r}, as manifest.json says; it has {found}. {UNPACK}"
            )
        return tensors[name]

    def run(self, inputs: Any) -> Any:
        """(N, height, width, 3) float32, or uint8 where the model takes pixels → (N, classes) float32.

        N is any number: the model's batch is filled up with the last input. Where the file stores integers
        with a scale, what goes in is quantized, and what comes out is dequantized.
        """
        import numpy as np
        from bundle import Refusal

        self._require(inputs)
        batch = int(self._input["shape"][0])
        blocks = []
        try:
            for start in range(0, len(inputs), batch):
                block = inputs[start : start + batch]
                full = np.concatenate([block, *[block[-1:]] * (batch - len(block))])
                self._interpreter.set_tensor(self._input["index"], _quantized(full, self._input))
                self._interpreter.invoke()
                stored = self._interpreter.get_tensor(self._output["index"])  # a copy
                blocks.append(_dequantized(stored[: len(block)], self._output))
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise Refusal(f"LiteRT cannot run {self._file}: {reason}. {UNPACK}") from error
        return np.concatenate(blocks)

    def _require(self, inputs: Any) -> None:
        """LiteRT would take some of what does not fit: a batch of another size, or floats for integers."""
        import numpy as np
        from bundle import Refusal

        if self._interpreter is None:
            raise Refusal("The session is closed. Open another one.")
        scale = self._input["quantization"][0]
        wanted = np.dtype(np.float32 if scale else self._input["dtype"])
        shape = tuple(int(size) for size in self._input["shape"][1:])
        if inputs.dtype != wanted or inputs.shape[1:] != shape or not len(inputs):
            sizes = ", ".join(map(str, shape))
            raise Refusal(
                f"{self._file} takes {wanted} (N, {sizes}), got {inputs.dtype} {inputs.shape}. {UNPACK}"
            )

    def close(self) -> None:
        """Give the memory back."""
        self._interpreter = None


def _cores() -> int:
    """As many as this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _tensors_by_name(interpreter: Any) -> "tuple[dict[str, Any], dict[str, Any]]":
    """Descriptions of inputs and outputs by the names of the first signature; of the tensors, without one."""
    signatures = interpreter.get_signature_list()
    if signatures:
        runner = interpreter.get_signature_runner(next(iter(signatures)))
        return dict(runner.get_input_details()), dict(runner.get_output_details())
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    return {one["name"]: one for one in inputs}, {one["name"]: one for one in outputs}


def _kernels(interpreter: Any) -> str:
    """Whether the XNNPACK delegate took part, which LiteRT tells in no public way."""
    try:
        operators = [operator["op_name"] for operator in interpreter._get_ops_details()]
    except (AttributeError, KeyError, TypeError):
        return "it does not tell with which kernels"
    partitions = operators.count("DELEGATE")
    return f"XNNPACK delegate, {partitions} partitions" if partitions else "its own kernels, no delegate"


def _quantized(values: Any, tensor: Any) -> Any:
    """Float values as the file stores them: rounded half to even, clipped."""
    import numpy as np

    scale, zero_point = tensor["quantization"]
    if scale == 0:
        return values
    limits = np.iinfo(tensor["dtype"])
    stored = np.rint(values / np.float32(scale)) + np.float32(zero_point)
    return np.clip(stored, limits.min, limits.max).astype(tensor["dtype"])


def _dequantized(stored: Any, tensor: Any) -> Any:
    """float32 values behind stored ones: scale * (stored - zero point)."""
    import numpy as np

    scale, zero_point = tensor["quantization"]
    if scale == 0:
        return stored.astype(np.float32)
    return (stored.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)


@contextmanager
def _native_messages_held_back() -> "Iterator[None]":
    """LiteRT writes to the process's stderr that it made a delegate; errors come as exceptions as well."""
    try:
        sys.stderr.flush()
        kept = os.dup(_STDERR)
    except (OSError, AttributeError, ValueError):  # there is no stderr
        yield
        return
    try:
        with open(os.devnull, "wb") as nothing:  # noqa: PTH123  # it is no file
            os.dup2(nothing.fileno(), _STDERR)
        yield
    finally:
        os.dup2(kept, _STDERR)
        os.close(kept)
