"""Each backend is tried in a process of its own: an import alone can crash, or hang, or be half there."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from enum import Enum

PATIENCE_S = 120.0
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
_ABSENT, _BROKEN = 3, 4

# Each trial does a little of what edgepress needs of the backend, and prints what it found.
# y = Relu(x) on one float, as an ONNX file: the onnx package need not be there to try ONNX Runtime.
_ONE_NODE = (
    "08083a330a0c0a0178120179220452656c751201675a0f0a0178120a0a08080112040a020801620f0a0179120a"
    "0a08080112040a02080142040a001011"
)


class Verdict(Enum):
    """What became of a trial."""

    WORKS = "works"
    ABSENT = "absent"  # not installed: not a fault
    NOT_HERE = "not here"  # installed, but this machine lacks what it needs
    BROKEN = "broken"  # installed, and fails


@dataclass(frozen=True)
class Backend:
    """Something that edgepress can work with.

    Attributes:
        name: In words.
        package: The import that it begins with.
        code: Prints what was found; `absent(reason)` for a machine that lacks something.
        remedy: What to do where it is absent.
        needs_gpu: Whether it is of use with an NVIDIA GPU only.
    """

    name: str
    package: str
    code: str
    remedy: str
    needs_gpu: bool = False


@dataclass(frozen=True)
class Trial:
    """The outcome for one backend."""

    name: str
    verdict: Verdict
    finding: str
    remedy: str | None


def _provider(name: str) -> str:
    return (
        "import onnxruntime as r\n"
        f"if '{name}' not in r.get_available_providers(): absent('this build has no {name}')\n"
        f"print(r.__version__)"
    )


BACKENDS = (
    Backend(
        "Keras on TensorFlow (train, export)",
        "keras",
        "import keras, tensorflow as tf\n"
        "assert float(tf.constant(1.0) + 1.0) == 2.0\n"
        "print(f'Keras {keras.__version__}, TensorFlow {tf.__version__}')",
        "pip install 'edgepress[keras]'",
    ),
    Backend(
        "ONNX conversion (export, optimize)",
        "tf2onnx",
        f"import onnx, tf2onnx; onnx.checker.check_model(bytes.fromhex('{_ONE_NODE}')); "
        "print(f'onnx {onnx.__version__}, tf2onnx {tf2onnx.__version__}')",
        "pip install 'edgepress[onnx]'",
    ),
    Backend(
        "ONNX Runtime on the CPU",
        "onnxruntime",
        "import onnxruntime as r, numpy as np\n"
        "if not hasattr(r, 'InferenceSession'): raise ImportError('the package is an empty shell')\n"
        f"s = r.InferenceSession(bytes.fromhex('{_ONE_NODE}'), providers=['CPUExecutionProvider'])\n"
        "assert s.run(None, {'x': np.float32([-1])})[0][0] == 0\nprint(r.__version__)",
        "pip install 'edgepress[onnxruntime]'",
    ),
    Backend(
        "LiteRT on the CPU",
        "ai_edge_litert",
        "from importlib.metadata import version\nfrom ai_edge_litert.interpreter import Interpreter\n"
        "print(version('ai-edge-litert'))",
        "pip install 'edgepress[litert]'",
    ),
    Backend(
        "TensorRT-RTX builder (no GPU needed)",
        "tensorrt_rtx",
        "import tensorrt_rtx as t\nb = t.Builder(t.Logger(t.Logger.ERROR))\nassert b is not None\n"
        "print(t.__version__)",
        "pip install 'edgepress[tensorrt-rtx]'",
    ),
    Backend(
        "ONNX Runtime with CUDA",
        "onnxruntime",
        _provider("CUDAExecutionProvider"),
        "in an environment of its own: pip install onnxruntime-gpu",
        needs_gpu=True,
    ),
    Backend(
        "ONNX Runtime with TensorRT",
        "onnxruntime",
        _provider("TensorrtExecutionProvider"),
        "in an environment of its own: pip install onnxruntime-gpu, and TensorRT 10",
        needs_gpu=True,
    ),
    Backend(
        "TensorFlow on the GPU",
        "tensorflow",
        "import tensorflow as tf\n"
        "if not tf.config.list_physical_devices('GPU'): absent('TensorFlow sees no GPU')\n"
        "print(tf.__version__)",
        "in an environment of its own: pip install 'tensorflow[and-cuda]'",
        needs_gpu=True,
    ),
    Backend(
        "TensorRT",
        "tensorrt",
        "import tensorrt as t\nprint(t.__version__)",
        "in an environment of its own: pip install tensorrt",
        needs_gpu=True,
    ),
)

_FRAME = """
import importlib.util, sys
def absent(reason):
    print(reason); sys.exit({absent})
if importlib.util.find_spec({package!r}) is None:
    absent({package!r} + " is not installed")
try:
    exec({code!r})
except SystemExit:
    raise
except BaseException as error:
    print(type(error).__name__ + ": " + " ".join(str(error).split())[:300]); sys.exit({broken})
"""


def try_backend(backend: Backend, gpu_absence: str | None, patience_s: float = PATIENCE_S) -> Trial:
    """Try one backend in a fresh process.

    Args:
        backend: What to try.
        gpu_absence: Why there is no GPU; None if there is one.
        patience_s: After which it counts as hanging.
    """
    if backend.needs_gpu and gpu_absence is not None:
        return Trial(backend.name, Verdict.NOT_HERE, f"no NVIDIA GPU: {gpu_absence}", None)
    frame = _FRAME.format(absent=_ABSENT, broken=_BROKEN, package=backend.package, code=backend.code)
    try:
        done = subprocess.run(
            [sys.executable, "-c", frame],
            env={**os.environ, **_QUIET},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=patience_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Trial(
            backend.name, Verdict.BROKEN, f"gave no answer within {patience_s:.0f} s", backend.remedy
        )
    lines = done.stdout.strip().splitlines()
    finding = lines[-1] if lines else "it said nothing"
    if done.returncode == 0:
        return Trial(backend.name, Verdict.WORKS, finding, None)
    if done.returncode == _ABSENT:
        return Trial(backend.name, Verdict.ABSENT, finding, backend.remedy)
    if done.returncode < 0:
        finding = f"its process was ended by {signal.Signals(-done.returncode).name}"
    return Trial(backend.name, Verdict.BROKEN, finding, f"reinstall it: {backend.remedy}")
