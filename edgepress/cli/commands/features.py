"""`edgepress features`."""

import argparse
import os
from pathlib import Path

from edgepress.api import cache_folder
from edgepress.cli.command import Command, Outcome
from edgepress.cli.values import choice, seed
from edgepress.preprocessing import PreprocessMode
from edgepress.progress import Progress
from train.pooling import PositionPooling


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help="vgg16, vgg16-digits, or a .keras file")
    add("data", metavar="DATA", help="pictures: digits, an image folder (class/*.jpg), or an .npz")
    add("--out", type=Path, required=True, metavar="FILE", help="a name ending in .npz")
    add("--layer", metavar="NAME", help="default: the last one before the classifier's own")
    add(
        "--pooling",
        type=choice("pooling", PositionPooling),
        default=PositionPooling.NONE,
        metavar="none|average|max",
        help="over the positions of a convolutional layer (default: none)",
    )
    add("--weights", metavar="imagenet|random|FILE", help="weights of vgg16 (default: imagenet)")
    add(
        "--preprocess",
        type=choice("preprocessing", PreprocessMode),
        metavar="caffe|tf|torch|none",
        help="what the model was trained on; needed for a .keras file that does not say it itself",
    )
    add("--seed", type=seed, default=0, metavar="N", help="of random weights (default: 0)")


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    from train.features import FeaturesRequest, write_features

    request = FeaturesRequest(
        model=arguments.model,
        data=arguments.data,
        out=arguments.out,
        cache=cache_folder(os.environ),
        layer=arguments.layer,
        pooling=arguments.pooling,
        weights=arguments.weights,
        preprocess=arguments.preprocess,
        seed=arguments.seed,
    )
    found = write_features(request, progress)
    shape = "×".join(str(size) for size in found.shape)
    return Outcome(
        (f"{found.path}: {shape} float32 of layer {found.layer}",),
        {"path": str(found.path), "layer": found.layer, "shape": list(found.shape)},
    )


COMMAND = Command(
    name="features",
    purpose="write what a layer makes of each picture, as an .npz",
    examples=(
        "edgepress features vgg16 photos --out features.npz",
        "edgepress features out/photos.keras photos --layer block5_conv3 --pooling average --out f.npz",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
