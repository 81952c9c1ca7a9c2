"""Keras, SavedModel, ONNX and TFLite give the same logits, and what would go wrong is seen."""

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from edgepress.artifact import Artifact, Device, Runtime
from edgepress.dataset import digits, open_data
from edgepress.errors import ProofError
from edgepress.manifest import Manifest
from edgepress.models.keras_import import import_keras
from edgepress.models.vgg16 import VGG16, VGG16_DIGITS, Style, build
from edgepress.models.weights import draw_random
from edgepress.parity import FP32_SNR_FLOOR_DB, require_parity
from edgepress.preprocessing import Preprocessing, PreprocessMode
from edgepress.runners.runner import runner_for
from export.conversion import Conversion
from export.onnx_from_keras import onnx_from_keras

Array = NDArray[np.float32]


def test_require_parity_accepts_noise_below_the_floor_only() -> None:
    generator = np.random.default_rng(0)
    reference = generator.standard_normal((4, 10)).astype(np.float32)
    noise = generator.standard_normal((4, 10)).astype(np.float32)
    assert require_parity(reference, reference + 1e-6 * noise, "quiet").snr_db > FP32_SNR_FLOOR_DB
    with pytest.raises(ProofError, match=r"loud does not give the logits of its reference: SNR 8\d\.\d dB"):
        require_parity(reference, reference + np.float32(5e-5) * noise, "loud")


def test_require_parity_refuses_another_top_class_whatever_the_noise() -> None:
    reference = np.asarray([[1.0, 1.0 + 1e-6, -5.0]], np.float32)
    with pytest.raises(ProofError, match=r"top-1 agreement 0\.0%"):
        require_parity(reference, reference[:, [1, 0, 2]], "swapped")


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_require_parity_refuses_what_is_no_number(wrong: float) -> None:
    reference = np.asarray([[1.0, 2.0]], np.float32)
    with pytest.raises(ProofError, match="SNR"):
        require_parity(reference, np.asarray([[wrong, 2.0]], np.float32), "broken")


def test_require_parity_refuses_another_shape() -> None:
    with pytest.raises(ProofError, match=r"logits of shape \(1, 3\) were wanted, got \(1, 2\)"):
        require_parity(np.zeros((1, 3), np.float32), np.zeros((1, 2), np.float32), "short")


def _photos(folder: Path, preprocessing: Preprocessing) -> Array:
    return np.concatenate(list(open_data(str(folder)).evaluation.inputs(preprocessing)))


def _logits(path: Path, runtime: Runtime, images: Array) -> Array:
    with runner_for(runtime, Device.CPU)(path, 0) as runner:
        return runner.infer(images)


def _linear(model: Any) -> Any:
    model.layers[-1].activation = import_keras().activations.linear
    return model


def _require_all(folder: Path, reference: Callable[[Array], Array], images: Array) -> None:
    manifest = Manifest.load(folder)
    exported = [a for a in manifest.artifacts if a.parent is None]
    assert len(exported) == 3
    wanted = reference(images)
    for artifact in exported:
        require_parity(wanted, _logits(manifest.path_of(artifact), artifact.runtimes[0], images), artifact.id)


def _keras_with_the_weights_of(onnx_file: Path, network: Any) -> Any:
    """A network given the initializers of an ONNX file, independent of how it was trained."""
    values = {t.name: numpy_helper.to_array(t) for t in onnx.load(onnx_file).graph.initializer}
    for layer in network.layers:
        if layer.weights:
            kernel = values[f"{layer.name}/kernel"]
            kernel = kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel
            layer.set_weights([kernel, values[f"{layer.name}/bias"]])
    return network


def test_formats_agree_on_digits_and_photos_when_vgg16_digits(
    digits_folder: Path, sample_photos: Path
) -> None:
    preprocessing = Manifest.load(digits_folder).model.preprocessing
    network = _linear(build(VGG16_DIGITS, Style.FUNCTIONAL))
    _keras_with_the_weights_of(digits_folder / "onnx-fp32.onnx", network)
    held_out = np.concatenate(list(digits()[1].take(range(64)).inputs(preprocessing)))
    images = np.concatenate([held_out, _photos(sample_photos, preprocessing)])
    _require_all(digits_folder, lambda x: np.asarray(network(x, training=False)), images)


@pytest.mark.slow
def test_formats_agree_on_photos_when_full_vgg16(vgg16_folder: Path, sample_photos: Path) -> None:
    """On photos of many classes where EDGEPRESS_PHOTOS names some."""
    network = _linear(build(VGG16, Style.SEQUENTIAL))
    draw_random(network, seed=0)
    folder = os.environ.get("EDGEPRESS_PHOTOS") or str(sample_photos)
    photos = open_data(folder).evaluation.sample(12, seed=0)
    images = np.concatenate(list(photos.inputs(Manifest.load(vgg16_folder).model.preprocessing)))
    _require_all(vgg16_folder, lambda x: np.asarray(network(x, training=False)), images)


# Mutations: what a wrong conversion would look like. Each changes an ONNX model in place.


def _change(model: onnx.ModelProto, name: str, change: Callable[[Array], Array]) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.raw_data = np.ascontiguousarray(change(numpy_helper.to_array(tensor))).tobytes()


def _wrong_flatten_order(model: onnx.ModelProto) -> None:
    """Keras flattens channels last, ONNX channels first: the rows of fc1 stay as Keras has them."""
    channels = next(t.dims[0] for t in model.graph.initializer if t.name == "block5_conv3/kernel")

    def as_in_keras(kernel: Array) -> Array:
        rows, columns = kernel.shape
        by_channel = kernel.reshape(channels, rows // channels, columns)
        return by_channel.transpose(1, 0, 2).reshape(rows, columns)

    _change(model, "fc1/kernel", as_in_keras)


def _bias_dropped(layer: str) -> Callable[[onnx.ModelProto], None]:
    return lambda model: _change(model, f"{layer}/bias", np.zeros_like)


def _scale_off(layer: str) -> Callable[[onnx.ModelProto], None]:
    return lambda model: _change(model, f"{layer}/kernel", lambda kernel: kernel * np.float32(1.02))


def _layers(model: onnx.ModelProto) -> list[str]:
    return [node.name for node in model.graph.node if node.op_type in {"Conv", "Gemm"}]


def _require_caught(
    path: Path, images: Array, network: Any, mutations: Iterable[Callable[[onnx.ModelProto], None]]
) -> int:
    """The genuine file passes against Keras; swapped colours and each mutation fail. Counts them."""
    reference = np.asarray(network(images, training=False))
    require_parity(reference, _logits(path, Runtime.ONNXRUNTIME, images), "genuine")
    swapped = np.ascontiguousarray(images[..., ::-1])
    with pytest.raises(ProofError, match="does not give the logits"):
        require_parity(reference, _logits(path, Runtime.ONNXRUNTIME, swapped), "swapped colours")
    caught = 1
    for mutate in mutations:
        model = onnx.load(path)
        mutate(model)
        changed = path.parent / "mutated.onnx"
        changed.write_bytes(model.SerializeToString())
        with pytest.raises(ProofError, match="does not give the logits"):
            require_parity(reference, _logits(changed, Runtime.ONNXRUNTIME, images), "mutated")
        changed.unlink()
        caught += 1
    return caught


def test_parity_catches_mutations_of_every_layer_when_vgg16_digits(
    digits_folder: Path, sample_photos: Path, copy_of: Callable[[Path], Path]
) -> None:
    """The digits are grey and the last map is 1×1: photos show colours, the next test the flatten order."""
    folder = copy_of(digits_folder)
    manifest = Manifest.load(folder)
    images = _photos(sample_photos, manifest.model.preprocessing)
    path = manifest.path_of(_onnx(manifest))
    layers = _layers(onnx.load(path))
    assert len(layers) == 16
    mutations = (mutation(layer) for layer in layers for mutation in (_bias_dropped, _scale_off))
    network = _keras_with_the_weights_of(path, _linear(build(VGG16_DIGITS, Style.SEQUENTIAL)))
    assert _require_caught(path, images, network, mutations) == 33


def _onnx(manifest: Manifest) -> Artifact:
    return manifest.get("onnx-fp32")


def test_parity_catches_a_wrong_flatten_order(tmp_path: Path, sample_photos: Path) -> None:
    network = _linear(build(replace(VGG16_DIGITS, side_pixels=64), Style.SEQUENTIAL))
    draw_random(network, seed=2)
    path = tmp_path / "m.onnx"
    onnx_from_keras(Conversion(network))(path)
    images = _photos(sample_photos, Preprocessing(PreprocessMode.CAFFE, 64, 64))
    assert _require_caught(path, images, network, [_wrong_flatten_order]) == 2


@pytest.mark.slow
def test_parity_catches_mutations_when_full_vgg16(
    vgg16_folder: Path, sample_photos: Path, tmp_path: Path
) -> None:
    manifest = Manifest.load(vgg16_folder)
    images = _photos(sample_photos, manifest.model.preprocessing)[::5]
    path = tmp_path / "full.onnx"
    path.symlink_to(manifest.path_of(_onnx(manifest)))
    mutations = (_wrong_flatten_order, _bias_dropped("block3_conv2"), _scale_off("fc2"))
    network = _linear(build(VGG16, Style.FUNCTIONAL))
    draw_random(network, seed=0)
    assert _require_caught(path, images, network, mutations) == 4
