"""Runs the model with LiteRT on the CPU. Needs numpy and ai-edge-litert. In a bundle: backend.py.

SPDX-License-Identifier: Apache-2.0
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from deploy.runtime.bundle import INSTALL, UNPACK, CouldNotRun, Refusal
else:  # beside it, on a device
    from bundle import INSTALL, UNPACK, CouldNotRun, Refusal

_PACKAGE = "ai-edge-litert"
_STDERR = 2


def versions() -> "dict[str, str]":
    """Of what computes the answers, by package."""
    from importlib import metadata

    try:
        import ai_edge_litert  # noqa: F401  # it has no version of its own
        import numpy
    except ImportError as error:
        raise CouldNotRun(f"a package is missing ({error}). {INSTALL}") from error
    try:
        return {_PACKAGE: metadata.version(_PACKAGE), "numpy": str(numpy.__version__)}
    except metadata.PackageNotFoundError as error:
        raise CouldNotRun(f"the version of {_PACKAGE} is not known. {INSTALL}") from error


class Session:
    """One interpreter.

    Attributes:
        where: What runs the model, in words, as far as LiteRT tells.
    """

    def __init__(self, interpreter: Any, model: Any) -> None:
        inputs, outputs = _tensors_by_name(interpreter)
        self.where = f"LiteRT on the CPU ({_kernels(interpreter)})"
        self._file = model["file"]
        self._interpreter = interpreter
        self._input = self._named(inputs, model["inputs"][0]["name"], "input")
        self._output = self._named(outputs, model["outputs"][0]["name"], "output")

    def _named(self, tensors: "dict[str, Any]", name: str, kind: str) -> Any:
        if name not in tensors:
            found = ", ".join(tensors)
            raise Refusal(f"manifest.json names the {kind} {name!r}, and {self._file} has {found}. {UNPACK}")
        return tensors[name]

    def run(self, inputs: Any) -> Any:
        """(N, …) float32, or uint8 where the model takes pixels → (N, classes) float32.

        N is any number: the model's batch is filled up with the last input. Where the file stores integers
        with a scale, what goes in is quantized, and what comes out is dequantized.
        """
        import numpy as np

        self._require(inputs)
        batch = int(self._input["shape"][0])
        blocks = (inputs[start : start + batch] for start in range(0, len(inputs), batch))
        try:
            return np.concatenate([self._run_block(block, batch) for block in blocks])
        except (ValueError, RuntimeError) as error:
            raise Refusal(f"LiteRT cannot run {self._file}: {error}. {UNPACK}") from error

    def _run_block(self, block: Any, batch: int) -> Any:
        import numpy as np

        missing = batch - len(block)
        full = np.concatenate([block, *[block[-1:]] * missing]) if missing else block
        self._interpreter.set_tensor(self._input["index"], _quantized(full, self._input))
        self._interpreter.invoke()
        stored = self._interpreter.get_tensor(self._output["index"])  # a copy
        return _dequantized(stored[: len(block)], self._output)

    def _require(self, inputs: Any) -> None:
        """Refuse what does not fit the file, in other words than LiteRT's."""
        import numpy as np

        if self._interpreter is None:
            raise Refusal("The session is closed. Open another one.")
        is_quantized = self._input["quantization"][0] != 0
        wanted = np.dtype(np.float32 if is_quantized else self._input["dtype"])
        shape = tuple(int(size) for size in self._input["shape"][1:])
        if inputs.dtype != wanted or inputs.shape[1:] != shape or not len(inputs):
            sizes = ", ".join(map(str, shape))
            raise Refusal(
                f"{self._file} takes {wanted} (N, {sizes}), got {inputs.dtype} {inputs.shape}. {UNPACK}"
            )

    def close(self) -> None:
        """Let go of the model."""
        self._interpreter = None


def open_session(manifest: Any, folder: Path, threads: int = 0) -> Session:
    """A session on the CPU; threads: 0 for all cores that this process may use."""
    try:
        import numpy  # noqa: F401  # without it LiteRT's own message is unclear
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise CouldNotRun(f"a package is missing ({error}). {INSTALL}") from error
    path = folder / manifest["model"]["file"]
    try:
        with _native_messages_held_back():
            interpreter = Interpreter(model_path=str(path), num_threads=threads or _cores())
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise Refusal(f"LiteRT cannot load {path.name}: {error}. {UNPACK}") from error
    return Session(interpreter, manifest["model"])


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _tensors_by_name(interpreter: Any) -> "tuple[dict[str, Any], dict[str, Any]]":
    """Inputs and outputs by the names of the first signature; of the tensors, where there is none."""
    signatures = interpreter.get_signature_list()
    if signatures:
        runner = interpreter.get_signature_runner(next(iter(signatures)))
        return dict(runner.get_input_details()), dict(runner.get_output_details())
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    return {one["name"]: one for one in inputs}, {one["name"]: one for one in outputs}


def _kernels(interpreter: Any) -> str:
    """Whether the XNNPACK delegate took part. LiteRT has no public way to ask."""
    try:
        operators = [operator["op_name"] for operator in interpreter._get_ops_details()]
    except (AttributeError, KeyError, TypeError):
        return "with which kernels, it does not tell"
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
    """The float32 values behind what the file stores: scale * (stored - zero point)."""
    import numpy as np

    scale, zero_point = tensor["quantization"]
    if scale == 0:
        return stored.astype(np.float32)
    return (stored.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)


@contextmanager
def _native_messages_held_back() -> "Iterator[None]":
    """LiteRT tells the process's stderr that it made a delegate. Errors come as exceptions, too."""
    try:
        sys.stderr.flush()
        kept = os.dup(_STDERR)
    except (AttributeError, OSError, ValueError):  # there is no stderr
        yield
        return
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, _STDERR)
        yield
    finally:
        os.dup2(kept, _STDERR)
        os.close(kept)
        os.close(nothing)
