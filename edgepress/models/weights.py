"""Where the weights of a built VGG16 come from. Never random ones unless they were asked for."""

import contextlib
import hashlib
import logging
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepress.errors import InputError, MissingRuntimeError
from edgepress.models.keras_file import load_keras_file, read_keras_file
from edgepress.models.keras_import import import_keras
from edgepress.models.keras_memory import hand_over, room_for, view_of

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)

IMAGENET = "imagenet"
RANDOM = "random"
_LEGACY_FILE = "vgg16_weights_tf_dim_ordering_tf_kernels.h5"
_LEGACY_FILE_NO_TOP = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
_NETWORK_TIMEOUT_S = 20.0
_BIAS_DEVIATION = 0.1


def draw_random(model: "keras.Model", seed: int) -> None:
    """Fill a model with He-normal kernels (He et al. 2015, arXiv 1502.01852) and small normal biases.

    The biases are not zero, so that a version that drops one differs. The draw depends on `seed` and on the
    shapes alone, not on the version of a framework.
    """
    generator = np.random.default_rng(seed)
    for variable in model.weights:
        values = generator.standard_normal(dtype=np.float32, out=room_for(variable))
        fan_in = int(np.prod(values.shape[:-1]))
        values *= np.float32(np.sqrt(2 / fan_in) if values.ndim > 1 else _BIAS_DEVIATION)
        hand_over(variable, values)


def load_imagenet(model: "keras.Model", *, include_top: bool = True) -> None:
    """Load the ImageNet weights of keras.applications: from Keras' cache, or downloaded into it.

    Args:
        model: VGG16, or its convolutional part.
        include_top: Whether the dense layers are part of it.

    Raises:
        InputError: They are not in the cache and cannot be downloaded. The model is unchanged.
    """
    keras = import_keras()
    size, name = (553, _LEGACY_FILE) if include_top else (59, _LEGACY_FILE_NO_TOP)
    logger.info("imagenet weights: from Keras' cache, or downloaded into it (%d MB, once)", size)
    with _quiet_and_bounded(keras):
        try:
            source = keras.applications.VGG16(weights=IMAGENET, include_top=include_top)
        # get_file raises a bare Exception for a failed download and ValueError for a wrong checksum.
        except Exception as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"The imagenet weights are not in Keras' cache and could not be downloaded ({reason}). Put "
                f"{name} into ~/.keras/models, or pass it with --weights FILE, or ask for "
                "--weights random."
            ) from error
    _assign(model, [variable.value for variable in source.weights], "the imagenet weights")


@contextlib.contextmanager
def _quiet_and_bounded(keras: Any) -> Iterator[None]:
    """Keras' download without its own progress bar, and with an end where the network does not answer."""
    interactive, timeout_s = keras.config.is_interactive_logging_enabled(), socket.getdefaulttimeout()
    keras.config.disable_interactive_logging()
    socket.setdefaulttimeout(_NETWORK_TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(timeout_s)
        if interactive:
            keras.config.enable_interactive_logging()


def load_file(model: "keras.Model", path: Path) -> None:
    """Load weights from a file: `.weights.h5`, `.h5` (layout of keras.applications) or `.keras`.

    Raises:
        InputError: Missing, truncated, of another kind, or of other shapes (the first mismatch is named).
    """
    if not path.is_file():
        raise InputError(f"No weights file at {path}. Check --weights.")
    if path.suffix == ".keras":
        source = load_keras_file(read_keras_file(path))
        _assign(model, [variable.value for variable in source.weights], str(path))
    elif path.suffix == ".h5":
        _load_h5(model, path)
    else:
        raise InputError(
            f"{path} is no weights file: .weights.h5, .h5 or .keras is wanted. Received: "
            f"{path.suffix or 'no suffix'!s}. Check --weights."
        )


def load_convolutions(model: "keras.Model", path: Path) -> None:
    """Load the convolutions alone from a network with another head, layer by layer of the same name.

    Args:
        model: The convolutional part of a VGG16; unchanged on failure.
        path: `.keras` file, or `.h5` file in the layout of keras.applications.

    Raises:
        InputError: Missing, of another kind, without one of the layers, or of other shapes.
    """
    if not path.is_file():
        raise InputError(f"No weights file at {path}. Check --weights.")
    if path.suffix == ".keras":
        source = _by_layer(load_keras_file(read_keras_file(path)))
    elif path.suffix == ".h5" and not path.name.endswith(".weights.h5"):
        source = _legacy_by_layer(path)
    else:
        raise InputError(
            f"{path}: convolutions are read from a .keras file, or from an .h5 file in the layout of "
            "keras.applications. Save the network with model.save('….keras')."
        )
    arrays = []
    for layer in model.layers:
        if layer.weights and layer.name not in source:
            raise InputError(
                f"{path} has no layer {layer.name!r}, so it is no VGG16. Give the weights of one."
            )
        arrays += source[layer.name] if layer.weights else []
    _assign(model, arrays, str(path))


def _by_layer(model: "keras.Model") -> dict[str, list[Any]]:
    """Weights of each layer, those of nested models too."""
    found: dict[str, list[Any]] = {}
    for layer in model._flatten_layers(include_self=False):  # the only walk into nested models Keras has
        found[layer.name] = [variable.value for variable in layer.weights]
    return found


def _legacy_by_layer(path: Path) -> dict[str, list[Any]]:
    try:
        import h5py
    except ImportError as error:
        raise MissingRuntimeError("h5py", "keras") from error
    try:
        with h5py.File(path, "r") as file:
            root = file.get("model_weights", file)
            groups = {_text(layer): root[_text(layer)] for layer in root.attrs["layer_names"]}
            return {
                layer: [np.asarray(group[_text(weight)]) for weight in group.attrs["weight_names"]]
                for layer, group in groups.items()
            }
    except (OSError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"The weights in {path} cannot be read: {reason}. Give a whole file in the layout of "
            "keras.applications."
        ) from error


def _load_h5(model: "keras.Model", path: Path) -> None:
    try:
        import h5py
    except ImportError as error:
        raise MissingRuntimeError("h5py", "keras") from error
    try:
        with h5py.File(path, "r") as file:
            root = file.get("model_weights", file)
            if "layer_names" in root.attrs:
                _assign(model, _legacy_datasets(root), str(path))
                return
        model.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"The weights in {path} cannot be loaded into {model.name}: {reason}. "
            "Give the file of a VGG16 of the same shapes, whole."
        ) from error


def _legacy_datasets(root: Any) -> list[Any]:
    """The datasets of keras.applications' layout, in the order of the layers, not read yet."""
    return [
        root[_text(layer)][_text(weight)]
        for layer in root.attrs["layer_names"]
        for weight in root[_text(layer)].attrs["weight_names"]
    ]


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _assign(model: "keras.Model", arrays: Sequence[Any], source: str) -> None:
    """Put arrays into the model in order, once all their shapes have been found right.

    TensorFlow's own values are shared with the model they come from, not copied.
    """
    import h5py

    if len(arrays) != len(model.weights):
        raise InputError(
            f"{source} has {len(arrays)} weights, and {model.name} has {len(model.weights)}. "
            "Give the weights of a VGG16 of the same shapes."
        )
    for variable, array in zip(model.weights, arrays, strict=True):
        if tuple(array.shape) != tuple(variable.shape):
            raise InputError(
                f"{source} does not fit {model.name}: {variable.path} is {tuple(variable.shape)} here and "
                f"{tuple(array.shape)} there. Give the weights of a VGG16 of the same shapes."
            )
    for variable, array in zip(model.weights, arrays, strict=True):
        if isinstance(array, h5py.Dataset):
            room = room_for(variable)
            array.read_direct(room)
            hand_over(variable, room)
        else:
            variable.assign(array)


def fingerprint_of(network: "keras.Model") -> str:
    """SHA-256 over shape, dtype and bytes of all weights in the model's order."""
    digest = hashlib.sha256()
    for variable in network.weights:
        value = view_of(variable)
        digest.update(f"{value.shape} {value.dtype}\n".encode())
        digest.update(np.ascontiguousarray(value).data)
    return digest.hexdigest()
