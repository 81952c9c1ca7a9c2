"""`edgepress optimize`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgepress.cli.command import Command, Outcome
from edgepress.cli.tables import artifact_outcome
from edgepress.cli.values import amount, count, known_target, seed
from edgepress.errors import InputError, unknown_choice
from edgepress.progress import Progress
from edgepress.target import HOST

if TYPE_CHECKING:
    from optimize.accuracy.budget_report import Budget
    from optimize.accuracy.budget_stage import BudgetRequest
    from optimize.improvement import Improvement

_DEFAULT_IMPROVEMENT, _NO_IMPROVEMENT = "bias-correction", "none"


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


def _known_improvement(text: str) -> str:
    """The name of an improvement that exists, or "none"."""
    from optimize.improvement import Improvement

    known = [*(improvement.value for improvement in Improvement), _NO_IMPROVEMENT]
    if text not in known:
        raise unknown_choice("improvement", text, known)
    return text


def _improvements(names: Sequence[str]) -> "frozenset[Improvement]":
    from optimize.improvement import Improvement

    if _NO_IMPROVEMENT in names:
        if len(names) > 1:
            raise InputError(
                f"--improve {' '.join(names)}: {_NO_IMPROVEMENT} goes with nothing else. Leave one out."
            )
        return frozenset()
    return frozenset(map(Improvement, names))


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
        "percentile (all but 1 in 10,000), entropy (least divergence) or mse (least squared error) "
        "(default: minmax)",
    )
    add(
        "--improve",
        type=_known_improvement,
        nargs="+",
        default=[_DEFAULT_IMPROVEMENT],
        metavar="NAME",
        help="done to the FP32 network before it is quantized: bias-correction, equalization, or none "
        f"(default: {_DEFAULT_IMPROVEMENT})",
    )
    add("--seed", type=seed, default=0, metavar="N", help="of the drawing (default: 0)")
    add(
        "--max-drop",
        type=amount,
        metavar="POINTS",
        help="top-1 that INT8 may lose against FP32: else layers go back to float until it does not",
    )
    add("--strict", action="store_true", help="hold --max-drop against the 95 %% bound of the drop")
    add(
        "--budget-images",
        type=count,
        default=500,
        metavar="N",
        help="pictures that --max-drop is judged on (default: 500)",
    )
    add("--budget-data", metavar="DATA", help="where they are from (default: what is left of --data)")


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
        improvements=_improvements(arguments.improve),
        budget=_budget(arguments),
    )
    outcome = artifact_outcome(optimize_folder(request, progress))
    return outcome if request.budget is None else _with_budget(outcome, request.folder, request.budget.budget)


def _budget(arguments: argparse.Namespace) -> "BudgetRequest | None":
    from optimize.accuracy.budget_report import Budget
    from optimize.accuracy.budget_stage import BudgetRequest

    if arguments.max_drop is None:
        if arguments.strict or arguments.budget_data is not None:
            raise InputError(
                "--strict and --budget-data go with --max-drop POINTS. Add that, or leave these out."
            )
        return None
    budget = Budget(arguments.max_drop, arguments.strict)
    return BudgetRequest(budget, arguments.budget_images, arguments.budget_data, arguments.seed)


def _with_budget(outcome: Outcome, folder: Path, budget: "Budget") -> Outcome:
    """Also what --max-drop chose, and why."""
    from optimize.accuracy.budget_report import BUDGET, BUDGET_PAGE, BudgetReport

    found = [judged for judged in BudgetReport.load(folder).outcomes if judged.budget == budget]
    lines = (*outcome.lines, "", *(judged.sentence for judged in found), str(folder / BUDGET_PAGE))
    return Outcome(lines, {**outcome.value, "budget": str(folder / BUDGET)})


COMMAND = Command(
    name="optimize",
    purpose="make FP16 and INT8 versions and TensorRT-RTX engines of what was exported",
    examples=(
        "edgepress optimize out/vgg16-digits",
        "edgepress optimize out/vgg16 --data photos --recipe tensorrt_static_wi8_ai8",
        "edgepress optimize out/vgg16 --data photos --max-drop 0.5",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
