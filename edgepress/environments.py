"""A GPU's runtimes live in environments of their own, since they want different TensorRT and CUDA.

Each is called after the extra that fills it, and lies beside the environment that edgepress runs in
(`.venv-gpu-trt` beside `.venv`; `make setup DEVICE=cuda` makes them). A variable may name another one,
such as a Jetson's own Python, which has JetPack's TensorRT.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from edgepress.artifact import Device, Runtime
from edgepress.doctor.fact import Unknown
from edgepress.errors import InputError

SET_UP = "make setup DEVICE=cuda"
_PATIENCE_S = 60.0
_VERSIONS = """
import importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Environment:
    """An environment of its own.

    Attributes:
        extra: Of edgepress, that fills it.
        runners: Names of those that it serves, on a GPU.
        distributions: What has to be in it, by whatever way: a Jetson has TensorRT from its system.
    """

    extra: str
    runners: tuple[str, ...]
    distributions: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Beside the environment that edgepress runs in."""
        return f".venv-{self.extra}"

    @property
    def variable(self) -> str:
        """That names an interpreter instead, e.g. EDGEPRESS_GPU_TRT_PYTHON."""
        return f"EDGEPRESS_{self.extra.replace('-', '_').upper()}_PYTHON"


GPU_TRT = Environment(
    "gpu-trt",
    (Runtime.TENSORRT.value, Runtime.TENSORRT_RTX.value),
    ("tensorrt", "cuda-python"),
)
GPU_ORT = Environment(
    "gpu-ort",
    (Runtime.ONNXRUNTIME_CUDA.value, Runtime.ONNXRUNTIME_TENSORRT.value),
    ("onnxruntime-gpu",),
)
GPU_TF = Environment("gpu-tf", (Runtime.TENSORFLOW.value, "tensorflow-tf32"), ("tensorflow",))
ENVIRONMENTS = (GPU_TRT, GPU_ORT, GPU_TF)


class Place(Enum):
    """Where the interpreter of an environment was found."""

    NAMED = "named"  # by its variable
    BESIDE = "beside"  # in its folder
    NOWHERE = "nowhere"


@dataclass(frozen=True)
class Located:
    """An environment, and the interpreter that serves it here.

    Attributes:
        environment: Which.
        place: Where it was found.
        python: The interpreter; None if nowhere.
    """

    environment: Environment
    place: Place
    python: str | None


def located(
    environment: Environment, variables: Mapping[str, str] | None = None, prefix: Path | None = None
) -> Located:
    """Look for the interpreter of an environment.

    Args:
        environment: Which.
        variables: As `os.environ`, which is the default.
        prefix: Of the environment that edgepress runs in; None for that of this interpreter.

    Raises:
        InputError: Its variable names no program.
    """
    variables = os.environ if variables is None else variables
    if named := variables.get(environment.variable):
        if shutil.which(named) is None:
            raise InputError(
                f"{environment.variable} names {named}, wanted a Python interpreter that can be started. "
                f"Correct it, or unset it and run `{SET_UP}`."
            )
        return Located(environment, Place.NAMED, named)
    beside = (prefix or Path(sys.prefix)).parent / environment.folder / "bin" / "python"
    if beside.exists():
        return Located(environment, Place.BESIDE, str(beside))
    return Located(environment, Place.NOWHERE, None)


def environment_of(runner: str, device: Device) -> Environment | None:
    """The environment that serves a runner by its name; None for the one that edgepress runs in."""
    if device is Device.CPU:
        return None
    return next((each for each in ENVIRONMENTS if runner in each.runners), None)


def interpreter_of(
    runner: str,
    device: Device,
    variables: Mapping[str, str] | None = None,
    prefix: Path | None = None,
) -> str:
    """The interpreter that a runner's process is started with.

    Where its environment is nowhere, that is this one: it may hold the runtime itself, as where edgepress was
    installed with the extra alone; if it does not, the process says what is missing.

    Raises:
        InputError: See `located`.
    """
    environment = environment_of(runner, device)
    found = located(environment, variables, prefix).python if environment is not None else None
    return found or sys.executable


def versions_in(python: str, distributions: Sequence[str]) -> Mapping[str, str] | Unknown:
    """Version of each distribution that an interpreter's environment has, or why it cannot be asked."""
    try:
        done = subprocess.run(
            [python, "-c", _VERSIONS, *distributions],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE_S,
            check=False,
        )
        versions: dict[str, str] = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Unknown(f"its Python does not start: {error}")
    except ValueError:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        return Unknown(f"its Python ended with exit code {done.returncode}: {last[0]}")
    return versions
