"""The formats: how each is converted and written, and what its file promises."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgepress.artifact import Format, Runtime, TensorSpec
from edgepress.interface import Interface, Layout
from edgepress.manifest import ModelCard
from export.conversion import IMAGES, Conversion, Write
from export.onnx_from_keras import fits_one_file, onnx_from_keras
from export.saved_model_from_keras import saved_model_from_keras
from export.smoke import Promise
from export.tflite_from_keras import BATCH, tflite_from_keras

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Writer:
    """How one format is written.

    Attributes:
        format: What it writes.
        artifact_id: In the manifest.
        file_name: Inside the folder.
        convert: Converts the network, and gives what writes it.
        runtimes: Made for these; the first one proves it.
        interface: Of those that a user may ask for, what the format has.
    """

    format: Format
    artifact_id: str
    file_name: str
    convert: Callable[[Conversion], Write]
    runtimes: tuple[Runtime, ...]
    interface: Callable[[Interface], Interface]


def _as_asked(asked: Interface) -> Interface:
    return asked


def _channels_last(asked: Interface) -> Interface:
    return replace(asked, layout=Layout.NHWC)


def _channels_last_of_fixed_batch(asked: Interface) -> Interface:
    return replace(asked, layout=Layout.NHWC, batch=asked.batch or BATCH)


WRITERS = {
    Format.SAVED_MODEL: Writer(
        Format.SAVED_MODEL,
        "saved_model-fp32",
        "saved_model-fp32",
        saved_model_from_keras,
        (Runtime.TENSORFLOW,),
        _channels_last,
    ),
    Format.ONNX: Writer(
        Format.ONNX,
        "onnx-fp32",
        "onnx-fp32.onnx",
        onnx_from_keras,
        (Runtime.ONNXRUNTIME, Runtime.ONNXRUNTIME_CUDA, Runtime.ONNXRUNTIME_TENSORRT),
        _as_asked,
    ),
    Format.TFLITE: Writer(
        Format.TFLITE,
        "tflite-fp32",
        "tflite-fp32.tflite",
        tflite_from_keras,
        (Runtime.LITERT,),
        _channels_last_of_fixed_batch,
    ),
}
FORMATS = tuple(WRITERS)


@dataclass(frozen=True)
class Draft:
    """A format whose file is going to be written, and what will be said of it.

    Attributes:
        writer: Of the format.
        file_name: Inside the folder.
        promise: What the file must keep.
        inputs: For the manifest.
        outputs: For the manifest.
    """

    writer: Writer
    file_name: str
    promise: Promise
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def draft_of(
    network: "keras.Model", card: ModelCard, writer: Writer, asked: Interface, opset: int
) -> tuple[Draft, Write]:
    """Convert the architecture. What a format cannot express is refused here, before anything is written.

    Args:
        network: Gives logits.
        card: Of the model.
        writer: Of the format.
        asked: The interface that the user wants; the format may have less.
        opset: Of ONNX.

    Returns:
        What the file will be, and what writes it.

    Raises:
        InputError: The format has no counterpart for something in the network, or no such interface.
        ProofError: The converted graph is not sound.
        MissingRuntimeError: A converter is not installed.
    """
    interface = writer.interface(asked)
    conversion = Conversion(network, interface, card.activation, card.preprocessing, opset)
    promise = Promise(interface, card.activation, card.preprocessing, conversion.output_names)
    # Where one file cannot hold an ONNX model, a folder does.
    one_file = writer.format is not Format.ONNX or fits_one_file(network)
    file_name = writer.file_name if one_file else writer.artifact_id
    draft = Draft(writer, file_name, promise, (_input_spec(conversion),), _output_specs(conversion))
    return draft, writer.convert(conversion)


def _input_spec(conversion: Conversion) -> TensorSpec:
    _, height, width, _ = conversion.network.inputs[0].shape
    interface = conversion.interface
    return TensorSpec(IMAGES, interface.input_shape(height, width), interface.dtype)


def _output_specs(conversion: Conversion) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, (conversion.interface.batch, *output.shape[1:]), str(output.dtype))
        for name, output in zip(conversion.output_names, conversion.network.outputs, strict=True)
    )
