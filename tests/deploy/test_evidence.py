"""Evidence goes into a bundle only if it is of the file in it; damaged results are refused in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.evidence import read_evidence
from deploy.stage import BundleRequest, bundle_folder
from edgepress.artifact import Runtime
from edgepress.errors import InputError
from edgepress.files import sha256_of_file


def evidence_in_bundle(folder: Path, out: Path) -> Any:
    bundle_folder(BundleRequest(folder, "linux-x64-cpu", out, variant="onnx-fp32"))
    return json.loads((out / "manifest.json").read_text())["evidence"]


def test_evidence_of_another_file_is_not_recorded(
    small: Path, tmp_path: Path, write_results: Callable[..., None]
) -> None:
    write_results(small, "0" * 64)
    assert evidence_in_bundle(small, tmp_path / "x") == {
        "status": "not measured",
        "reason": "the results that were there are of another onnx-fp32 (SHA-256 000000000000…)",
    }


def test_evidence_of_this_file_is_recorded(
    small: Path, tmp_path: Path, write_results: Callable[..., None]
) -> None:
    write_results(small, sha256_of_file(small / "onnx-fp32.onnx"))
    found = evidence_in_bundle(small, tmp_path / "x")
    assert found["status"] == "measured"
    assert found["median_ns"] == 5e5
    assert found["thoroughness"] == "full"


def test_bundle_without_results_says_that_nothing_was_measured(small: Path, tmp_path: Path) -> None:
    assert evidence_in_bundle(small, tmp_path / "x")["reason"] == "no result for onnx-fp32 was there"


@pytest.mark.parametrize(
    "changes",
    [
        {"results": 3},
        {"results": [3]},
        {"results": [{}]},
        {"baseline": {"top1": "much"}},
        {"baseline": {"top1": 7}},
        {"baseline": None},
        {"environment": {"machine": 3}},
        {"plan": []},
    ],
)
def test_damaged_results_are_refused(
    small: Path, write_results: Callable[..., None], changes: dict[str, Any]
) -> None:
    write_results(small, "0" * 64, **changes)
    with pytest.raises(InputError, match="is damaged .* Measure anew: edgepress benchmark"):
        read_evidence(small, [Runtime.ONNXRUNTIME])


def test_nan_in_results_is_damage(small: Path, write_results: Callable[..., None]) -> None:
    write_results(small, "0" * 64)
    text = (small / "results.json").read_text()
    (small / "results.json").write_text(text.replace("500000.0", "NaN"))
    with pytest.raises(InputError, match="is damaged"):
        read_evidence(small, [Runtime.ONNXRUNTIME])


def test_results_that_were_edited_are_refused(small: Path, write_results: Callable[..., None]) -> None:
    write_results(small, "0" * 64)
    text = (small / "results.json").read_text()
    (small / "results.json").write_text(text.replace("500000.0", "400000.0"))
    with pytest.raises(InputError, match=r"was edited, or is of another edgepress\. Measure anew"):
        read_evidence(small, [Runtime.ONNXRUNTIME])
