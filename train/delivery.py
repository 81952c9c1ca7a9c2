"""The trained classifier is written, proven and put into its place, with curves and history beside it."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgepress.errors import ProofError
from edgepress.files import atomic_path, write_json
from edgepress.models.keras_import import import_keras
from edgepress.models.training_record import TrainingRecord, write_record
from edgepress.models.weights import fingerprint_of
from train.curves import curves_svg
from train.fit import Examples, evaluated
from train.history import Epoch, History
from train.network import Networks
from train.phases import validation_features, validation_pictures
from train.plan import Plan
from train.vectors import BATCH, inputs_of

if TYPE_CHECKING:
    import keras

    from train.feature_store import FeatureStore

_LARGEST_DIFFERENCE = 1e-6  # of a probability: the same network on the same pictures
_LOSS_TOLERANCE = 1e-3  # relative: features and pictures are summed in other orders
_SMALLEST_LOSS = 1e-2  # below it the rounding of a probability near 1 counts


def deliver(
    plan: Plan, networks: Networks, store: "FeatureStore", record: TrainingRecord, history: History
) -> None:
    """Put classifier, curves and history into their places, once the file of the classifier is proven.

    The file holds the weights and nothing of the training: no optimizer, and nothing is frozen.

    Args:
        plan: What was done.
        networks: With the weights of the best epoch.
        store: Of the features that trained the head.
        record: For the file.
        history: Of all epochs.

    Raises:
        ProofError: The written file does not give the trained network's answers. All that was there stays.
        InputError: It cannot be written. Likewise.
    """
    out = plan.request.out
    with (
        atomic_path(out.with_name(f"{out.stem}.curves.svg")) as curves,
        atomic_path(out.with_name(f"{out.stem}.history.json")) as epochs,
        atomic_path(out) as model,  # the innermost is the first that gets its place
    ):
        _save(networks.classifier, model)
        write_record(model, record)
        _prove(plan, networks, store, history.epochs[history.best - 1], model)
        curves.write_text(curves_svg(history, _title(plan)), encoding="utf-8")
        write_json(
            epochs,
            {
                "settings": plan.settings,
                "best_epoch": history.best,
                "epochs": [asdict(epoch) for epoch in history.epochs],
            },
        )


def _title(plan: Plan) -> str:
    return (
        f"{plan.request.out.stem}: {plan.architecture.name}, {len(plan.classes)} classes, "
        f"{len(plan.parts.training)} pictures train, {len(plan.parts.validation)} choose the epoch"
    )


def _save(classifier: "keras.Model", path: Path) -> None:
    for layer in classifier.layers:  # whoever loads it decides anew what is frozen
        layer.trainable = True
    keras = import_keras()
    never_compiled = keras.Model(classifier.inputs[0], classifier.outputs[0], name=classifier.name)
    never_compiled.save(path)


def _prove(plan: Plan, networks: Networks, store: "FeatureStore", best: Epoch, path: Path) -> None:
    """Prove that the file, record and all, is the network of the best epoch.

    Its weights must be those of the trained network, bit by bit, and its answers on a batch of pictures the
    same. All validation pictures together must give what the history says: for frozen convolutions their
    features are at hand, and only the head is computed again.
    """
    keras = import_keras()
    saved = keras.saving.load_model(path, compile=False)
    _require_same(plan, networks.classifier, saved)
    if plan.request.trainable_blocks:
        _require_accuracy(plan, saved, validation_pictures(plan), best)
    else:
        features = saved.get_layer(networks.convolutions.layers[-1].name).output
        head = keras.Model(features, saved.outputs[0])
        _require_accuracy(plan, head, validation_features(plan, store), best)


def _require_same(plan: Plan, trained: "keras.Model", saved: "keras.Model") -> None:
    views = [(picture, 0) for picture in plan.parts.validation.pictures[:BATCH]]
    images = inputs_of(views, plan.preprocessing, plan.request.seed)
    wanted, found = (np.asarray(model(images, training=False)) for model in (trained, saved))
    difference = float(np.abs(wanted - found).max())
    if fingerprint_of(saved) != fingerprint_of(trained) or not difference <= _LARGEST_DIFFERENCE:
        raise ProofError(
            f"{plan.request.out}: the saved network is not the trained one; its answers differ by up to "
            f"{difference:.2g}, and at most {_LARGEST_DIFFERENCE:g} is wanted. Train again."
        )


def _require_accuracy(plan: Plan, network: "keras.Model", validation: Examples, best: Epoch) -> None:
    loss, accuracy = evaluated(network, validation, plan.request.batch)
    bound = _LOSS_TOLERANCE * max(best.validation_loss, _SMALLEST_LOSS)
    one_picture = 1.5 / len(validation.labels)  # two classes that are equally probable may change places
    if abs(loss - best.validation_loss) > bound or abs(accuracy - best.validation_accuracy) > one_picture:
        raise ProofError(
            f"{plan.request.out}: the saved network does not give what its best epoch gave on the validation "
            f"pictures: loss {loss:.4g} for {best.validation_loss:.4g}, accuracy {100 * accuracy:.1f} % for "
            f"{100 * best.validation_accuracy:.1f} %. Train again."
        )
