"""TFLite files that are made at once: a matrix and a bias, as drawn, in the forms that a file may have."""

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.artifact import Artifact, Format, Precision, Quantization, Runtime, TensorSpec
from edgepress.files import sha256_of_file
from edgepress.interface import Activation, Interface, Pixels, Scores
from edgepress.manifest import ModelCard
from edgepress.preprocessing import Preprocessing, PreprocessMode

SIDE, CLASSES = 4, 3
LABELS = ("cat", "dog", "crème\tbrûlée")
INPUT, OUTPUT = Quantization(2 / 255, 0), Quantization(0.05, 10)
_WEIGHT = Quantization(1 / 127, 0)


@dataclass(frozen=True)
class Linear:
    """`images` (batch, 4, 4, 3) → `logits` (batch, 3), maybe with `features` (batch, 3) in front of them.

    Attributes:
        path: The file.
        weights: (3, 48) float32, as the file computes with them.
        bias: (3,) float32.
        integers: Whether input, weights and output are int8.
    """

    path: Path
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    batch: int = 1
    pixels: bool = False
    integers: bool = False
    features: bool = False
    signature: bool = True
    values: dict[int, bytes] = field(default_factory=dict)

    def logits(self, inputs: NDArray[Any]) -> NDArray[np.float64]:
        """What the network is meant to give, before its output is rounded."""
        flat: NDArray[np.float64] = inputs.reshape(len(inputs), -1).astype(np.float64)
        return flat @ self.weights.T + self.bias

    def manifest(self, name: str = "images", output: str = "logits") -> dict[str, Any]:
        """What a backend reads of a bundle's manifest."""
        return {"model": {"file": self.path.name, "inputs": [{"name": name}], "outputs": [{"name": output}]}}

    def artifact(self, scores: Scores = Scores.LOGITS) -> Artifact:
        """As a manifest names it."""
        dtype = "int8" if self.integers else "uint8" if self.pixels else "float32"
        shape = (self.batch, CLASSES)
        further = (TensorSpec("features", shape, "float32"),) if self.features else ()
        interface = Interface(
            pixels=Pixels.RGB if self.pixels else Pixels.PREPROCESSED, scores=scores, batch=self.batch
        )
        return Artifact(
            id="tflite-fp32",
            path=self.path.name,
            format=Format.TFLITE,
            precision=Precision.INT8 if self.integers else Precision.FP32,
            runtimes=(Runtime.LITERT,),
            inputs=(TensorSpec("images", (self.batch, SIDE, SIDE, 3), dtype),),
            outputs=(TensorSpec("logits", shape, "int8" if self.integers else "float32"), *further),
            sha256=sha256_of_file(self.path),
            size_bytes=self.path.stat().st_size,
            key="k",
            interface=interface,
        )


def card_of(
    mode: PreprocessMode = PreprocessMode.TF,
    labels: "tuple[str, ...] | None" = LABELS,
    activation: Activation = Activation.SOFTMAX,
) -> ModelCard:
    """Of a model behind such a file."""
    preprocessing = Preprocessing(mode, SIDE, SIDE)
    return ModelCard("linear", "drawn", "f" * 64, 147, CLASSES, labels, preprocessing, activation)


def save_linear(path: Path, *, behind: bool = False, **form: Any) -> Linear:
    """Draw a network and write it.

    Args:
        path: New file.
        behind: Weights lie behind the flatbuffer, at a place counted from the beginning of the file, as in
            files of more than 2 GB.
        form: Of `Linear`.
    """
    import flatbuffers

    random = np.random.default_rng(0)
    weights = (random.normal(size=(CLASSES, SIDE * SIDE * 3)) / 8).astype(np.float32)
    bias = np.array([0.5, -0.5, 0.1], np.float32)
    if form.get("integers"):
        stored = np.clip(np.rint(weights / _WEIGHT.scale), -127, 127).astype(np.int8)
        stored_bias = np.rint(bias / (INPUT.scale * _WEIGHT.scale)).astype(np.int32)
        weights = (stored * _WEIGHT.scale).astype(np.float32)
        bias = (stored_bias * (INPUT.scale * _WEIGHT.scale)).astype(np.float32)
        values = {1: stored.tobytes(), 2: stored_bias.tobytes()}
    else:
        values = {1: weights.tobytes(), 2: bias.tobytes()}
    linear = Linear(path, weights, bias, values=values, **form)
    builder = flatbuffers.Builder()
    builder.Finish(_model(linear, behind=behind).Pack(builder), b"TFL3")
    content = bytearray(builder.Output())
    path.write_bytes(_with_weights_behind(content, values[1]) if behind else content)
    return linear


def _with_weights_behind(content: bytearray, weights: bytes) -> bytes:
    from ai_edge_litert import schema_py_generated as schema

    content += bytes(-len(content) % 16)
    table = schema.Model.GetRootAs(content).Buffers(1)._tab
    for slot, value in ((6, len(content)), (8, len(weights))):  # Buffer.offset and Buffer.size
        struct.pack_into("<Q", content, table.Pos + table.Offset(slot), value)
    return bytes(content) + weights


def _model(linear: Linear, *, behind: bool) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    kinds, codes = schema.TensorType, schema.BuiltinOperator
    kind = kinds.INT8 if linear.integers else kinds.FLOAT32

    def tensor(
        name: str, shape: "tuple[int, ...]", buffer: int, kind: int, scale: Quantization | None
    ) -> Any:
        one = schema.TensorT(shape=list(shape), type=kind, buffer=buffer, name=name.encode())
        if linear.integers and scale is not None:
            one.quantization = schema.QuantizationParametersT(
                scale=[scale.scale], zeroPoint=[scale.zero_point]
            )
        return one

    image, scores = (linear.batch, SIDE, SIDE, 3), (linear.batch, CLASSES)
    sums = Quantization(INPUT.scale * _WEIGHT.scale, 0)
    tensors = [
        tensor("serving_images:0", image, 0, kinds.UINT8 if linear.pixels else kind, INPUT),
        tensor("weights", linear.weights.shape, 1, kind, _WEIGHT),
        tensor("bias", (CLASSES,), 2, kinds.INT32 if linear.integers else kinds.FLOAT32, sums),
        tensor("scores", scores, 0, kind, OUTPUT),
        tensor("values", image, 0, kind, None),
        tensor("features", scores, 0, kind, None),
    ]
    dense = schema.OperatorT(opcodeIndex=0, inputs=[4 if linear.pixels else 0, 1, 2], outputs=[3])
    dense.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    dense.builtinOptions = schema.FullyConnectedOptionsT()
    operators = [dense]
    if linear.pixels:
        operators.insert(0, schema.OperatorT(opcodeIndex=1, inputs=[0], outputs=[4]))
    if linear.features:
        operators.append(schema.OperatorT(opcodeIndex=2, inputs=[3], outputs=[5]))
    outputs = {"features": 5, "logits": 3} if linear.features else {"logits": 3}
    graph = schema.SubGraphT(
        tensors=tensors, inputs=[0], outputs=list(outputs.values()), operators=operators, name=b"main"
    )
    names = schema.SignatureDefT(
        inputs=[schema.TensorMapT(name=b"images", tensorIndex=0)],
        outputs=[schema.TensorMapT(name=name.encode(), tensorIndex=i) for name, i in outputs.items()],
        signatureKey=b"serving_default",
    )
    data = [schema.BufferT(), *(schema.BufferT(data=list(linear.values[i])) for i in (1, 2))]
    if behind:
        data[1] = schema.BufferT(offset=2, size=2)  # in place of what they will be
    return schema.ModelT(
        version=3,
        operatorCodes=[
            schema.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code, version=version)
            for code, version in ((codes.FULLY_CONNECTED, 4), (codes.CAST, 1), (codes.ABS, 1))
        ],
        subgraphs=[graph],
        description=b"drawn",
        buffers=[*data, schema.BufferT(data=list(b"1.5.0\0"))],
        metadata=[schema.MetadataT(name=b"min_runtime_version", buffer=3)],
        signatureDefs=[names] if linear.signature else None,
    )
