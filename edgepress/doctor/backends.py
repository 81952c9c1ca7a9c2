"""What edgepress can work with, and a little of what it needs of each, to be tried."""

from dataclasses import dataclass

from edgepress.environments import GPU_ORT, GPU_TF, GPU_TRT, Environment

# y = Relu(x) on one float, as an ONNX file: the onnx package need not be there to try ONNX Runtime.
_ONE_NODE = (
    "08083a330a0c0a0178120179220452656c751201675a0f0a0178120a0a08080112040a020801620f0a0179120a"
    "0a08080112040a02080142040a001011"
)


@dataclass(frozen=True)
class Backend:
    """Something that edgepress can work with.

    Attributes:
        name: In words.
        extra: The extra that brings it; "" for the base.
        imports: Packages that must be there, the one that is tried first.
        distributions: What to install, without version ranges.
        code: Sets `found` to what was found, or calls `absent(reason)` where this build lacks something.
        environment: Of its own, that it lives in; of use with an NVIDIA GPU only. None for this one.
    """

    name: str
    extra: str
    imports: tuple[str, ...]
    distributions: tuple[str, ...]
    code: str
    environment: Environment | None = None

    @property
    def needs_gpu(self) -> bool:
        """Whether it is of use with an NVIDIA GPU only."""
        return self.environment is not None


def _provider(name: str) -> str:
    return (
        "import onnxruntime as r\n"
        f"if '{name}' not in r.get_available_providers(): absent('this build has no {name}')\n"
        "found = r.__version__"
    )


NUMPY = Backend(
    "NumPy",
    "",
    ("numpy",),
    ("numpy",),
    "import numpy as n\nassert n.ones((2, 2)).dot(n.ones(2)).tolist() == [2, 2]\nfound = n.__version__",
)

BACKENDS = (
    NUMPY,
    Backend(
        "Pictures and digits",
        "data",
        ("PIL", "sklearn"),
        ("pillow", "scikit-learn"),
        "import PIL, sklearn.datasets\nfrom PIL import Image\n"
        "assert Image.new('RGB', (2, 2)).resize((1, 1)).size == (1, 1)\n"
        "found = f'Pillow {PIL.__version__}, scikit-learn {sklearn.__version__}'",
    ),
    Backend(
        "Keras on TensorFlow",
        "keras",
        ("keras", "tensorflow", "h5py"),
        ("keras", "tensorflow", "h5py"),
        "import h5py, keras, tensorflow as tf\n"
        "assert float(tf.constant(1.0) + 1.0) == 2.0\n"
        "found = f'Keras {keras.__version__}, TensorFlow {tf.__version__}'",
    ),
    Backend(
        "ONNX conversion",
        "onnx",
        ("onnx", "tf2onnx"),
        ("onnx", "tf2onnx"),
        f"import onnx, tf2onnx\nonnx.checker.check_model(bytes.fromhex('{_ONE_NODE}'))\n"
        "found = f'onnx {onnx.__version__}, tf2onnx {tf2onnx.__version__}'",
    ),
    Backend(
        "ONNX Runtime on the CPU",
        "onnxruntime",
        ("onnxruntime",),
        ("onnxruntime",),
        "import onnxruntime as r, numpy as np\n"
        f"s = r.InferenceSession(bytes.fromhex('{_ONE_NODE}'), providers=['CPUExecutionProvider'])\n"
        "assert s.run(None, {'x': np.float32([-1])})[0][0] == 0\nfound = r.__version__",
    ),
    Backend(
        "LiteRT on the CPU",
        "litert",
        ("ai_edge_litert",),
        ("ai-edge-litert",),
        "from importlib.metadata import version\nfrom ai_edge_litert.interpreter import Interpreter\n"
        "found = version('ai-edge-litert')",
    ),
    Backend(
        "TFLite quantization",
        "litert",
        ("litert_quantizer",),
        ("litert-quantizer",),
        "from importlib.metadata import version\nimport litert_quantizer.quantizer\n"
        "found = version('litert-quantizer')",
    ),
    Backend(
        "OpenVINO on the CPU",
        "openvino",
        ("openvino",),
        ("openvino",),
        "import openvino as o\nassert 'CPU' in o.Core().available_devices\n"
        "found = o.__version__.partition('-')[0]",
    ),
    Backend(
        "TensorRT-RTX builder",
        "tensorrt-rtx",
        ("tensorrt_rtx",),
        ("tensorrt-rtx",),
        "import tensorrt_rtx as t\nassert t.Builder(t.Logger(t.Logger.ERROR)) is not None\n"
        "found = t.__version__ + ', builds without a GPU'",
    ),
    Backend(
        "Reports",
        "report",
        ("jinja2", "matplotlib"),
        ("jinja2", "matplotlib"),
        "from importlib.metadata import version\nimport jinja2, matplotlib.figure\n"
        "found = f\"Jinja {version('jinja2')}, Matplotlib {matplotlib.__version__}\"",
    ),
    Backend(
        "Signatures of bundles",
        "sign",
        ("cryptography",),
        ("cryptography",),
        "import cryptography\nfrom cryptography.hazmat.primitives.asymmetric import ed25519\n"
        "k = ed25519.Ed25519PrivateKey.generate()\nk.public_key().verify(k.sign(b'x'), b'x')\n"
        "found = cryptography.__version__",
    ),
    Backend(
        "ONNX Runtime with CUDA",
        GPU_ORT.extra,
        ("onnxruntime",),
        ("onnxruntime-gpu",),
        _provider("CUDAExecutionProvider"),
        environment=GPU_ORT,
    ),
    Backend(
        "ONNX Runtime with TensorRT",
        GPU_ORT.extra,
        ("onnxruntime",),
        ("onnxruntime-gpu", "tensorrt"),
        _provider("TensorrtExecutionProvider"),
        environment=GPU_ORT,
    ),
    Backend(
        "TensorFlow on the GPU",
        GPU_TF.extra,
        ("tensorflow",),
        ("tensorflow[and-cuda]",),
        "import tensorflow as tf\n"
        "if not tf.config.list_physical_devices('GPU'): absent('TensorFlow sees no GPU')\n"
        "found = tf.__version__",
        environment=GPU_TF,
    ),
    Backend(
        "TensorRT",
        GPU_TRT.extra,
        ("tensorrt",),
        ("tensorrt",),
        "import tensorrt as t\nfound = t.__version__",
        environment=GPU_TRT,
    ),
)
