"""The accuracy budget on real networks, one layer of which cannot be quantized."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgepress.artifact import Precision
from edgepress.cli.main import main
from edgepress.errors import InputError, ProofError
from edgepress.inspection.inspection_onnx import inspect_onnx
from edgepress.manifest import Manifest
from optimize.accuracy.budget_report import Arithmetic, Budget, BudgetReport
from optimize.accuracy.budget_stage import BudgetRequest
from optimize.accuracy.cost import accuracy_cost
from optimize.accuracy.promise import require_layers
from optimize.recipe import recipe_named
from optimize.stage import OptimizeRequest, optimize_folder

AVX2, TENSORRT = "onnx_static_wi7_au8", "tensorrt_static_wi8_ai8"
MIXED = "tensorrt-static_wi8_ai8-mixed"


def request_for(
    folder: Path, data: Path, points: float, *recipes: str, strict: bool = False, images: int = 500
) -> OptimizeRequest:
    budget = BudgetRequest(Budget(points, strict), images)
    return OptimizeRequest(folder, "linux-x64-avx2", recipes or (TENSORRT,), str(data), 20, 0, budget=budget)


def optimized(*arguments: object, **more: int) -> tuple[Manifest, BudgetReport]:
    request = request_for(*arguments, **more)  # type: ignore[arg-type]
    return optimize_folder(request), BudgetReport.load(request.folder)


@pytest.mark.parametrize("recipe", [TENSORRT, AVX2])
def test_budget_leaves_exactly_the_spoilt_layer_in_float(
    spoilt_folder: Path, many: Path, recipe: str
) -> None:
    manifest, report = optimized(spoilt_folder, many, 5.0, recipe)
    (outcome,) = report.outcomes
    assert outcome.float_layers == ("conv2",)
    assert outcome.ladder.tries[0].cost.drop_points > 20
    assert not outcome.ladder.tries[0].fits
    artifact = manifest.get(f"{recipe.replace('_', '-', 1)}-mixed")
    assert (artifact.recipe, artifact.precision) == (recipe, Precision.MIXED)
    assert artifact.provenance["float_layers"] == ["conv2"]
    assert artifact.provenance["budget"]["ladder"]["tries"][0]["fits"] is False
    found = {layer.name: layer.computed for layer in inspect_onnx(manifest.verify(artifact)).layers}
    assert found == {"conv1": Precision.INT8, "conv2": Precision.FP32, "dense": Precision.INT8}
    assert manifest.find(recipe.replace("_", "-", 1)) is None
    page = (spoilt_folder / "budget.md").read_text()
    assert "| 1 | everything | 3 of 3 |" in page
    assert "rejected" in page
    assert "**chosen**" in page


def test_budget_keeps_the_full_version_that_is_within(folder: Path, many: Path) -> None:
    manifest, report = optimized(folder, many, 5.0, TENSORRT, AVX2)
    assert [outcome.float_layers for outcome in report.outcomes] == [(), ()]
    assert [len(outcome.ladder.tries) for outcome in report.outcomes] == [1, 1]
    assert manifest.get("tensorrt-static_wi8_ai8").precision is Precision.INT8
    assert manifest.find(MIXED) is None
    assert "budget" in manifest.get("tensorrt-static_wi8_ai8").provenance
    assert report.outcomes[0].images == 100  # less those that calibrated


def test_budget_emulates_an_instruction_set_that_is_not_here(
    folder: Path, many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgepress.isa import Isa

    monkeypatch.setattr("optimize.accuracy.budget.host_isa", lambda: Isa.X86_AVX2)
    _, report = optimized(folder, many, 5.0, AVX2, images=5)
    assert report.outcomes[0].arithmetic is Arithmetic.KERNELS
    monkeypatch.setattr("optimize.accuracy.budget.host_isa", lambda: Isa.X86_VNNI)
    _, report = optimized(folder, many, 5.0, AVX2, images=5)
    assert report.outcomes[0].arithmetic is Arithmetic.EMULATED


def test_budget_exchanges_the_full_and_the_mixed_version(spoilt_folder: Path, many: Path) -> None:
    plain = replace(request_for(spoilt_folder, many, 5.0), budget=None)
    assert optimize_folder(plain).find("tensorrt-static_wi8_ai8") is not None
    manifest, _ = optimized(spoilt_folder, many, 5.0)
    assert [artifact.id for artifact in manifest.artifacts] == ["onnx-fp32", MIXED]
    assert not (spoilt_folder / "tensorrt-static_wi8_ai8.onnx").exists()
    manifest, _ = optimized(spoilt_folder, many, 100.0)
    assert [artifact.id for artifact in manifest.artifacts] == ["onnx-fp32", "tensorrt-static_wi8_ai8"]
    assert not (spoilt_folder / f"{MIXED}.onnx").exists()
    assert Manifest.load(spoilt_folder) == manifest


def test_budget_builds_engines_of_the_mixed_version(spoilt_folder: Path, many: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    manifest, _ = optimized(spoilt_folder, many, 5.0, "engine_static_wi8_ai8")
    engine = manifest.get("engine-sm86-static_wi8_ai8-mixed")
    assert (engine.parent, engine.precision) == (MIXED, Precision.MIXED)


def test_budget_that_is_settled_runs_nothing_again(
    spoilt_folder: Path, many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = optimized(spoilt_folder, many, 5.0)
    before = {a.path: (spoilt_folder / a.path).stat().st_mtime_ns for a in first.artifacts}

    def refuse(*arguments: object) -> None:
        raise AssertionError("searched again")

    monkeypatch.setattr("optimize.accuracy.budget_stage.Judge.settle", refuse)
    second, _ = optimized(spoilt_folder, many, 5.0)
    assert second == first
    assert {a.path: (spoilt_folder / a.path).stat().st_mtime_ns for a in second.artifacts} == before
    with pytest.raises(AssertionError, match="searched again"):
        optimized(spoilt_folder, many, 6.0)


def test_budget_that_no_mix_fits_fails_the_gate_and_makes_the_rest(
    spoilt_folder: Path, many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poor(*arguments: object) -> object:
        return replace(accuracy_cost(*arguments), lost=90, won=0)  # type: ignore[arg-type]

    monkeypatch.setattr("optimize.accuracy.budget.accuracy_cost", poor)
    message = r"changed decisions \+90\.00 points .*NOT within --max-drop 5\. Allow more.*budget\.md has"
    with pytest.raises(ProofError, match=message):
        optimize_folder(request_for(spoilt_folder, many, 5.0, TENSORRT, "onnx_wf16_af16"))
    assert [a.id for a in Manifest.load(spoilt_folder).artifacts] == ["onnx-fp32", "onnx-wf16_af16"]
    assert BudgetReport.load(spoilt_folder).outcomes[0].ladder.chosen is None
    assert not list(spoilt_folder.glob(".scratch*"))


def test_strict_budget_names_the_pictures_that_it_needs(folder: Path, many: Path) -> None:
    message = r"--strict with --max-drop 0\.5 takes at least 539 \(if no answer changes\), got 100"
    with pytest.raises(ProofError, match=message):
        optimize_folder(request_for(folder, many, 0.5, strict=True))
    assert len(BudgetReport.load(folder).outcomes[0].ladder.tries) == 1
    manifest, report = optimized(folder, many, 12.0, strict=True)
    (outcome,) = report.outcomes
    assert outcome.nearest.cost.bound_points <= 12
    assert manifest.find("tensorrt-static_wi8_ai8") is not None


def test_budget_refuses_recipes_that_it_cannot_judge(folder: Path, many: Path) -> None:
    with pytest.raises(
        InputError, match="--max-drop judges INT8 recipes for ONNX and TFLite, and none is asked for"
    ):
        optimize_folder(request_for(folder, many, 1.0, "onnx_wf16_af16"))


def test_require_layers_is_not_fooled(spoilt_folder: Path, many: Path) -> None:
    manifest, _ = optimized(spoilt_folder, many, 5.0)
    inspection = inspect_onnx(manifest.path_of(manifest.get(MIXED)))
    recipe = recipe_named(TENSORRT)
    require_layers(recipe, inspection, frozenset({"conv1", "dense"}))
    with pytest.raises(ProofError, match=r"wanted 3 layers in int8, got 2 of them and 0 others. Wrong: con"):
        require_layers(recipe, inspection, frozenset({"conv1", "conv2", "dense"}))
    with pytest.raises(ProofError, match=r"wanted 1 layers in int8, got 1 of them and 1 others. Wrong: den"):
        require_layers(recipe, inspection, frozenset({"conv1"}))


def test_command_gates_with_exit_code_1(folder: Path, many: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["optimize", str(folder), "--recipe", TENSORRT, "--data", str(many), "--samples", "20"]
    assert main([*words, "--max-drop", "0.5", "--strict", "--json"]) == 1
    assert "not enough images" in capsys.readouterr().err
    assert main([*words, "--max-drop", "5"]) == 0
    told = capsys.readouterr().out
    assert "all 3 layers in INT8" in told
    assert "95 % bound" in told
    assert "within --max-drop 5" in told
    assert main([*words, "--strict"]) == 2
    assert "--strict and --budget-data go with --max-drop" in capsys.readouterr().err


def test_budget_of_a_real_network_leaves_its_spoilt_layer_in_float(
    digits_folder: Path,
    copy_of: Callable[[Path], Path],
    spoil: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = copy_of(digits_folder)
    spoil(folder, *weights_before(folder, "block3_conv2"), channel=5)
    budget = BudgetRequest(Budget(0.5), images=200)
    with caplog.at_level(logging.INFO):
        manifest = optimize_folder(OptimizeRequest(folder, recipes=(TENSORRT,), samples=16, budget=budget))
    (outcome,) = BudgetReport.load(folder).outcomes
    assert outcome.float_layers == ("block3_conv2",)
    assert outcome.labelled
    assert outcome.ladder.tries[0].cost.drop_points > 1
    assert outcome.nearest.cost.top1 is not None
    artifact = manifest.get(MIXED)
    assert artifact.provenance["float_layers"] == ["block3_conv2"]
    assert artifact.shares is not None
    assert artifact.shares.macs["int8"] == pytest.approx(outcome.nearest.macs_share)
    json.dumps(artifact.provenance)
    assert any("16 of 16 layers in INT8" in record.getMessage() for record in caplog.records)


def weights_before(folder: Path, layer: str) -> tuple[tuple[str, str], str]:
    """Names of the weight and bias of the convolution before a layer, and of the layer's own weight."""
    import onnx

    model = onnx.load(Manifest.load(folder).path_of(Manifest.load(folder).get("onnx-fp32")))
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    place = next(i for i, node in enumerate(convolutions) if node.name == layer)
    before = convolutions[place - 1]
    return (before.input[1], before.input[2]), convolutions[place].input[1]
