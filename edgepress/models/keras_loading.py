"""A `.keras` archive into a model, with one copy of the weights.

`keras.saving.load_model` draws initial values for all weights and then holds the whole archive in memory
beside them (3.3 bytes a byte for VGG16, Keras 3.15). What is used here is public too: the description with
other initializers, and the weights from a file of their own.
"""

import json
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepress.models.keras_import import import_keras

if TYPE_CHECKING:
    import keras

CONFIG = "config.json"
METADATA = "metadata.json"
WEIGHTS = "model.weights.h5"
_UNWRITTEN = "UnwrittenZeros"
_SHARED = "shared_object_id"  # Keras' mark of an object that is meant to be the same in several places
_STATELESS = ("DTypePolicy", _UNWRITTEN)


def load_archive(path: Path) -> "keras.Model":
    """Load a model in Keras' safe mode and without its training state.

    Archives with assets or shared layers, which are rare and small, are left to `keras.saving.load_model`;
    so is everything where the temporary folder has no room for the weights.

    Raises:
        OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile: As Keras raises them.
    """
    # It needs numpy, which descriptions do not.
    from edgepress.models.keras_memory import arrays_in_numpy_memory, unwritten_zeros_class

    keras = import_keras()
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
        config = {**_with_unwritten_weights(json.loads(archive.read(CONFIG))), "compile_config": None}
        plain = set(archive.namelist()) == {CONFIG, METADATA, WEIGHTS} and not _shares_layers(config)
        extracted = _extracted(archive, folder) if plain else None
        if extracted is None:
            return keras.saving.load_model(path, compile=False, safe_mode=True)
        model = keras.saving.deserialize_keras_object(
            config, custom_objects={_UNWRITTEN: unwritten_zeros_class()}, safe_mode=True
        )
        with arrays_in_numpy_memory(model):
            model.load_weights(extracted)
        return model


def _extracted(archive: zipfile.ZipFile, folder: str) -> str | None:
    try:
        return archive.extract(WEIGHTS, folder)
    except OSError:  # no room
        return None


def _shares_layers(value: Any) -> bool:
    """Whether an object that holds state is described in several places."""
    if isinstance(value, list):
        return any(_shares_layers(item) for item in value)
    if not isinstance(value, dict):
        return False
    shared = _SHARED in value and value.get("class_name") not in _STATELESS
    return shared or any(_shares_layers(item) for item in value.values())


def _with_unwritten_weights(value: Any) -> Any:
    """A description in which every initializer is the quickest one: all its weights will be replaced."""
    if isinstance(value, list):
        return [_with_unwritten_weights(item) for item in value]
    if not isinstance(value, dict):
        return value
    unwritten = {
        "module": "edgepress",
        "class_name": _UNWRITTEN,
        "config": {},
        "registered_name": _UNWRITTEN,
    }
    return {
        key: unwritten if key.endswith("_initializer") and item is not None else _with_unwritten_weights(item)
        for key, item in value.items()
    }
