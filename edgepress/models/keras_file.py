"""A user's own `.keras` classifier. What its file says is read before anything in it is run."""

import json
import logging
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.version import InvalidVersion, Version

from edgepress.errors import InputError
from edgepress.models.keras_import import import_keras
from edgepress.models.keras_loading import load_archive
from edgepress.models.training_record import TrainingRecord, read_record
from edgepress.preprocessing import PreprocessMode

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)

_MEMBERS = ("config.json", "metadata.json", "model.weights.h5")
_NORMALIZING_LAYERS = frozenset({"Rescaling", "Normalization"})
_KERAS_MODULES = frozenset({"keras", "builtins"})
_MODES = "|".join(mode.value for mode in PreprocessMode)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class KerasFile:
    """A `.keras` file whose description has been read and found harmless; its weights have not.

    Attributes:
        path: The file.
        normalizes: It has a Rescaling or Normalization layer of its own.
        record: What `edgepress train` says about it; None if another program saved it.
        keras_version: Of the Keras that saved it; empty if the file does not say it.
    """

    path: Path
    normalizes: bool
    record: TrainingRecord | None = None
    keras_version: str = ""

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
            metadata = json.loads(archive.read("metadata.json"))
            record = read_record(archive, path)
    except (zipfile.BadZipFile, OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{path} is no .keras model or is truncated ({one_line(error)}). "
            "Save it anew with model.save('….keras')."
        ) from error
    objects = list(_objects(config))
    for entry in objects:
        _refuse_foreign_code(path, entry)
    normalizes = any(entry["class_name"] in _NORMALIZING_LAYERS for entry in objects)
    version = metadata.get("keras_version", "") if isinstance(metadata, dict) else ""
    return KerasFile(path, normalizes, record, str(version))


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

    A file of a newer Keras is tried, with a warning.

    Raises:
        InputError: Keras cannot load it: truncated weights, or a function that it does not know.
    """
    installed: str = import_keras().__version__
    newer = _is_newer(file.keras_version, installed)
    try:
        model = load_archive(file.path)
    except (zipfile.BadZipFile, OSError, ValueError, TypeError, KeyError, EOFError) as error:
        if newer:
            raise InputError(
                f"Keras {installed} cannot load {file.path}, which Keras {file.keras_version} saved: "
                f"{one_line(error)} Install that Keras, or save the model with this one."
            ) from error
        raise InputError(
            f"Keras cannot load {file.path}: {one_line(error)} "
            "Save it anew with this Keras, of its own layers and functions."
        ) from error
    if newer:
        logger.warning("%s was saved by Keras %s, and this is %s", file.path, file.keras_version, installed)
    return model


def _is_newer(saved_by: str, installed: str) -> bool:
    try:
        return Version(saved_by) > Version(installed)
    except InvalidVersion:
        return False


def one_line(error: BaseException) -> str:
    """What an exception says, on one line, without the configuration that Keras quotes around the cause."""
    plain = _COLOURS.sub("", str(error))  # Keras writes some messages in bold
    text = " ".join(plain.rpartition("Exception encountered:")[2].split()) or type(error).__name__
    text = text if len(text) <= 300 else text[:297] + "…"
    return text if text.endswith(".") else text + "."
