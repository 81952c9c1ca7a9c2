"""The stage on a small model, and on vgg16-digits with every recipe."""

import importlib.metadata
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgepress.artifact import Format, Precision, Proof
from edgepress.errors import InputError, MissingRuntimeError, ProofError
from edgepress.files import sha256_of_file
from edgepress.manifest import Manifest
from edgepress.target import ComputeCapability, target_of
from optimize import step
from optimize.calibration import CALIBRATION, CalibrationMethod, CalibrationTable, Stability, calibrate
from optimize.calibration.table import Origin
from optimize.recipe import recipe_named
from optimize.stage import OptimizeRequest, optimize_folder

INT8, TENSORRT, FP16 = "onnx_static_wi7_au8", "tensorrt_static_wi8_ai8", "onnx_wf16_af16"
TARGET = "linux-x64-avx2"


def request_for(folder: Path, *recipes: str, data: Path | None = None, **changes: object) -> OptimizeRequest:
    made = OptimizeRequest(folder, TARGET, recipes or None, str(data) if data else None, 8, 0)
    return replace(made, **changes)  # type: ignore[arg-type]


def hashes(manifest: Manifest) -> dict[str, str]:
    return {artifact.id: artifact.sha256 for artifact in manifest.artifacts}


def test_optimize_folder_proves_and_records_each_artifact(folder: Path, npz: Path) -> None:
    states: list[tuple[str, int, int]] = []
    made = optimize_folder(
        request_for(folder, FP16, INT8, TENSORRT, data=npz), lambda *state: states.append(state)
    )
    assert Manifest.load(folder) == made
    precisions = {a.id: a.precision for a in made.artifacts}
    assert precisions == {
        "onnx-fp32": Precision.FP32,
        "onnx-wf16_af16": Precision.FP16,
        "onnx-static_wi7_au8": Precision.INT8,
        "tensorrt-static_wi8_ai8": Precision.INT8,
    }
    int8 = made.get("onnx-static_wi7_au8")
    assert (int8.parent, int8.recipe, int8.target) == ("onnx-fp32", INT8, TARGET)
    assert int8.shares is not None
    assert int8.shares.proof is Proof.INSPECTED
    table = CalibrationTable.load(folder)
    assert table is not None
    assert int8.provenance["calibration"]["fingerprint"] == table.fingerprint
    assert int8.provenance["calibration"]["pictures"] == list(table.sample.pictures)
    assert len(table.sample.pictures) == 8
    assert made.get("onnx-wf16_af16").provenance["largest_activation"] > 0
    assert states[:8] == [("calibrate onnx-fp32", i, 8) for i in range(1, 9)]
    assert [s[1:] for s in states if s[0] == "optimize"] == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_optimize_folder_is_reproducible_and_seed_changes_the_sample(
    folder: Path, npz: Path, copy_of: Callable[[Path], Path]
) -> None:
    other = shutil.copytree(folder, folder.with_name("other"))
    first = optimize_folder(request_for(folder, INT8, TENSORRT, data=npz))
    second = optimize_folder(request_for(other, INT8, TENSORRT, data=npz))
    assert hashes(first) == hashes(second)
    assert (folder / CALIBRATION).read_bytes() == (other / CALIBRATION).read_bytes()
    third = optimize_folder(request_for(other, INT8, data=npz, seed=1))
    pictures = [m.get("onnx-static_wi7_au8").provenance["calibration"]["pictures"] for m in (first, third)]
    assert pictures[0] != pictures[1]
    assert hashes(first)["onnx-static_wi7_au8"] != hashes(third)["onnx-static_wi7_au8"]


def test_optimize_folder_drops_what_was_made_from_a_former_parent(folder: Path, npz: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    optimize_folder(request_for(folder, "engine_static_wi8_ai8", data=npz))
    first = Manifest.load(folder).get("tensorrt-static_wi8_ai8")
    made = optimize_folder(request_for(folder, TENSORRT, data=npz, samples=1))
    assert made.get("tensorrt-static_wi8_ai8").sha256 != first.sha256
    assert [artifact.id for artifact in made.artifacts] == ["onnx-fp32", "tensorrt-static_wi8_ai8"]
    assert not list(folder.glob("*.plan"))


def test_fp16_is_made_anew_when_other_pictures_check_it_for_overflow(folder: Path, npz: Path) -> None:
    unchecked = optimize_folder(request_for(folder, "onnx_wf16_af16")).get("onnx-wf16_af16")
    checked = optimize_folder(request_for(folder, "onnx_wf16_af16", INT8, data=npz)).get("onnx-wf16_af16")
    assert unchecked.key != checked.key
    assert checked.provenance["largest_activation"] > 0


def test_optimize_folder_calibrates_once_for_the_same_pictures(
    folder: Path, npz: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimize_folder(request_for(folder, INT8, data=npz))

    def refuse(*arguments: object) -> dict[str, object]:
        raise AssertionError("calibrated again")

    monkeypatch.setattr(calibrate, "calibrate_onnx", refuse)
    optimize_folder(request_for(folder, TENSORRT, data=npz))
    for change in ({"samples": 9}, {"calibration": CalibrationMethod.MSE}):
        with pytest.raises(AssertionError, match="calibrated again"):
            optimize_folder(request_for(folder, TENSORRT, data=npz, **change))


def test_optimize_folder_makes_int8_anew_by_another_method(folder: Path, npz: Path) -> None:
    first = optimize_folder(request_for(folder, FP16, INT8, TENSORRT, data=npz))
    second = optimize_folder(
        request_for(folder, FP16, INT8, TENSORRT, data=npz, calibration=CalibrationMethod.MOVING_AVERAGE)
    )
    assert first.get("onnx-static_wi7_au8").sha256 != second.get("onnx-static_wi7_au8").sha256
    provenance = second.get("tensorrt-static_wi8_ai8").provenance["calibration"]
    assert (provenance["method"], provenance["parameter"]) == ("moving-average", 0.01)
    # What a method clips must fit into FP16 all the same.
    fp16 = [manifest.get("onnx-wf16_af16").provenance for manifest in (first, second)]
    assert fp16[0]["largest_activation"] == fp16[1]["largest_activation"]


def test_fp16_is_kept_when_only_the_method_changes(folder: Path, npz: Path) -> None:
    first = optimize_folder(request_for(folder, FP16, INT8, data=npz)).get("onnx-wf16_af16")
    written = (folder / first.path).stat().st_mtime_ns
    by_mse = request_for(folder, FP16, INT8, data=npz, calibration=CalibrationMethod.MSE)
    assert optimize_folder(by_mse).get("onnx-wf16_af16") == first
    assert (folder / first.path).stat().st_mtime_ns == written
    other = optimize_folder(replace(by_mse, seed=1)).get("onnx-wf16_af16")  # other pictures check anew
    assert other.key != first.key


def test_a_table_that_is_used_again_repeats_its_warning(
    folder: Path, npz: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for recipes in ((INT8,), (INT8,), (INT8, TENSORRT)):  # calibrated; up to date; one more recipe
        caplog.clear()
        optimize_folder(request_for(folder, *recipes, data=npz, samples=1))
        assert caplog.text.count("onnx-fp32 was calibrated on one picture") == 1
    caplog.clear()
    optimize_folder(request_for(folder, FP16))  # no ranges are asked for
    optimize_folder(request_for(folder, INT8, data=npz))
    assert "calibrated on one picture" not in caplog.text  # 8 other pictures


def test_ranges_taken_from_another_graph_are_warned_of_once(
    folder: Path, npz: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = optimize_folder(request_for(folder, INT8, data=npz))
    table = CalibrationTable.load(folder)
    assert table is not None
    base = made.get("onnx-fp32")
    unstable = replace(table.graph_of(base.sha256), stability=Stability((4, 4), {"relu1": 0.9}))
    taken = replace(unstable, origin=Origin("onnx-fp32", ("relu1",), 0.0, ()))
    table.with_graph(base.sha256, unstable).with_graph("b" * 64, taken).save(folder)
    wanted = [base, replace(base, id="tflite-fp32", sha256="b" * 64)]
    for artifacts in (wanted, wanted[1:]):
        caplog.clear()
        calibrate.warn_of_known(made, table.sample, artifacts)
        assert caplog.text.count("onnx-fp32: 8 calibration pictures are too few") == 1
        assert "tflite-fp32" not in caplog.text
    caplog.clear()
    calibrate.warn_of_known(made, replace(table.sample, method=CalibrationMethod.MSE), wanted)
    (folder / CALIBRATION).write_text("{")
    calibrate.warn_of_known(made, table.sample, wanted)
    assert caplog.text == ""


@pytest.mark.parametrize(
    "content",
    ['{"schema_version": 1, "method": "minmax", "model": "m", "graphs": {}}', None],
    ids=["schema 1", "another model"],
)
def test_optimize_folder_calibrates_anew_what_does_not_belong_here(
    folder: Path, npz: Path, content: str | None
) -> None:
    if content is None:
        made = optimize_folder(request_for(folder, INT8, data=npz))
        replace(made, model=replace(made.model, fingerprint="e" * 64)).save()
    else:
        (folder / CALIBRATION).write_text(content)
    optimize_folder(request_for(folder, INT8, TENSORRT, data=npz))
    table = CalibrationTable.load(folder)
    assert table is not None
    assert table.model == Manifest.load(folder).model.fingerprint
    assert set(table.graphs) == {Manifest.load(folder).get("onnx-fp32").sha256}


def test_optimize_folder_builds_parents_of_engines_first(folder: Path, npz: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    made = optimize_folder(request_for(folder, "engine_static_wi8_ai8", data=npz))
    ids = [artifact.id for artifact in made.artifacts]
    assert ids == [
        "onnx-fp32",
        "tensorrt-static_wi8_ai8",
        "engine-sm86-static_wi8_ai8",
        "engine-sm89-static_wi8_ai8",
    ]
    engine = made.get("engine-sm86-static_wi8_ai8")
    assert engine.path == "engine-sm86-static_wi8_ai8.plan"
    assert engine.precision is Precision.INT8
    assert engine.shares is not None
    assert engine.shares.proof is Proof.INFERRED
    assert engine.inputs[0].shape == (1, 8, 8, 3)


def test_optimize_folder_keeps_what_is_current_and_loads_no_framework(folder: Path, npz: Path) -> None:
    made = optimize_folder(request_for(folder, FP16, INT8, TENSORRT, data=npz))
    before = {a.path: (folder / a.path).stat().st_mtime_ns for a in made.artifacts}
    code = (
        "import sys; from pathlib import Path; from optimize.stage import *\n"
        f"optimize_folder(OptimizeRequest(Path({str(folder)!r}), {TARGET!r}, {(FP16, INT8, TENSORRT)!r}, "
        f"{str(npz)!r}, 8, 0))\n"
        "frameworks = {'onnx', 'onnxruntime', 'tensorflow', 'ai_edge_litert', 'litert_quantizer'}\n"
        "print(sorted(frameworks & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "[]"
    assert {a.path: (folder / a.path).stat().st_mtime_ns for a in made.artifacts} == before


def test_optimize_folder_makes_a_changed_artifact_anew(folder: Path) -> None:
    made = optimize_folder(request_for(folder, FP16))
    path = folder / "onnx-wf16_af16.onnx"
    path.write_bytes(path.read_bytes() + b"x")
    optimize_folder(request_for(folder, FP16))
    assert sha256_of_file(path) == made.get("onnx-wf16_af16").sha256


def test_optimize_folder_refuses_a_changed_parent(folder: Path) -> None:
    optimize_folder(request_for(folder, FP16))
    path = folder / "onnx-fp32.onnx"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(InputError, match=r"onnx-fp32: .* was changed: SHA-256"):
        optimize_folder(request_for(folder, FP16))


def test_optimize_folder_names_the_format_that_was_not_exported(folder: Path) -> None:
    with pytest.raises(InputError, match="needs tflite-fp32, and .* has none. .*--format tflite"):
        optimize_folder(request_for(folder, "tflite_wf16_af32"))


def test_optimize_folder_refuses_a_folder_with_nothing_to_optimize(folder: Path) -> None:
    replace(Manifest.load(folder), artifacts=()).save()
    with pytest.raises(InputError, match="no artifact that can be optimized.*--format onnx"):
        optimize_folder(request_for(folder))


def test_optimize_folder_asks_for_data_when_a_recipe_calibrates(folder: Path) -> None:
    with pytest.raises(InputError, match="tiny has none of its own. Name them with --data"):
        optimize_folder(request_for(folder, INT8))


def test_optimize_folder_refuses_zero_samples(folder: Path, npz: Path) -> None:
    with pytest.raises(InputError, match="--samples is 0, wanted at least 1"):
        optimize_folder(request_for(folder, INT8, data=npz, samples=0))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("onnx_static_wi8_ai8", "does not suit target 'linux-x64-avx2'.*--recipe onnx_static_wi7_au8"),
        ("onnx_static_wi7_au", "Did you mean 'onnx_static_wi7_au8'"),
    ],
)
def test_optimize_folder_refuses_the_recipe(folder: Path, recipe: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        optimize_folder(request_for(folder, recipe))


def test_optimize_folder_refuses_when_the_disk_is_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(InputError, match="Optimizing with 1 recipes needs about"):
        optimize_folder(request_for(folder, FP16))
    assert not (folder / "onnx-wf16_af16.onnx").exists()


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), ProofError("not proven")])
def test_optimize_folder_leaves_nothing_behind_when_a_step_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    def fail(*arguments: object) -> None:
        raise failure

    before = sorted(p.name for p in folder.glob("[!.]*"))
    monkeypatch.setattr(step, "_require_finite_logits", fail)
    with pytest.raises(type(failure)):
        optimize_folder(request_for(folder, FP16))
    assert sorted(p.name for p in folder.glob("[!.]*")) == before
    assert Manifest.load(folder).find("onnx-wf16_af16") is None


@pytest.fixture
def without_tensorrt_rtx(monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version

    def absent(name: str) -> str:
        if name == "tensorrt-rtx":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)


@pytest.mark.usefixtures("without_tensorrt_rtx")
def test_optimize_folder_skips_engines_with_a_warning_when_package_is_absent(
    folder: Path, npz: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        made = optimize_folder(request_for(folder, data=npz))
    assert not [a for a in made.artifacts if a.format is Format.ENGINE]
    warnings = [r.getMessage() for r in caplog.records if r.name == "optimize.stage"]
    assert len([w for w in warnings if "engines are skipped" in w and "tensorrt-rtx" in w]) == 1
    assert len([w for w in warnings if "start from tflite-fp32 are skipped" in w]) == 1


@pytest.mark.usefixtures("without_tensorrt_rtx")
def test_optimize_folder_refuses_engines_when_asked_for_and_package_is_absent(folder: Path) -> None:
    with pytest.raises(MissingRuntimeError, match="'tensorrt-rtx' is not installed"):
        optimize_folder(request_for(folder, "engine_wf16_af16"))


def test_engine_proof_refuses_a_plan_of_the_wrong_size(folder: Path, tmp_path: Path) -> None:
    manifest = Manifest.load(folder)
    engine = step.Step(recipe_named("engine_wf32_af32"), target_of(TARGET), ComputeCapability.SM86)
    for size in (100, 40_000_000):
        (tmp_path / "x.plan").write_bytes(b"\0" * size)
        with pytest.raises(ProofError, match=f"engine-sm86-wf32_af32: the plan has {size} bytes"):
            step._ensures(engine, manifest.get("onnx-fp32"), manifest.model, tmp_path / "x.plan")


def test_digits_optimized_holds_every_recipe_and_its_precision(digits_optimized: Path) -> None:
    manifest = Manifest.load(digits_optimized)
    found = {a.id: a.precision for a in manifest.artifacts if a.recipe}
    for artifact in manifest.artifacts:
        manifest.verify(artifact)
    expected = {"onnx-wf16_af16": "fp16", "tensorrt-static_wi8_ai8": "int8", "tflite-static_wi8_ai8": "int8"}
    expected["tflite-wf16_af32"] = "mixed"  # FP16 weights, FP32 arithmetic
    assert {name: found[name].value for name in expected} == expected
    assert len([a for a in manifest.artifacts if a.id.startswith("onnx-static_")]) == 1


def test_digits_optimized_tflite_is_integer_from_input_to_output(digits_optimized: Path) -> None:
    manifest = Manifest.load(digits_optimized)
    int8, exported = manifest.get("tflite-static_wi8_ai8"), manifest.get("tflite-fp32")
    assert [s.name for s in (*int8.inputs, *int8.outputs)] == ["images", "logits"]
    assert {s.dtype for s in (*int8.inputs, *int8.outputs)} == {"int8"}
    assert all(s.quantization is not None for s in (*int8.inputs, *int8.outputs))
    assert int8.shares is not None
    assert int8.shares.casts == 0
    assert int8.size_bytes < 0.3 * exported.size_bytes
    assert manifest.get("tflite-wf16_af32").size_bytes < 0.51 * exported.size_bytes


def test_digits_optimized_draws_calibration_from_the_training_part(digits_optimized: Path) -> None:
    from edgepress.dataset import digits

    train, held_out = digits()
    used = set(json.loads((digits_optimized / CALIBRATION).read_text())["pictures"])
    assert used <= {p.sha256 for p in train.pictures}
    assert not used & {p.sha256 for p in held_out.pictures}
