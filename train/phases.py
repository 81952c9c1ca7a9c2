"""The two phases: the head on cached features of frozen convolutions, then the last blocks with it."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgepress.dataset import Dataset, Picture
from edgepress.decoding import DECODING_VERSION
from edgepress.files import sha256_of_json
from edgepress.models.weights import fingerprint_of
from edgepress.progress import Progress
from edgepress.record import to_json
from train.augmentation import VIEWS_VERSION
from train.checkpoint import Unfinished
from train.feature_store import FeatureStore
from train.fit import Examples, FitSettings, fit
from train.history import History, Phase
from train.network import Networks, freeze
from train.plan import Plan, versions_of
from train.vectors import BATCH, inputs_of, vectors_of

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)

View = tuple[Picture, int]


def feature_file(plan: Plan, convolutions: "keras.Model") -> Path:
    """The file of all features that are made alike: its name depends on whatever decides their values."""
    identity = sha256_of_json(
        {
            "architecture": asdict(plan.architecture),
            "weights": fingerprint_of(convolutions),
            "pooling": plan.request.head.pooling.value,
            "preprocessing": to_json(plan.preprocessing),
            "views": [DECODING_VERSION, VIEWS_VERSION],
            "versions": versions_of("tensorflow", "pillow"),
        }
    )
    return plan.request.cache / "features" / f"{identity[:32]}.sqlite"


def fit_phases(
    plan: Plan, networks: Networks, store: FeatureStore, unfinished: Unfinished, progress: Progress
) -> History:
    """Train the head alone, then, where blocks are to be trained, go on with them at a lower rate.

    Fine-tuning begins with the best head: the gradients of a freshly drawn one would undo what the
    convolutions have learnt (F. Chollet, Deep Learning with Python, 2nd edition 2021, section 8.3.2).
    The best epoch of both phases is left in the networks.

    Args:
        plan: What to do.
        networks: Freshly made.
        store: For the features.
        unfinished: For the state between epochs of both phases.
        progress: Told "features" per view, "train" and "fine-tune" per step.

    Raises:
        InputError: A loss is not finite, or the store cannot be used.
    """
    history = History()
    if unfinished.of(Phase.FINE_TUNING) is None:
        history = _fit_head(plan, networks, store, unfinished, progress)
    if plan.request.trainable_blocks:
        history = _fine_tune(plan, networks, history, unfinished, progress)
    return history


def _fit_head(
    plan: Plan, networks: Networks, store: FeatureStore, unfinished: Unfinished, progress: Progress
) -> History:
    training = _views(plan.parts.training, range(plan.request.augment + 1))
    _fill(plan, networks, store, (*training, *_views(plan.parts.validation, range(1))), progress)
    return fit(
        networks.head,
        _on_features(plan, training, store),
        validation_features(plan, store),
        _settings(plan, Phase.HEAD, plan.learning_rate),
        History(),
        unfinished,
        progress,
    )


def _fill(
    plan: Plan, networks: Networks, store: FeatureStore, views: Sequence[View], progress: Progress
) -> None:
    """Send through the convolutions what has no features yet."""
    by_name = {_name_of(plan, view): view for view in views}
    missing = store.missing(by_name)
    logger.info("%d feature vectors are cached, %d are computed", len(by_name) - len(missing), len(missing))
    progress("features", 0, max(1, len(missing)))
    batches = vectors_of(
        networks.convolutions,
        [by_name[name] for name in missing],
        plan.preprocessing,
        plan.request.seed,
        lambda done: progress("features", done, len(missing)),
    )
    for start, vectors in zip(range(0, len(missing), BATCH), batches, strict=True):
        store.put(missing[start : start + len(vectors)], vectors)


def _fine_tune(
    plan: Plan, networks: Networks, before: History, unfinished: Unfinished, progress: Progress
) -> History:
    """Train head and last blocks on pictures, with new random views in each epoch."""
    augment = plan.request.augment
    training = _views(plan.parts.training, range(augment + 1))

    def fresh(chosen: Sequence[int], epoch: int) -> NDArray[np.float32]:
        views = [training[i] for i in chosen]
        return _inputs(plan, [(picture, n + augment * (epoch - 1) if n else 0) for picture, n in views])

    freeze(networks, plan.architecture, plan.request.trainable_blocks)
    return fit(
        networks.classifier,
        Examples(_labels(training), fresh),
        validation_pictures(plan),
        _settings(plan, Phase.FINE_TUNING, plan.fine_tuning_rate),
        before,
        unfinished,
        progress,
    )


def validation_features(plan: Plan, store: FeatureStore) -> Examples:
    """The validation pictures for a head: features from the store, which must be there."""
    return _on_features(plan, _views(plan.parts.validation, range(1)), store)


def validation_pictures(plan: Plan) -> Examples:
    """The validation pictures for a whole network."""
    views = _views(plan.parts.validation, range(1))
    return Examples(_labels(views), lambda chosen, _: _inputs(plan, [views[i] for i in chosen]))


def _settings(plan: Plan, phase: Phase, rate: float) -> FitSettings:
    request = plan.request
    return FitSettings(phase, request.epochs, request.patience, request.batch, rate, request.seed)


def _on_features(plan: Plan, views: Sequence[View], store: FeatureStore) -> Examples:
    names = [_name_of(plan, view) for view in views]
    return Examples(_labels(views), lambda chosen, _: store.get([names[i] for i in chosen]))


def _name_of(plan: Plan, view: View) -> str:
    picture, number = view
    return f"{picture.sha256} {number} {plan.request.seed}" if number else picture.sha256


def _inputs(plan: Plan, views: Sequence[View]) -> NDArray[np.float32]:
    return inputs_of(views, plan.preprocessing, plan.request.seed)


def _views(pictures: Dataset, numbers: range) -> tuple[View, ...]:
    return tuple((picture, number) for picture in pictures.pictures for number in numbers)


def _labels(views: Sequence[View]) -> NDArray[np.int64]:
    return np.asarray([picture.label for picture, _ in views], np.int64)
