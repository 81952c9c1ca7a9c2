"""`edgepress train`."""

import argparse
import os
from pathlib import Path

from edgepress.api import cache_folder
from edgepress.cli.command import Command, Outcome
from edgepress.cli.values import choice, count, number, positive, seed, whole
from edgepress.progress import Progress
from train.pooling import Pooling


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("data", metavar="DATA", help="image folder (class/*.jpg), .npz with labels, or digits")
    add("--out", type=Path, required=True, metavar="FILE", help="the classifier: a name ending in .keras")
    add(
        "--model",
        default="vgg16",
        metavar="MODEL",
        help="whose convolutions: vgg16 (default) or vgg16-digits",
    )
    add(
        "--weights",
        metavar="imagenet|random|FILE",
        help="of the convolutions (default: imagenet, or vgg16-digits' own); FILE: .keras, or .h5 as of "
        "keras.applications",
    )
    add(
        "--trainable-blocks",
        type=whole,
        default=0,
        metavar="N",
        help="last blocks of convolutions that a second phase trains with the head (default: 0, all frozen)",
    )
    add(
        "--pooling",
        type=choice("pooling", Pooling),
        default=Pooling.AVERAGE,
        metavar="average|max|flatten",
        help="over the last feature map (default: average)",
    )
    add("--hidden", type=whole, default=256, metavar="N", help="width of a new layer (default: 256; 0: none)")
    add("--dropout", type=number, default=0.5, metavar="SHARE", help="of its outputs (default: 0.5)")
    add("--epochs", type=count, default=30, metavar="N", help="at most, of each phase (default: 30)")
    add(
        "--patience",
        type=whole,
        default=5,
        metavar="N",
        help="stop after N epochs without a lower validation loss (default: 5; 0: never)",
    )
    add("--batch", type=count, default=32, metavar="N", help="pictures a step (default: 32)")
    add(
        "--learning-rate",
        type=positive,
        metavar="RATE",
        help="of Adam (default: 0.001); a tenth of it in the second phase",
    )
    add(
        "--validation",
        type=number,
        default=0.2,
        metavar="SHARE",
        help="of the pictures: they choose the epoch and do not train (default: 0.2)",
    )
    add(
        "--augment",
        type=whole,
        default=0,
        metavar="N",
        help="random views of each training picture: mirrored, moved, brighter (default: 0)",
    )
    add("--labels", type=Path, metavar="FILE", help="class names, one a line, in the order of the outputs")
    add("--seed", type=seed, default=0, metavar="N", help="of split, weights, order, views (default: 0)")


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    from train.network import Head
    from train.plan import TrainRequest
    from train.stage import train_model

    request = TrainRequest(
        data=arguments.data,
        out=arguments.out,
        cache=cache_folder(os.environ),
        model=arguments.model,
        weights=arguments.weights,
        head=Head(arguments.pooling, arguments.hidden, arguments.dropout),
        trainable_blocks=arguments.trainable_blocks,
        epochs=arguments.epochs,
        patience=arguments.patience,
        batch=arguments.batch,
        learning_rate=arguments.learning_rate,
        validation=arguments.validation,
        augment=arguments.augment,
        labels=arguments.labels,
        seed=arguments.seed,
    )
    record = train_model(request, progress)
    accuracy = f"{100 * record.validation_accuracy:.1f} %"
    return Outcome(
        (
            f"{request.out}: {len(record.labels)} classes, {accuracy} of {record.validation_pictures} "
            f"validation pictures (epoch {record.best_epoch})",
        ),
        {
            "model": str(request.out),
            "labels": list(record.labels),
            "best_epoch": record.best_epoch,
            "validation_accuracy": record.validation_accuracy,
            "validation_pictures": record.validation_pictures,
            "trained_on": len(record.trained_on),
        },
    )


COMMAND = Command(
    name="train",
    purpose="train a classifier on your pictures, on VGG16's convolutions",
    examples=(
        "edgepress train photos --out out/photos.keras",
        "edgepress train photos --out out/photos.keras --augment 4 --trainable-blocks 1 --epochs 60",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
