import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from edgepress.artifact import Format, Runtime
from edgepress.errors import InputError
from edgepress.interface import Interface, Pixels, Scores
from edgepress.manifest import Manifest
from edgepress.parity.parity_schema import SCHEMA, parity_schema
from edgepress.parity.report import KERAS, PARITY, ParityReport, ParityStatus
from edgepress.parity.stage import ParityRequest, check_folder
from edgepress.preprocessing import PreprocessMode
from export.stage import ExportRequest, export_model
from tests.edgepress.parity.conftest import MUTATIONS, Mutation

PORTABLE = (Format.SAVED_MODEL, Format.ONNX, Format.TFLITE)


def test_exported_files_are_within_the_budget_and_the_report_says_so(
    small_folder: Path, copy_of: Callable[[Path], Path]
) -> None:
    folder = copy_of(small_folder)
    report = check_folder(ParityRequest(folder))
    assert [row.artifact for row in report.rows] == ["saved_model-fp32", "onnx-fp32", "tflite-fp32"]
    for row in report.rows:
        assert (row.status, row.reference, row.layer) == (ParityStatus.PASSED, KERAS, None)
        assert row.structured is not None
        assert row.structured.snr_db is None or row.structured.snr_db >= 100
        assert row.structured.agreement == 1
        assert row.structured.cosine > 0.999999
    assert ParityReport.load(folder) == report


@pytest.mark.parametrize("artifact_format", PORTABLE)
@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS)
def test_mutation_is_caught_and_its_layer_named(
    mutated: Callable[[Format, Mutation], Path], artifact_format: Format, mutation: Mutation
) -> None:
    report = check_folder(ParityRequest(mutated(artifact_format, mutation)))
    (failed,) = report.of_status(ParityStatus.FAILED)
    assert failed.artifact == f"{artifact_format.value}-fp32"
    assert failed.layer is not None
    assert failed.layer.name == mutation.layer
    assert any("wanted 100 dB" in finding for finding in failed.findings)


def test_report_of_the_same_things_is_kept(
    small_folder: Path, copy_of: Callable[[Path], Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = copy_of(small_folder)
    report = check_folder(ParityRequest(folder))
    written_ns = (folder / PARITY).stat().st_mtime_ns
    caplog.set_level("INFO")
    assert check_folder(ParityRequest(folder)) == report
    assert "parity.json is up to date" in caplog.text
    assert (folder / PARITY).stat().st_mtime_ns == written_ns
    chosen = check_folder(ParityRequest(folder, ("tflite-fp32",)))
    assert [row.artifact for row in chosen.rows] == ["tflite-fp32"]


def test_artifact_that_was_changed_is_refused_and_the_report_stays(
    small_folder: Path, copy_of: Callable[[Path], Path]
) -> None:
    folder = copy_of(small_folder)
    check_folder(ParityRequest(folder))
    before = (folder / PARITY).read_bytes()
    path = folder / "onnx-fp32.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match=r"onnx-fp32\.onnx was changed"):
        check_folder(ParityRequest(folder))
    assert (folder / PARITY).read_bytes() == before


def test_unknown_variant_is_refused(small_folder: Path) -> None:
    with pytest.raises(InputError, match="Did you mean 'onnx-fp32'"):
        check_folder(ParityRequest(small_folder, ("onnx-fp23",)))


def test_what_cannot_be_run_here_says_why_and_fails_nothing(
    small_folder: Path, copy_of: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine, which no CPU opens, and a package that is not installed."""
    folder = copy_of(small_folder)
    manifest = Manifest.load(folder)
    engine = replace(
        manifest.get("onnx-fp32"),
        id="engine-sm89-wf16_af16",
        format=Format.ENGINE,
        parent="onnx-fp32",
        recipe="engine_wf16_af16",
        runtimes=(Runtime.TENSORRT_RTX,),
    )
    manifest.with_artifact(engine).save()
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    rows = {row.artifact: row for row in check_folder(ParityRequest(folder)).rows}
    assert [row.status.value for row in rows.values()] == ["passed", "passed", "not run", "not run"]
    assert (
        rows["engine-sm89-wf16_af16"].reason
        == "made for tensorrt-rtx, which does not run on this machine's CPU"
    )
    assert "'ai-edge-litert' is not installed" in (rows["tflite-fp32"].reason or "")
    assert rows["tflite-fp32"].structured is None


def test_version_is_compared_with_its_parent_and_with_keras(
    small_folder: Path, copy_of: Callable[[Path], Path]
) -> None:
    """The child is right, and its parent is not: both say so, and the child only where Keras is asked."""
    folder = copy_of(small_folder)
    manifest = Manifest.load(folder)
    parent = manifest.get("onnx-fp32")
    child = replace(parent, id="onnx-again", parent="onnx-fp32", recipe="onnx_wf32_af32")
    manifest.with_artifact(child).save()
    row = next(row for row in check_folder(ParityRequest(folder)).rows if row.artifact == "onnx-again")
    assert (row.reference, row.status) == ("onnx-fp32", ParityStatus.PASSED)
    assert row.structured is not None
    assert row.structured.snr_db is None
    assert row.from_keras is not None
    assert row.from_keras.snr_db is None or row.from_keras.snr_db > 100


def test_logits_that_are_no_numbers_fail(mutated: Callable[[Format, Mutation], Path]) -> None:
    nan = Mutation("fc/bias", lambda bias: np.full_like(bias, np.nan), "fc")
    folder = mutated(Format.ONNX, nan)
    (failed,) = check_folder(ParityRequest(folder)).of_status(ParityStatus.FAILED)
    assert failed.findings == ("NaN or infinity among the logits of 10 of 10 pictures",)
    assert failed.layer is not None
    assert failed.layer.name == "fc"
    assert ParityReport.load(folder).of_status(ParityStatus.FAILED) == (failed,)  # and it can be written


@pytest.mark.parametrize(
    "interface",
    [
        Interface(pixels=Pixels.RGB, scores=Scores.PROBABILITIES),
        Interface(batch=4),
    ],
)
def test_every_interface_is_fed_and_read_as_it_says(
    small_file: Path, tmp_path: Path, interface: Interface
) -> None:
    request = ExportRequest(
        str(small_file), tmp_path / "out", tmp_path, preprocess=PreprocessMode.CAFFE, interface=interface
    )
    export_model(replace(request, formats=(Format.SAVED_MODEL, Format.ONNX)))
    report = check_folder(ParityRequest(tmp_path / "out"))
    assert [row.findings for row in report.rows] == [(), ()]


def test_published_schema_is_that_of_the_code_and_holds(
    small_folder: Path, copy_of: Callable[[Path], Path]
) -> None:
    published = Path(__file__).resolve().parents[3] / "docs" / "reference" / SCHEMA
    assert published.read_text(encoding="utf-8") == parity_schema()
    folder = copy_of(small_folder)
    check_folder(ParityRequest(folder))
    schema = json.loads(parity_schema())
    value = json.loads((folder / PARITY).read_text(encoding="utf-8"))
    jsonschema.validate(value, schema)
    value["rows"][0]["status"] = "fine"
    with pytest.raises(jsonschema.ValidationError, match="'fine'"):
        jsonschema.validate(value, schema)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", r"schema version None, wanted 1\. Make it anew: edgepress parity"),
        ('{"schema_version": 1}', r"is damaged \(.*\)\. Make it anew: edgepress parity"),
    ],
)
def test_report_of_another_form_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / PARITY).write_text(content)
    with pytest.raises(InputError, match=message):
        ParityReport.load(tmp_path)
