"""`edgepress optimize`."""

import argparse
from pathlib import Path

from edgepress.cli.command import Command, Outcome
from edgepress.cli.tables import artifact_outcome
from edgepress.cli.values import count, known_target, seed
from edgepress.errors import unknown_choice
from edgepress.progress import Progress
from edgepress.target import HOST


def _known_recipe(text: str) -> str:
    """The name of a recipe that exists."""
    from optimize.recipe import recipe_named

    return recipe_named(text).name


def _known_method(text: str) -> str:
    """The name of a calibration method that exists."""
    from optimize.calibration import CalibrationMethod

    known = [method.value for method in CalibrationMethod]
    if text not in known:
        raise unknown_choice("calibration method", text, known)
    return text


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="folder with a manifest.json")
    add(
        "--target",
        type=known_target,
        default=HOST,
        metavar="NAME",
        help="device to press for; its instruction set picks the INT8 format (default: host)",
    )
    add(
        "--recipe",
        dest="recipes",
        type=_known_recipe,
        nargs="+",
        metavar="NAME",
        help="only these recipes (default: all that suit the target)",
    )
    add("--data", metavar="DATA", help="calibration pictures: digits, an image folder, or an .npz")
    add("--samples", type=count, default=64, metavar="N", help="calibration pictures (default: 64)")
    add(
        "--calibration",
        type=_known_method,
        default="minmax",
        metavar="METHOD",
        help="an activation's INT8 range: minmax (all values), moving-average (the average picture's), "
        "percentile (all but 1 in 10,000), entropy (least divergence) or mse (least squared error); "
        "default: minmax",
    )
    add("--seed", type=seed, default=0, metavar="N", help="of the drawing (default: 0)")


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    from optimize.calibration import CalibrationMethod
    from optimize.stage import OptimizeRequest, optimize_folder

    request = OptimizeRequest(
        folder=arguments.folder,
        target=arguments.target,
        recipes=tuple(arguments.recipes) if arguments.recipes else None,
        data=arguments.data,
        samples=arguments.samples,
        seed=arguments.seed,
        calibration=CalibrationMethod(arguments.calibration),
    )
    return artifact_outcome(optimize_folder(request, progress))


COMMAND = Command(
    name="optimize",
    purpose="make FP16 and INT8 versions and TensorRT-RTX engines of what was exported",
    examples=(
        "edgepress optimize out/vgg16-digits",
        "edgepress optimize out/vgg16 --data photos --recipe tensorrt_static_wi8_ai8",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
