"""Where the weights of a built VGG16 come from. Never random ones unless they were asked for."""

import contextlib
import logging
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepress.errors import InputError, MissingRuntimeError
from edgepress.models.keras_file import load_keras_file, read_keras_file
from edgepress.models.keras_import import import_keras

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)

IMAGENET = "imagenet"
RANDOM = "random"
_LEGACY_FILE = "vgg16_weights_tf_dim_ordering_tf_kernels.h5"
_NETWORK_TIMEOUT_S = 20.0
_BIAS_DEVIATION = 0.1


def draw_random(model: "keras.Model", seed: int) -> None:
    """Fill a model with He-normal kernels (He et al. 2015, arXiv 1502.01852) and small normal biases.

    The biases are not zero, so that a version that drops one differs. The draw depends on `seed` and on the
    shapes alone, not on the version of a framework.
    """
    generator = np.random.default_rng(seed)
    for variable in model.weights:
        shape = tuple(variable.shape)
        values = generator.standard_normal(shape, dtype=np.float32)
        fan_in = int(np.prod(shape[:-1]))
        values *= np.float32(np.sqrt(2 / fan_in) if len(shape) > 1 else _BIAS_DEVIATION)
        variable.assign(values)


def load_imagenet(model: "keras.Model") -> None:
    """Load the ImageNet weights of keras.applications: from Keras' cache, or downloaded into it.

    Raises:
        InputError: They are not in the cache and cannot be downloaded. The model is unchanged.
    """
    keras = import_keras()
    logger.info("imagenet weights: from Keras' cache, or downloaded into it (553 MB, once)")
    with _quiet_and_bounded(keras):
        try:
            source = keras.applications.VGG16(weights=IMAGENET)
        # get_file raises a bare Exception for a failed download and ValueError for a wrong checksum.
        except Exception as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"The imagenet weights are not in Keras' cache and could not be downloaded ({reason}). Put "
                f"{_LEGACY_FILE} into ~/.keras/models, or pass it with --weights FILE, or ask for "
                "--weights random."
            ) from error
    _assign(model, [variable.value.numpy() for variable in source.weights], "the imagenet weights")


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
        _assign(model, [variable.value.numpy() for variable in source.weights], str(path))
    elif path.suffix == ".h5":
        _load_h5(model, path)
    else:
        raise InputError(
            f"{path} is no weights file: .weights.h5, .h5 or .keras is wanted. Received: "
            f"{path.suffix or 'no suffix'!s}. Check --weights."
        )


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
    """Put arrays into the model in order, once all their shapes have been found right."""
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
        variable.assign(np.asarray(array, np.float32))
