"""What `edgepress train` writes into a `.keras` file: preprocessing, labels, the pictures that trained it.

It is one more member of the zip file, which Keras leaves alone when it loads the model. A program that saves
the model again drops it; then `export` asks for what it said.
"""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepress.errors import InputError
from edgepress.preprocessing import Preprocessing
from edgepress.record import from_json, to_json

if TYPE_CHECKING:
    import keras

MEMBER = "edgepress.json"


@dataclass(frozen=True)
class TrainingRecord:
    """How a classifier was trained.

    Attributes:
        key: SHA-256 of everything that the training depended on.
        preprocessing: From picture to input.
        labels: Class names in the order of the outputs.
        trained_on: SHA-256 of each picture that trained it; those that chose the epoch are not among them.
        settings: Of the training.
        best_epoch: Counted from 1; its weights are in the file.
        validation_pictures: How many pictures chose the epoch.
        validation_accuracy: Of the best epoch on them, in [0, 1].
    """

    key: str
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    trained_on: tuple[str, ...]
    settings: Mapping[str, Any]
    best_epoch: int
    validation_pictures: int
    validation_accuracy: float


def write_record(path: Path, record: TrainingRecord) -> None:
    """Add the record to a `.keras` file that has none."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(MEMBER, json.dumps(to_json(record), ensure_ascii=False, allow_nan=False))


def read_record(archive: zipfile.ZipFile, path: Path) -> TrainingRecord | None:
    """The record in an open `.keras` file, or None.

    Raises:
        InputError: It is damaged, or of another edgepress.
    """
    if MEMBER not in archive.namelist():
        return None
    try:
        return from_json(TrainingRecord, json.loads(archive.read(MEMBER)))
    except ValueError as error:
        raise InputError(
            f"The training record in {path} is damaged ({error}). Train again, or save the model anew with "
            "model.save('….keras') and say what the record said with --preprocess and --labels."
        ) from error


def require_fits(record: TrainingRecord, model: "keras.Model", path: Path) -> None:
    """Check that a record belongs to the model beside it.

    Raises:
        InputError: Their number of classes or the size of their pictures differ.
    """
    _, height, width, _ = model.inputs[0].shape
    classes = int(model.outputs[0].shape[1])
    said = (record.preprocessing.height, record.preprocessing.width, len(record.labels))
    if said != (height, width, classes):
        raise InputError(
            f"The training record in {path} is of another model: it says {said[0]}×{said[1]} pictures and "
            f"{said[2]} classes, and the model has {height}×{width} and {classes}. Train again."
        )
