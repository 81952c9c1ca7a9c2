"""Accuracy budget: which layers of a recipe stay in INT8 so that top-1 does not drop by more than allowed.

The drop is measured on the artifacts themselves, each made and run as it will be: ONNX Runtime's INT8 kernels
for its own recipes, Q/DQ in float for TensorRT's and for a target with another instruction set than this
machine's, LiteRT for TFLite. Sensitivities only say in which order layers are tried.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from edgepress.artifact import Artifact, Format, Precision
from edgepress.dataset import Dataset
from edgepress.errors import InputError
from edgepress.files import scratch_folder, sha256_of_json
from edgepress.inspection.inspection_onnx import inspect_onnx
from edgepress.inspection.inspection_tflite import inspect_tflite
from edgepress.inspection.layer import Layer
from edgepress.inspection.onnx_graph import load_graph
from edgepress.isa import host_isa
from edgepress.manifest import Manifest
from edgepress.progress import Progress
from edgepress.record import to_json
from edgepress.runners import litert_runner, onnxruntime_runner
from edgepress.runners.runner import Runner
from optimize.accuracy.budget_report import Arithmetic, Budget, BudgetOutcome
from optimize.accuracy.cost import AccuracyCost, Logits, accuracy_cost, drop_bound
from optimize.accuracy.fake_quantization import scheme_of
from optimize.accuracy.pictures import Pictures
from optimize.accuracy.search import MOST_TRIES, Candidate, Layers, ranking, search_layers
from optimize.accuracy.sensitivity_stage import sensitivities
from optimize.layer_subset import convolutions_of, name_nodes, weighted_layers
from optimize.recipe import Part, Recipe
from optimize.step import Calibrated, Step, apply, versions
from optimize.tflite_layer_subset import layers_of_tflite

_LOGGER = logging.getLogger(__name__)
_RANKED_ON = 32  # pictures: they only order the layers
_RUNNERS: Mapping[Arithmetic, Callable[[Path, int], Runner]] = {
    Arithmetic.KERNELS: onnxruntime_runner.on_cpu,
    Arithmetic.EMULATED: onnxruntime_runner.emulation_on_cpu,
    Arithmetic.LITERT: litert_runner.on_cpu,
}


def is_budgeted(recipe: Recipe) -> bool:
    """Whether a recipe quantizes single layers of a file, so that some of them can be left out."""
    in_layers = recipe.format in {Format.ONNX, Format.TFLITE}
    return in_layers and recipe.weights.precision is Precision.INT8


@dataclass
class Judge:
    """Measures sets of layers of one FP32 artifact against it. What FP32 gives is computed once.

    Attributes:
        manifest: Has the artifact.
        parent: The FP32 artifact, ONNX or TFLite.
        budget: What is allowed.
        pictures: What is judged on; none of them calibrated.
        calibrated: Gives the activation ranges of `parent`; called when something is measured.
        progress: Told about pictures.
    """

    manifest: Manifest
    parent: Artifact
    budget: Budget
    pictures: Pictures
    calibrated: Callable[[], Calibrated]
    progress: Progress

    def settle(self, step: Step, key: str) -> BudgetOutcome:
        """Search the layers of a recipe that stay in INT8.

        Args:
            step: Of the recipe, with all its layers.
            key: See `key_of`.

        Raises:
            InputError: A package is missing, or the model cannot be quantized.
        """
        images = len(self.pictures.dataset)
        candidates = _candidates(step.recipe, self._path)
        # Where even no changed answer would show it, all that is left to do is to say so.
        can_be_shown = not self.budget.strict or self._allows(100 * drop_bound(0, 0, images))
        arithmetic = self._arithmetic(step)
        ladder = search_layers(
            candidates,
            lambda: self._ranking(step, candidates),
            lambda kept: self._cost(step, kept, arithmetic, len(candidates)),
            self._fits,
            MOST_TRIES if can_be_shown else 1,
        )
        outcome = BudgetOutcome(
            step.recipe.name,
            step.recipe.artifact_id,
            key,
            self.budget,
            self.pictures.data,
            images,
            self.pictures.labels is not None,
            self.pictures.note,
            arithmetic,
            tuple(candidate.name for candidate in candidates),
            ladder,
        )
        _LOGGER.info("%s", outcome.sentence)
        return outcome

    @property
    def _path(self) -> Path:
        return self.manifest.path_of(self.parent)

    def _allows(self, points: float) -> bool:
        return points <= self.budget.max_drop_points

    def _fits(self, cost: AccuracyCost) -> bool:
        return self._allows(cost.bound_points if self.budget.strict else cost.drop_points)

    def _arithmetic(self, step: Step) -> Arithmetic:
        if step.recipe.format is Format.TFLITE:
            return Arithmetic.LITERT
        own = step.recipe.family == "onnx" and step.target.isa is host_isa()
        return Arithmetic.KERNELS if own else Arithmetic.EMULATED

    @cached_property
    def _reference(self) -> Logits:
        own = Arithmetic.LITERT if self.parent.format is Format.TFLITE else Arithmetic.KERNELS
        return self._logits(self._path, own, "FP32", self.pictures.dataset)

    def _cost(self, step: Step, kept: Layers, arithmetic: Arithmetic, count: int) -> AccuracyCost:
        reference = self._reference
        layers = None if len(kept) == count else kept
        what = f"{len(kept)} of {count} layers in INT8"
        logits = self._logits_of(step.with_layers(layers), arithmetic, what, self.pictures.dataset)
        cost = accuracy_cost(reference, logits, self.pictures.labels)
        _LOGGER.info(
            "%s: %d of %d layers in INT8: %+.2f points (95 %% bound %+.2f)",
            step.recipe.name,
            len(kept),
            count,
            cost.drop_points,
            cost.bound_points,
        )
        return cost

    def _logits_of(self, step: Step, arithmetic: Arithmetic, what: str, dataset: Dataset) -> Logits:
        """(N, classes) of what a step makes; nothing of it stays."""
        with scratch_folder(self.manifest.folder) as scratch:
            path = scratch / f"candidate{self._path.suffix}"
            apply(step, self._path, path, self.calibrated())
            return self._logits(path, arithmetic, what, dataset)

    def _logits(self, path: Path, arithmetic: Arithmetic, what: str, dataset: Dataset) -> Logits:
        """(N, classes), one picture at a time."""
        model, interface = self.manifest.model, self.parent.interface
        runner = _RUNNERS[arithmetic](path, 0)
        rows = []
        with runner:
            for done, picture in enumerate(dataset.inputs(model.preprocessing, interface), 1):
                rows.append(runner.infer(interface.filled(picture))[:1])
                self.progress(f"evaluate {what}", done, len(dataset))
        return interface.logits(np.concatenate(rows), model.activation)

    def _ranking(self, step: Step, candidates: list[Candidate]) -> list[str]:
        in_tflite = step.recipe.format is Format.TFLITE
        noise = (self._noise_in_litert if in_tflite else self._noise_in_onnx)(step, candidates)
        return ranking([Candidate(c.name, c.macs, c.weight_bytes, noise[c.name]) for c in candidates])

    @property
    def _few(self) -> Dataset:
        dataset = self.pictures.dataset
        return dataset.take(range(min(_RANKED_ON, len(dataset))))

    def _noise_in_onnx(self, step: Step, candidates: list[Candidate]) -> dict[str, float]:
        """The noise of each layer alone, rounded as the recipe does it."""
        del candidates  # it measures all layers in one pass
        few = Pictures(self.pictures.data, self._few, None, None)
        calibrated = self.calibrated()
        subject = (self.parent, calibrated.source, calibrated.ranges)
        found = sensitivities(self.manifest, *subject, scheme_of(step.recipe), few, self.progress)
        return {layer.name: layer.noise for layer in found}

    def _noise_in_litert(self, step: Step, candidates: list[Candidate]) -> dict[str, float]:
        """The same in LiteRT itself: a file for each layer, with input and output in float.

        What rounding these costs would be in each file, and hide what the layers cost.
        """
        step = replace(step, recipe=replace(step.recipe, part=Part.IO))
        few = self._few
        reference = self._reference[: len(few)]
        noise = {}
        for name in (candidate.name for candidate in candidates):
            alone = step.with_layers(frozenset({name}))
            logits = self._logits_of(alone, Arithmetic.LITERT, f"{name} alone in INT8", few)
            noise[name] = accuracy_cost(reference, logits, None).noise
        return noise


def _candidates(recipe: Recipe, path: Path) -> list[Candidate]:
    """The layers that a recipe quantizes, in the order of the graph; how noisy they are is not known yet."""
    in_tflite = recipe.format is Format.TFLITE
    names = layers_of_tflite(path) if in_tflite else _layers_of_onnx(recipe, path)
    if not names:
        raise InputError(f"{recipe.name}: {path} has no layer to quantize. Leave this recipe out.")
    layers = (inspect_tflite if in_tflite else inspect_onnx)(path).layers
    return [_candidate(name, [layer for layer in layers if layer.name == name]) for name in names]


def _candidate(name: str, runs: Sequence[Layer]) -> Candidate:
    """A layer that runs several times has one name in TFLite."""
    return Candidate(name, sum(run.macs for run in runs), sum(run.weight_bytes for run in runs), 0.0)


def _layers_of_onnx(recipe: Recipe, path: Path) -> tuple[str, ...]:
    graph = load_graph(path).graph
    name_nodes(graph)
    names = tuple(node.name for node in weighted_layers(graph))
    if recipe.part is not Part.DENSE:
        return names
    convolutions = convolutions_of(path)
    return tuple(name for name in names if name in convolutions)


def key_of(step: Step, parent: Artifact, step_key: str, budget: Budget, pictures: Pictures) -> str:
    """Hash of everything that an outcome depends on.

    Args:
        step: Of the recipe, with all its layers.
        parent: What it starts from.
        step_key: See `Step.key`.
        budget: What is allowed.
        pictures: What is judged on.
    """
    return sha256_of_json(
        {
            "step": step_key,
            "parent": parent.sha256,
            "target": [step.target.isa.value, host_isa().value],
            "budget": to_json(budget),
            "pictures": pictures.fingerprint,
            "versions": versions(step.recipe),
        }
    )


def with_layers(steps: Iterable[Step], outcomes: Iterable[BudgetOutcome]) -> tuple[Step, ...]:
    """The steps with the layers that were found, also those that start from their artifacts.

    A recipe that is not within the budget is left out, and so is what would start from it.
    """
    of_artifact = {outcome.artifact: outcome for outcome in outcomes}
    found = []
    for step in steps:
        outcome = of_artifact.get(step.recipe.artifact_id) or of_artifact.get(step.recipe.parent)
        if outcome is None:
            found.append(step)
        elif outcome.passed:
            found.append(step.with_layers(outcome.layers))
    return tuple(found)
