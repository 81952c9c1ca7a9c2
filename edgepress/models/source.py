"""MODEL and --weights, resolved without a framework: what will be loaded, and what it depends on."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepress.errors import InputError, unknown_choice
from edgepress.files import sha256_of_file
from edgepress.models.digits import PREPROCESSING, TrainingSettings, trained_digits
from edgepress.models.keras_classifier import require_classifier, require_finite
from edgepress.models.keras_file import load_keras_file, read_keras_file
from edgepress.models.training_record import require_fits
from edgepress.models.vgg16 import VGG16, VGG16_DIGITS, Architecture, Kernels, Style, build
from edgepress.models.weights import IMAGENET, RANDOM, draw_random, load_file, load_imagenet
from edgepress.preprocessing import PreprocessMode
from edgepress.progress import Progress

if TYPE_CHECKING:
    import keras

MODELS = (VGG16.name, VGG16_DIGITS.name)
_TRAINED = "trained here"
_IMAGENET_CLASSES = Path(__file__).with_name("imagenet_classes.txt")
_DIGIT_NAMES = tuple(str(digit) for digit in range(10))


@dataclass(frozen=True)
class Loaded:
    """A classifier in memory, and what its making showed (for the provenance)."""

    model: "keras.Model"
    findings: dict[str, Any]


@dataclass(frozen=True)
class ModelSource:
    """A model that can be loaded.

    Attributes:
        name: For the manifest.
        weights: Where its weights come from, in words.
        depends_on: Whatever decides its content, as JSON values; part of the artifacts' key.
        mode: What its pictures need.
        weights_bytes: Size of its weights in FP32, about.
        labels: Class names that belong to it, or None.
        trained_on: SHA-256 of the pictures that are known to have trained it.
        load: Makes the classifier.
    """

    name: str
    weights: str
    depends_on: dict[str, Any]
    mode: PreprocessMode
    weights_bytes: int
    labels: tuple[str, ...] | None
    load: Callable[[Progress], Loaded]
    trained_on: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelChoice:
    """What the user wrote: see `export.stage.ExportRequest`."""

    model: str
    weights: str | None
    style: Style
    preprocess: PreprocessMode | None
    seed: int
    cache: Path


def resolve(choice: ModelChoice) -> ModelSource:
    """Find out what is to be exported. Files are read, no framework is imported.

    Raises:
        InputError: An unknown model, weights that do not go with it, a file that is missing or no model, or
            no --preprocess where it is needed.
    """
    if choice.model == VGG16.name:
        return _vgg16(choice, VGG16, choice.weights or IMAGENET, PreprocessMode.CAFFE)
    if choice.model == VGG16_DIGITS.name:
        if choice.weights is None:
            return _trained_digits(choice)
        return _vgg16(choice, VGG16_DIGITS, choice.weights, PREPROCESSING.mode)
    if Path(choice.model).suffix == ".keras":
        return _users_own(choice, Path(choice.model))
    if Path(choice.model).exists():
        raise InputError(
            f"{choice.model} is no model that edgepress reads: a .keras file is wanted. "
            "Save it with model.save('….keras')."
        )
    raise unknown_choice("model", choice.model, (*MODELS, "FILE.keras"))


def _vgg16(
    choice: ModelChoice, architecture: Architecture, weights: str, mode: PreprocessMode
) -> ModelSource:
    fill, words, identity = _filler(choice, architecture, weights)

    def load(_: Progress) -> Loaded:
        model = build(architecture, choice.style, Kernels.UNWRITTEN)
        fill(model)
        return Loaded(model, {})

    return ModelSource(
        architecture.name,
        words,
        {"architecture": asdict(architecture), "weights": identity, "style": choice.style.value},
        choice.preprocess or mode,
        4 * architecture.parameters,
        imagenet_classes() if architecture is VGG16 and weights != RANDOM else None,
        load,
    )


def imagenet_classes() -> tuple[str, ...]:
    """The names of ImageNet's 1,000 classes in the order of Keras' outputs."""
    return tuple(_IMAGENET_CLASSES.read_text(encoding="utf-8").splitlines())


def _filler(
    choice: ModelChoice, architecture: Architecture, weights: str
) -> tuple[Callable[["keras.Model"], None], str, str]:
    """How to fill the network with weights, that in words, and what identifies the weights."""
    if weights == RANDOM:
        words = f"random (seed {choice.seed})"
        return lambda model: draw_random(model, choice.seed), words, words
    if weights == IMAGENET:
        if architecture is not VGG16:
            raise InputError(
                f"There are no imagenet weights for {architecture.name}. Leave --weights out to train it, or "
                "pass a FILE or random."
            )
        return load_imagenet, IMAGENET, IMAGENET
    path = Path(weights)
    if not path.is_file():
        raise InputError(
            f"No weights file at {path}. Give --weights imagenet, random or a FILE that is there."
        )

    def fill(model: "keras.Model") -> None:
        load_file(model, path)
        require_finite(model, path)

    return fill, path.name, sha256_of_file(path)


def _trained_digits(choice: ModelChoice) -> ModelSource:
    settings = TrainingSettings(seed=choice.seed)

    def load(progress: Progress) -> Loaded:
        trained = trained_digits(choice.style, settings, choice.cache, progress)
        return Loaded(trained.model, {"training": asdict(settings), "held_out_top1": trained.top1})

    return ModelSource(
        VGG16_DIGITS.name,
        _TRAINED,
        {
            "architecture": asdict(VGG16_DIGITS),
            "weights": _TRAINED,
            "training": asdict(settings),
            "style": choice.style.value,
        },
        choice.preprocess or PREPROCESSING.mode,
        4 * VGG16_DIGITS.parameters,
        _DIGIT_NAMES,
        load,
    )


def _users_own(choice: ModelChoice, path: Path) -> ModelSource:
    if choice.weights is not None:
        raise InputError(
            f"--weights goes with {' and '.join(MODELS)}; {path.name} brings its own weights. "
            "Leave --weights out."
        )
    file = read_keras_file(path)
    record = file.record

    def load(_: Progress) -> Loaded:
        model = load_keras_file(file)
        require_classifier(model, path)
        if record is not None:
            require_fits(record, model, path)
        return Loaded(model, {})

    return ModelSource(
        path.stem,
        path.name,
        {"weights": sha256_of_file(path)},
        file.preprocess_mode(choice.preprocess),
        path.stat().st_size,
        record.labels if record is not None else None,
        load,
        record.trained_on if record is not None else (),
    )
