"""A user's own `.keras` classifier. What its file says is read before anything in it is run."""

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepress.errors import InputError
from edgepress.models.keras_import import import_keras
from edgepress.models.training_record import TrainingRecord, read_record
from edgepress.preprocessing import PreprocessMode

if TYPE_CHECKING:
    import keras

_MEMBERS = ("config.json", "metadata.json", "model.weights.h5")
_NORMALIZING_LAYERS = frozenset({"Rescaling", "Normalization"})
_KERAS_MODULES = frozenset({"keras", "builtins"})
_MODES = "|".join(mode.value for mode in PreprocessMode)


@dataclass(frozen=True)
class KerasFile:
    """A `.keras` file whose description has been read and found harmless; its weights have not.

    Attributes:
        path: The file.
        normalizes: It has a Rescaling or Normalization layer of its own.
        record: What `edgepress train` says about it; None if another program saved it.
    """

    path: Path
    normalizes: bool
    record: TrainingRecord | None = None

    def preprocess_mode(self, given: PreprocessMode | None) -> PreprocessMode:
        """What the pictures need before this model.

        Raises:
            InputError: It does not normalize by itself and no mode is given.
        """
        if given is not None:
            return given
        if self.record is not None:
            return self.record.preprocessing.mode
        if self.normalizes:
            return PreprocessMode.NONE
        raise InputError(
            f"{self.path.name} has no Rescaling or Normalization layer, so what its pictures need cannot be "
            f"known. Say it with --preprocess {_MODES}."
        )


def read_keras_file(path: Path) -> KerasFile:
    """Look into a `.keras` file without importing a framework and without running anything in it.

    Raises:
        InputError: No such file, no whole `.keras` file, a Lambda layer or a custom object in it.
    """
    if not path.is_file():
        raise InputError(f"No model file at {path}. Check the path.")
    try:
        with zipfile.ZipFile(path) as archive:
            missing = [name for name in _MEMBERS if name not in archive.namelist()]
            if missing:
                raise InputError(
                    f"{path} is no .keras model: it lacks {', '.join(missing)}. "
                    "Save it anew with model.save('….keras')."
                )
            config = json.loads(archive.read("config.json"))
            record = read_record(archive, path)
    except (zipfile.BadZipFile, OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{path} is no .keras model or is truncated ({_one_line(error)}). "
            "Save it anew with model.save('….keras')."
        ) from error
    objects = list(_objects(config))
    for entry in objects:
        _refuse_foreign_code(path, entry)
    return KerasFile(path, any(entry["class_name"] in _NORMALIZING_LAYERS for entry in objects), record)


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Every serialized object in a model's description, outermost first."""
    if isinstance(config, dict):
        if isinstance(config.get("class_name"), str):
            yield config
        for name, value in config.items():
            if name != "compile_config":  # of training: not loaded
                yield from _objects(value)
    elif isinstance(config, list):
        for value in config:
            yield from _objects(value)


def _refuse_foreign_code(path: Path, entry: dict[str, Any]) -> None:
    name = entry["class_name"]
    if name in {"Lambda", "__lambda__"}:
        raise InputError(
            f"{path} has a Lambda layer, which carries code that loading would run. "
            "Use a layer of Keras instead and save it anew."
        )
    module = entry.get("module")
    if "module" in entry and (module is None or module.split(".")[0] not in _KERAS_MODULES):
        raise InputError(
            f"{path} needs the custom object {name!r} (of {module or 'an unknown module'}), which is not "
            "part of Keras. Build the model of Keras' own layers and save it anew."
        )


def load_keras_file(file: KerasFile) -> "keras.Model":
    """Load the model, with Keras' safe mode on and without its training state.

    Raises:
        InputError: Keras cannot load it: truncated weights, or a function that it does not know.
    """
    keras = import_keras()
    try:
        return keras.saving.load_model(file.path, compile=False, safe_mode=True)
    except (zipfile.BadZipFile, OSError, ValueError, TypeError, KeyError, EOFError) as error:
        raise InputError(
            f"Keras cannot load {file.path}: {_one_line(error)} "
            "Save it anew with this Keras, of its own layers and functions."
        ) from error


def require_classifier(model: "keras.Model", path: Path) -> None:
    """Check that a model is one that edgepress can treat: one picture in, one row of scores out.

    Raises:
        InputError: More than one input or output, an input that is not (N, H, W, 3) float32 with fixed H and
            W, or an output that is not (N, classes) with at least two classes.
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise InputError(
            f"{path}: one input and one output are wanted. Received: {len(model.inputs)} inputs and "
            f"{len(model.outputs)} outputs. Save the part that classifies as a model of its own."
        )
    shape, dtype = tuple(model.inputs[0].shape), model.inputs[0].dtype
    if len(shape) != 4 or shape[3] != 3 or None in shape[1:]:
        raise InputError(
            f"{path}: an input of shape (batch, height, width, 3) with fixed height and width (channels "
            f"last) is wanted. Received: {shape}. Rebuild the model with such a keras.Input."
        )
    if shape[0] is not None or dtype != "float32" or model.compute_dtype != "float32":
        raise InputError(
            f"{path}: an input with a free batch and float32 computation are wanted. Received: batch "
            f"{shape[0]}, input {dtype}, computation {model.compute_dtype}. Rebuild the model so."
        )
    scores = tuple(model.outputs[0].shape)
    if len(scores) != 2 or scores[1] is None or scores[1] < 2:
        raise InputError(
            f"{path}: an output of shape (batch, classes) with at least 2 classes is wanted. "
            f"Received: {scores}. Give the model a Dense layer with a unit per class."
        )


def _one_line(error: BaseException) -> str:
    """What an exception says, on one line, without the configuration that Keras quotes around the cause."""
    text = " ".join(str(error).rpartition("Exception encountered:")[2].split()) or type(error).__name__
    text = text if len(text) <= 300 else text[:297] + "…"
    return text if text.endswith(".") else text + "."
