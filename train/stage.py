"""The stage: pictures in, a `.keras` classifier that states its preprocessing and its classes out."""

import logging
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgepress.dataset import Dataset, Picture
from edgepress.errors import InputError, ProofError
from edgepress.files import atomic_path, make_folder, write_bytes, write_json
from edgepress.lock import exclusive
from edgepress.models.keras_import import import_keras
from edgepress.models.training_record import TrainingRecord, read_record, write_record
from edgepress.models.weights import fingerprint_of
from edgepress.progress import Progress, silent
from train.curves import curves_svg
from train.feature_store import FeatureStore
from train.fit import Examples, FitSettings, fit
from train.history import History
from train.network import Networks, build_networks, freeze
from train.plan import Plan, TrainRequest, plan_of
from train.vectors import BATCH, inputs_of, vectors_of

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)

View = tuple[Picture, int]


def train_model(request: TrainRequest, progress: Progress = silent) -> TrainingRecord:
    """Train a classifier by transfer learning, and write it with its history and learning curves.

    With frozen convolutions every view of a picture goes through them once; its feature vector is kept in
    the cache, also for the next training. The state after each epoch is kept beside the file until the
    training is done: the same request goes on where it was interrupted. If the file is there and was trained
    from the same things, nothing is done, and no framework is imported.

    Args:
        request: What to do.
        progress: Told "features" per view and "train" per step.

    Returns:
        The record that is also in the file.

    Raises:
        InputError: Bad data or settings, or weights that do not fit. An existing file stays as it is.
        ProofError: The written file does not give the trained network's answers.
    """
    plan = plan_of(request)
    make_folder(request.out.parent)
    with exclusive(request.out.parent):
        known = _known(request.out)
        if known is not None and known.key == plan.key:
            logger.info("%s is up to date", request.out)
            return known
        return _train(plan, progress)


def _known(path: Path) -> TrainingRecord | None:
    """The record of a file that is already there; None if there is none that can be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return read_record(archive, path)
    except (OSError, zipfile.BadZipFile, InputError):
        return None


def _train(plan: Plan, progress: Progress) -> TrainingRecord:
    request = plan.request
    classes = len(plan.classes)
    networks = build_networks(
        plan.architecture, plan.weights, request.head, classes, request.seed, request.cache
    )
    freeze(networks, plan.architecture, request.trainable_blocks)
    settings = FitSettings(request.epochs, request.patience, request.batch, plan.learning_rate, request.seed)
    checkpoint = request.out.with_name(f".{request.out.stem}.unfinished.npz")
    fit_part = _fit_whole if request.trainable_blocks else _fit_head
    history = fit_part(plan, networks, settings, checkpoint, progress)
    record = _record(plan, history)
    _write(plan, networks.classifier, record, history)
    checkpoint.unlink(missing_ok=True)
    return record


def _fit_head(
    plan: Plan, networks: Networks, settings: FitSettings, checkpoint: Path, progress: Progress
) -> History:
    """Train the head on feature vectors from the cache; what is not there yet is put there first."""
    seed = plan.request.seed
    training = _views(plan.parts.training, range(plan.request.augment + 1))
    validation = _views(plan.parts.validation, range(1))
    base = fingerprint_of(networks.convolutions)[:16]
    pooling = plan.request.head.pooling.value
    path = plan.request.cache / "features" / f"{base}-{pooling}.sqlite"

    def name_of(view: View) -> str:
        picture, number = view
        return f"{picture.sha256} {number} {seed}" if number else picture.sha256

    def examples(views: Sequence[View], store: FeatureStore) -> Examples:
        names = [name_of(view) for view in views]
        return Examples(_labels(views), lambda chosen, _: store.get([names[i] for i in chosen]))

    width = int(networks.head.inputs[0].shape[1])
    with FeatureStore(path, width) as store:
        by_name = {name_of(view): view for view in (*training, *validation)}
        missing = store.missing(by_name)
        logger.info(
            "%d feature vectors are cached, %d are computed", len(by_name) - len(missing), len(missing)
        )
        views = [by_name[name] for name in missing]
        progress("features", 0, max(1, len(views)))
        batches = vectors_of(
            networks.convolutions,
            views,
            plan.preprocessing,
            seed,
            lambda done: progress("features", done, len(views)),
        )
        for start, vectors in zip(range(0, len(views), BATCH), batches, strict=True):
            store.put(missing[start : start + len(vectors)], vectors)
        return fit(
            networks.head,
            examples(training, store),
            examples(validation, store),
            settings,
            checkpoint,
            plan.key,
            progress,
        )


def _fit_whole(
    plan: Plan, networks: Networks, settings: FitSettings, checkpoint: Path, progress: Progress
) -> History:
    """Train head and convolutions on pictures, with new random views in each epoch."""
    augment, seed = plan.request.augment, plan.request.seed
    training = _views(plan.parts.training, range(augment + 1))
    validation = _views(plan.parts.validation, range(1))
    _require_decodable(plan)

    def inputs(views: Sequence[View], chosen: Sequence[int], epoch: int) -> NDArray[np.float32]:
        fresh = [(picture, n + augment * max(0, epoch - 1) if n else 0) for picture, n in views]
        return inputs_of([fresh[i] for i in chosen], plan.preprocessing, seed)

    return fit(
        networks.classifier,
        Examples(_labels(training), lambda chosen, epoch: inputs(training, chosen, epoch)),
        Examples(_labels(validation), lambda chosen, epoch: inputs(validation, chosen, epoch)),
        settings,
        checkpoint,
        plan.key,
        progress,
    )


def _views(pictures: Dataset, numbers: range) -> tuple[View, ...]:
    return tuple((picture, number) for picture in pictures.pictures for number in numbers)


def _labels(views: Sequence[View]) -> NDArray[np.int64]:
    return np.asarray([picture.label for picture, _ in views], np.int64)


def _require_decodable(plan: Plan) -> None:
    """Read every picture once: a broken one shall not end the training in the middle."""
    for part in (plan.parts.training, plan.parts.validation):
        for picture in part.pictures:
            picture.read(plan.preprocessing)


def _record(plan: Plan, history: History) -> TrainingRecord:
    best = history.epochs[history.best - 1]
    return TrainingRecord(
        plan.key,
        plan.preprocessing,
        plan.classes,
        tuple(dict.fromkeys(picture.sha256 for picture in plan.parts.training.pictures)),
        plan.settings,
        history.best,
        len(plan.parts.validation),
        best.validation_accuracy,
    )


def _write(plan: Plan, classifier: "keras.Model", record: TrainingRecord, history: History) -> None:
    """Put the classifier in its place once the file is proven, and its curves and history beside it."""
    out = plan.request.out
    title = (
        f"{out.stem}: {plan.architecture.name}, {len(plan.classes)} classes, "
        f"{len(plan.parts.training)} pictures train, {len(plan.parts.validation)} choose the epoch"
    )
    write_bytes(out.with_name(f"{out.stem}.curves.svg"), curves_svg(history, title).encode())
    write_json(
        out.with_name(f"{out.stem}.history.json"),
        {
            "settings": plan.settings,
            "best_epoch": history.best,
            "epochs": [asdict(epoch) for epoch in history.epochs],
        },
    )
    with atomic_path(out) as temporary:
        for layer in classifier.layers:  # in the file nothing is frozen: whoever loads it decides anew
            layer.trainable = True
        classifier.save(temporary)
        write_record(temporary, record)
        _require_same(plan, classifier, temporary)


def _require_same(plan: Plan, classifier: "keras.Model", path: Path) -> None:
    """Prove that the file, record and all, gives the answers of the network that was trained."""
    keras = import_keras()
    images = inputs_of([(plan.parts.validation.pictures[0], 0)], plan.preprocessing, plan.request.seed)
    wanted = np.asarray(classifier(images, training=False))
    found = np.asarray(keras.saving.load_model(path, compile=False)(images, training=False))
    if not np.allclose(wanted, found, rtol=0, atol=1e-6):
        raise ProofError(
            f"{plan.request.out}: the saved network differs from the trained one by up to "
            f"{float(np.abs(wanted - found).max()):.2g}, and at most 1e-06 is wanted. Train again."
        )
