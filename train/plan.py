"""A request for a training, checked as far as that goes without a framework."""

import logging
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import edgepress
from edgepress.dataset import DIGITS, Dataset, open_data
from edgepress.decoding import DECODING_VERSION
from edgepress.errors import InputError, MissingRuntimeError
from edgepress.files import sha256_of_file, sha256_of_json
from edgepress.labels import read_labels
from edgepress.models.keras_file import read_keras_file
from edgepress.models.vgg16 import VGG16, Architecture
from edgepress.models.weights import IMAGENET, RANDOM
from edgepress.preprocessing import Preprocessing
from edgepress.record import to_json
from train.augmentation import VIEWS_VERSION
from train.network import TRAINED, Head, architecture_named, preprocessing_of
from train.split import Split, split

logger = logging.getLogger(__name__)

_PROCEDURE = 2  # another one for every change after which the same request gives another file
_LEARNING_RATE = 1e-3
_FINE_TUNING_SHARE = 0.1  # of it: larger steps would undo what the convolutions have learnt
_LEAST_CLASSES = 2


@dataclass(frozen=True)
class TrainRequest:
    """What `edgepress train` is asked for.

    Attributes:
        data: DATA with labels.
        out: The `.keras` file.
        cache: Folder for feature vectors and trained weights.
        model: Whose convolutions: "vgg16" or "vgg16-digits".
        weights: "imagenet", "random" or a file; None for the model's own.
        head: The new layers.
        trainable_blocks: How many of the last blocks of convolutions are trained, too; 0 freezes all.
        epochs: At most, in each phase.
        patience: Epochs without improvement after which it stops; 0 for never.
        batch: Pictures a step.
        learning_rate: Of the head, None for 0.001; fine-tuning goes on with a tenth of it.
        validation: Share of the pictures, in (0, 1), that choose the epoch.
        augment: Random views of each training picture beside the picture itself.
        labels: Text file with the class names in the wanted order, or None for the order of the folders.
        seed: Of split, weights, order and views.
    """

    data: str
    out: Path
    cache: Path
    model: str = VGG16.name
    weights: str | None = None
    head: Head = Head()  # noqa: RUF009  # frozen
    trainable_blocks: int = 0
    epochs: int = 30
    patience: int = 5
    batch: int = 32
    learning_rate: float | None = None
    validation: float = 0.2
    augment: int = 0
    labels: Path | None = None
    seed: int = 0


@dataclass(frozen=True)
class Plan:
    """A checked request.

    Attributes:
        request: It.
        architecture: Whose convolutions.
        weights: Theirs: "imagenet", "random", "trained" or a file.
        preprocessing: From picture to input.
        parts: The pictures.
        classes: Names in the order of the outputs.
        learning_rate: Of Adam, for the head alone.
        fine_tuning_rate: Of Adam, for head and convolutions.
        settings: All that was chosen, as JSON values.
        key: SHA-256 of everything that the outcome depends on.
    """

    request: TrainRequest
    architecture: Architecture
    weights: str
    preprocessing: Preprocessing
    parts: Split
    classes: tuple[str, ...]
    learning_rate: float
    fine_tuning_rate: float
    settings: dict[str, Any]
    key: str


def plan_of(request: TrainRequest) -> Plan:
    """Check a request.

    Raises:
        InputError: Bad settings or data, or a file that is not there.
        MissingRuntimeError: Keras is not installed.
    """
    _require_sound(request)
    architecture = architecture_named(request.model)
    pictures = _labelled(request)
    weights = request.weights or (IMAGENET if architecture is VGG16 else TRAINED)
    identity, preprocessing = _identity_of(weights), _preprocessing(architecture, weights)
    rate = request.learning_rate or _LEARNING_RATE
    fine_tuning_rate = rate * _FINE_TUNING_SHARE
    settings = {
        "model": architecture.name,
        "weights": weights,
        "head": to_json(request.head),
        "trainable_blocks": request.trainable_blocks,
        "patience": request.patience,
        "batch": request.batch,
        "learning_rate": rate,
        "fine_tuning_rate": fine_tuning_rate if request.trainable_blocks else None,
        "validation": request.validation,
        "augment": request.augment,
        "seed": request.seed,
        "epochs": request.epochs,
    }
    key = sha256_of_json(
        {
            "settings": settings,
            "weights": identity,
            "architecture": asdict(architecture),
            "data": pictures.fingerprint,
            "classes": pictures.classes,
            "preprocessing": to_json(preprocessing),
            "procedure": [_PROCEDURE, DECODING_VERSION, VIEWS_VERSION],
            "versions": [edgepress.__version__, *versions_of("keras", "tensorflow", "pillow")],
        }
    )
    parts = split(pictures, request.validation, request.seed)
    return Plan(
        request,
        architecture,
        weights,
        preprocessing,
        parts,
        pictures.classes or (),
        rate,
        fine_tuning_rate,
        settings,
        key,
    )


def _require_sound(request: TrainRequest) -> None:
    if request.out.suffix != ".keras":
        raise InputError(f"--out wants a name that ends in .keras. Received: {request.out}.")
    if request.out.is_dir():
        raise InputError(f"--out wants a file, and {request.out} is a folder. Give another name.")
    _require_in_range(request)
    architecture = architecture_named(request.model)
    if not 0 <= request.trainable_blocks <= len(architecture.blocks):
        raise InputError(
            f"--trainable-blocks: {architecture.name} has {len(architecture.blocks)} blocks. Received: "
            f"{request.trainable_blocks}. Give 0 to freeze all of them."
        )


def _require_in_range(request: TrainRequest) -> None:
    for option, value, least in (
        ("--epochs", request.epochs, 1),
        ("--batch", request.batch, 1),
        ("--patience", request.patience, 0),
        ("--hidden", request.head.hidden, 0),
        ("--augment", request.augment, 0),
    ):
        if value < least:
            raise InputError(f"{option} wants at least {least}. Received: {value}.")
    if request.learning_rate is not None and request.learning_rate <= 0:
        raise InputError(f"--learning-rate wants a number above 0. Received: {request.learning_rate}.")
    if not 0 < request.validation < 1:
        raise InputError(f"--validation wants a share between 0 and 1. Received: {request.validation}.")
    if not 0 <= request.head.dropout < 1:
        raise InputError(f"--dropout wants a share from 0 to below 1. Received: {request.head.dropout}.")


def versions_of(*packages: str) -> list[str]:
    """Their versions, without importing them.

    Raises:
        MissingRuntimeError: One is not installed.
    """
    return [_version(package) for package in packages]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError as error:
        raise MissingRuntimeError(package, "data" if package == "pillow" else "keras") from error


def _preprocessing(architecture: Architecture, weights: str) -> Preprocessing:
    """What the convolutions were trained on: as their file says, or as is usual for the architecture."""
    usual = preprocessing_of(architecture)
    if Path(weights).suffix != ".keras":
        return usual
    file = read_keras_file(Path(weights))
    if file.record is not None:
        return replace(file.record.preprocessing, height=usual.height, width=usual.width)
    if file.normalizes:
        logger.warning(
            "%s has a Rescaling or Normalization layer, and only its convolutions are taken: they get "
            "pictures as %s has them (%s)",
            weights,
            architecture.name,
            usual.mode.value,
        )
    return usual


def _identity_of(weights: str) -> str:
    if weights in {IMAGENET, RANDOM, TRAINED}:
        return weights
    if not Path(weights).is_file():
        raise InputError(
            f"No weights file at {weights}. Give --weights imagenet, random or a FILE that is there."
        )
    return sha256_of_file(Path(weights))


def _labelled(request: TrainRequest) -> Dataset:
    """The pictures with class names, in the order that --labels asks for."""
    found = open_data(request.data).calibration
    _require_no_empty_class(request.data, found.classes or ())
    labels = found.labels()
    if labels is None:
        raise InputError(
            f"{request.data} has no labels to learn. Put the pictures into class folders (class/*.jpg), or "
            "give an .npz with `labels`."
        )
    found = replace(found, classes=_names(request, found, int(labels.max()) + 1))
    names = found.classes or ()
    if len(names) < _LEAST_CLASSES:
        raise InputError(
            f"{request.data} has one class ({', '.join(names)}), and a classifier needs at least two. Add a "
            "folder for each class."
        )
    return found if request.labels is None else _in_order_of(found, request.labels)


def _require_no_empty_class(data: str, classes: tuple[str, ...]) -> None:
    """A class that was meant shall not be left out silently."""
    if data == DIGITS or not Path(data).is_dir() or not classes:
        return
    folders = {path.name for path in Path(data).iterdir() if path.is_dir() and path.name[0] != "."}
    if empty := sorted(folders - set(classes)):
        raise InputError(
            f"{data}: the class folder {', '.join(empty)} has no picture (.jpg, .jpeg, .png, .bmp or .webp). "
            "Add some, or remove it."
        )


def _names(request: TrainRequest, found: Dataset, count: int) -> tuple[str, ...]:
    """Class names as the data has them: of its folders, or of --labels for an array, or numbers."""
    names = found.classes or tuple(str(i) for i in range(count))
    if request.labels is None:
        return names
    wanted = read_labels(request.labels)
    if len(wanted) != len(names):
        raise InputError(
            f"{request.labels} has {len(wanted)} class names, and {request.data} has {len(names)} classes "
            f"({', '.join(names)}). Name each of them once."
        )
    return found.classes or wanted


def _in_order_of(found: Dataset, labels: Path) -> Dataset:
    """The same pictures with their classes in the order of a labels file."""
    names, wanted = found.classes or (), read_labels(labels)
    if odd := sorted(set(wanted) - set(names)):
        raise InputError(
            f"{labels} names {', '.join(odd)}, and {found.source} has no such class folder: it has "
            f"{', '.join(names)}. Name each folder once, in the order that the outputs shall have."
        )
    pictures = tuple(
        replace(picture, label=wanted.index(names[picture.label]))
        for picture in found.pictures
        if picture.label is not None
    )
    return replace(found, pictures=pictures, classes=wanted)
