"""`edgepress export`."""

import argparse
import os
from pathlib import Path

from edgepress.api import cache_folder
from edgepress.artifact import Format
from edgepress.cli.command import Command, Outcome
from edgepress.cli.tables import artifact_outcome
from edgepress.cli.values import choice, count, seed
from edgepress.interface import Interface, Layout, Pixels, Scores
from edgepress.models.vgg16 import Style
from edgepress.preprocessing import PreprocessMode
from edgepress.progress import Progress

EXPORTED = (Format.SAVED_MODEL, Format.ONNX, Format.TFLITE)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help="vgg16, vgg16-digits, or a .keras file")
    add(
        "--weights",
        metavar="imagenet|random|FILE",
        help="weights of vgg16 (default: imagenet); FILE is a .weights.h5, .h5 or .keras file",
    )
    add(
        "--style",
        type=choice("style", Style),
        default=Style.FUNCTIONAL,
        metavar="sequential|functional",
        help="how vgg16 is built (default: functional)",
    )
    add(
        "--format",
        dest="formats",
        type=choice("format", EXPORTED),
        nargs="+",
        default=EXPORTED,
        metavar="FORMAT",
        help="saved_model, onnx, tflite (default: all three)",
    )
    add(
        "--preprocess",
        type=choice("preprocessing", PreprocessMode),
        metavar="caffe|tf|torch|none",
        help="what the model was trained on; needed for a .keras file that does not say it itself",
    )
    add("--labels", type=Path, metavar="FILE", help="class names, one a line, in the model's order")
    add("--data", metavar="DATA", help="image folder whose class folders name the classes")
    add(
        "--layout",
        type=choice("layout", Layout),
        default=Layout.NHWC,
        metavar="nhwc|nchw",
        help="order of the axes of the ONNX input (default: nhwc, as the other formats have it)",
    )
    add("--batch", type=count, metavar="N", help="pictures in an input (default: any number; TFLite: 1)")
    add(
        "--pixels",
        type=choice("pixels", Pixels),
        default=Pixels.PREPROCESSED,
        metavar="preprocessed|rgb",
        help="what the input holds; rgb: uint8 as decoded, with the preprocessing inside the files",
    )
    add(
        "--scores",
        type=choice("scores", Scores),
        default=Scores.LOGITS,
        metavar="logits|probabilities",
        help="what the output holds (default: logits)",
    )
    add("--opset", type=count, default=17, metavar="17…21", help="version of ONNX' operators (default: 17)")
    add("--seed", type=seed, default=0, metavar="N", help="of random weights (default: 0)")
    add("--out", metavar="DIR", help="folder of manifest.json and the artifacts (default: out/NAME)")


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    from export.stage import ExportRequest, export_model

    request = ExportRequest(
        model=arguments.model,
        out=Path(arguments.out) if arguments.out else Path("out") / Path(arguments.model).stem,
        weights=arguments.weights,
        style=arguments.style,
        formats=tuple(dict.fromkeys(arguments.formats)),
        preprocess=arguments.preprocess,
        labels=arguments.labels,
        data=arguments.data,
        seed=arguments.seed,
        cache=cache_folder(os.environ),
        interface=Interface(arguments.layout, arguments.pixels, arguments.scores, arguments.batch),
        opset=arguments.opset,
    )
    return artifact_outcome(export_model(request, progress))


COMMAND = Command(
    name="export",
    purpose="turn a Keras model into SavedModel, ONNX and TFLite",
    examples=(
        "edgepress export vgg16-digits",
        "edgepress export model.keras --preprocess torch --labels names.txt --out out/mine",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
