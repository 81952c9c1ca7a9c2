"""The loop: epochs with early stopping, resumable after each."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgepress.errors import InputError
from edgepress.models.keras_import import import_keras
from edgepress.progress import Progress
from train.checkpoint import Unfinished, assign, values_of
from train.history import Epoch, History, Phase

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)

_TASKS = {Phase.HEAD: "train", Phase.FINE_TUNING: "fine-tune"}
_SMALLEST = 1e-7  # as in Keras' own cross-entropy: the logarithm of 0 is not finite

Batch = Callable[[Sequence[int], int], NDArray[np.float32]]
"""(indices, epoch) → their inputs, one row each; the epoch, counted from 1, picks the views."""


@dataclass(frozen=True)
class Examples:
    """What a part of the data looks like to the loop.

    Attributes:
        labels: (N,) int64.
        batch: Gives inputs.
    """

    labels: NDArray[np.int64]
    batch: Batch


@dataclass(frozen=True)
class FitSettings:
    """How to train in one phase: Adam with a constant learning rate.

    Attributes:
        phase: Which.
        epochs: At most.
        patience: Epochs without a lower validation loss after which it stops; 0 for never.
        batch: Examples per step.
        learning_rate: Of Adam.
        seed: Of the order of the examples.
    """

    phase: Phase
    epochs: int
    patience: int
    batch: int
    learning_rate: float
    seed: int


def fit(
    model: "keras.Model",
    training: Examples,
    validation: Examples,
    settings: FitSettings,
    before: History,
    unfinished: Unfinished,
    progress: Progress,
) -> History:
    """Train `model` for one phase, and leave the weights of the best epoch so far in it.

    After each epoch the state is kept in `unfinished`; a training of the same key goes on from there, with
    the same outcome as without the interruption. The order of the examples depends on seed and epoch alone.

    Args:
        model: Gives probabilities.
        training: Examples to learn from.
        validation: Examples to choose the epoch by.
        settings: How.
        before: Epochs of the phase before, the best of which `model` comes from.
        unfinished: For the state between epochs; left there at the end.
        progress: Told "train" per step of the head, "fine-tune" per step of fine-tuning.

    Returns:
        What happened, `before` included.

    Raises:
        InputError: A loss is not finite. No state is kept: the same request would come to the same end.
    """
    keras = import_keras()
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    optimizer = keras.optimizers.Adam(settings.learning_rate)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    optimizer.build(model.trainable_variables)
    variables = [*model.variables, *optimizer.variables]
    history, best = before, values_of(model.variables)
    if (found := unfinished.of(settings.phase)) is not None:
        assign(variables, found.current)
        history, best = found.history, found.best
        logger.info("goes on after epoch %d, where it was interrupted", len(history.epochs))
    steps = -(-len(training.labels) // settings.batch)

    def told(step: int) -> None:
        done = history.count(settings.phase) * steps + step
        progress(_TASKS[settings.phase], done, settings.epochs * steps)

    while not history.is_over(settings.phase, settings.epochs, settings.patience):
        number = len(history.epochs) + 1
        loss, accuracy = _pass(model, training, settings, number, told)
        epoch = Epoch(settings.phase, loss, accuracy, *evaluated(model, validation, settings.batch))
        if not np.isfinite([epoch.loss, epoch.validation_loss]).all():
            unfinished.remove()
            raise _diverged(number, epoch, settings.learning_rate)
        history = history.with_epoch(epoch)
        if history.best == number:
            best = values_of(model.variables)
        unfinished.save(history, values_of(variables), best)
        _tell(number, number - history.count(settings.phase) + settings.epochs, epoch)
    progress(_TASKS[settings.phase], settings.epochs * steps, settings.epochs * steps)
    assign(model.variables, best)
    return history


def _pass(
    model: "keras.Model",
    examples: Examples,
    settings: FitSettings,
    epoch: int,
    told: Callable[[int], None],
) -> tuple[float, float]:
    """Train on every example once; gives mean loss and accuracy on the way. `told` gets the steps done."""
    order = np.random.default_rng([settings.seed, epoch]).permutation(len(examples.labels))
    starts = range(0, len(order), settings.batch)
    sums = np.zeros(2)
    told(0)
    for step, start in enumerate(starts, start=1):
        chosen = [int(i) for i in order[start : start + settings.batch]]
        model.reset_metrics()  # so that what comes back is of this batch alone, in every Keras
        found = model.train_on_batch(examples.batch(chosen, epoch), examples.labels[chosen])
        sums += np.asarray(found, np.float64) * len(chosen)
        told(step)
    loss, accuracy = sums / len(order)
    return float(loss), float(accuracy)


def evaluated(model: "keras.Model", examples: Examples, batch: int) -> tuple[float, float]:
    """Mean cross-entropy (nats) and accuracy in [0, 1] of the examples, as the model is."""
    losses, hits = [], []
    for start in range(0, len(examples.labels), batch):
        chosen = list(range(start, min(start + batch, len(examples.labels))))
        probabilities = np.asarray(model(examples.batch(chosen, 0), training=False), np.float64)
        labels = examples.labels[chosen]
        losses.append(-np.log(np.maximum(probabilities[np.arange(len(chosen)), labels], _SMALLEST)))
        hits.append(probabilities.argmax(axis=1) == labels)
    return float(np.concatenate(losses).mean()), float(np.concatenate(hits).mean())


def _diverged(number: int, epoch: Epoch, learning_rate: float) -> InputError:
    return InputError(
        f"The loss of epoch {number} is not finite (training {epoch.loss}, validation "
        f"{epoch.validation_loss}) with a learning rate of {learning_rate:g}. "
        "Give a smaller --learning-rate."
    )


def _tell(number: int, total: int, epoch: Epoch) -> None:
    logger.info(
        "epoch %d/%d (%s): loss %.3f, accuracy %.1f %%; validation %.3f, %.1f %%",
        number,
        total,
        epoch.phase.value,
        epoch.loss,
        100 * epoch.accuracy,
        epoch.validation_loss,
        100 * epoch.validation_accuracy,
    )
