"""The choice, on rows that are made up: each artifact with the evidence that the test gives it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.bundle_target import bundle_target_of
from deploy.evidence import Accuracy, Evidence, Row, Speedup
from deploy.selection import by_evidence, named
from edgepress.artifact import Artifact, Format, Precision, Runtime
from edgepress.errors import InputError
from edgepress.interface import Activation
from edgepress.manifest import Manifest, ModelCard
from edgepress.preprocessing import Preprocessing, PreprocessMode

TARGET = bundle_target_of("linux-x64-cpu")
CARD = ModelCard("m", "here", "f", 1, 2, None, Preprocessing(PreprocessMode.NONE, 8, 8), Activation.SOFTMAX)


def artifact(name: str, **changes: Any) -> Artifact:
    values: dict[str, Any] = {
        "id": name,
        "path": f"{name}.onnx",
        "format": Format.ONNX,
        "precision": Precision.FP32 if name == "onnx-fp32" else Precision.INT8,
        "runtimes": (Runtime.ONNXRUNTIME,),
        "inputs": (),
        "outputs": (),
        "sha256": name,
        "size_bytes": 1,
        "key": "k",
        "parent": None if name == "onnx-fp32" else "onnx-fp32",
    }
    return Artifact(**{**values, **changes})


def row(name: str, times: float, low: float, top1: float | None = 0.8, agreement: float = 1.0) -> Row:
    speedup = None if name == "onnx-fp32" else Speedup(times, (low, 2 * times - low), "onnx-fp32")
    return Row(name, name, 2, 1e6 / times, speedup, Accuracy(100, top1, agreement))


def evidence(*rows: Row, baseline_top1: float | None = 0.8) -> Evidence:
    return Evidence({r.artifact: r for r in rows}, baseline_top1, "photos", "full", {})


def manifest(*artifacts: Artifact) -> Manifest:
    return Manifest(Path("folder"), CARD, (artifact("onnx-fp32"), *artifacts))


FP32 = row("onnx-fp32", 1, 1)


def test_by_evidence_takes_the_fastest_within_the_allowed_loss() -> None:
    found = by_evidence(
        manifest(artifact("a"), artifact("b"), artifact("c")),
        TARGET,
        evidence(FP32, row("a", 1.5, 1.4), row("b", 2.0, 1.9, top1=0.795), row("c", 3.0, 2.9, top1=0.7)),
        max_drop=1.0,
    )
    assert found.artifact.id == "b"
    assert "2.00 times as fast as onnx-fp32 (95 % interval 1.90 to 2.10), with a loss of 0.50" in found.reason
    assert found.rejected == {
        "a": "is slower than b",
        "c": "loses 10.00 points, and at most 1 are allowed",
        "onnx-fp32": "is slower than b",
    }


def test_by_evidence_takes_fp32_when_nothing_is_surely_faster() -> None:
    found = by_evidence(manifest(artifact("a")), TARGET, evidence(FP32, row("a", 1.2, 0.99)), 1.0)
    assert found.artifact.id == "onnx-fp32"
    assert found.rejected == {"a": "is not shown to be faster than FP32 (1.20×, from 0.99)"}


def test_by_evidence_goes_by_agreement_without_labels() -> None:
    rows = (FP32, row("a", 2.0, 1.9, top1=None, agreement=0.97))
    for max_drop, chosen in ((2.0, "onnx-fp32"), (4.0, "a")):
        found = by_evidence(manifest(artifact("a")), TARGET, evidence(*rows, baseline_top1=None), max_drop)
        assert found.artifact.id == chosen


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": Format.TFLITE, "runtimes": (Runtime.LITERT,)}, "is not for onnxruntime"),
        ({"runtimes": (Runtime.TENSORRT,)}, "is not for onnxruntime"),
        (
            {"target": "linux-x64-vnni"},
            "was made for linux-x64-vnni, and linux-x64-cpu needs one for each of",
        ),
        ({"target": "linux-arm64-dotprod"}, "was made for linux-arm64-dotprod"),
        ({"target": "host-other"}, "was made for host-other"),
    ],
)
def test_artifact_of_another_target_is_refused(changes: dict[str, Any], reason: str) -> None:
    other = artifact("a", **changes)
    found = by_evidence(manifest(other), TARGET, evidence(FP32, row("a", 3.0, 2.9)), 1.0)
    assert found.artifact.id == "onnx-fp32"
    assert reason in found.rejected["a"]
    with pytest.raises(InputError, match=f"a {reason}"):
        named(manifest(other), TARGET, "a")


@pytest.mark.parametrize("target", ["linux-x64-avx2", "linux-x64-avx512", None])
def test_artifact_that_is_right_on_every_x86_cpu_is_taken(target: str | None) -> None:
    assert named(manifest(artifact("a", target=target)), TARGET, "a").artifact.id == "a"


def test_by_evidence_refuses_results_of_other_files() -> None:
    with pytest.raises(InputError, match="results.json was measured on another a than the one that is there"):
        by_evidence(manifest(artifact("a", sha256="new")), TARGET, evidence(FP32, row("a", 2, 1.9)), 1.0)


def test_by_evidence_needs_an_fp32_artifact() -> None:
    alone = Manifest(Path("folder"), CARD, (artifact("a"),))
    with pytest.raises(
        InputError, match="has no FP32 artifact for onnxruntime. Export the model with --format onnx"
    ):
        by_evidence(alone, TARGET, evidence(), 1.0)


def test_by_evidence_does_not_choose_by_times_that_were_disturbed() -> None:
    disturbed = replace(row("b", 3.0, 2.9), doubt="unstable (other processes took 45% of the CPU meanwhile)")
    found = by_evidence(
        manifest(artifact("a"), artifact("b")), TARGET, evidence(FP32, row("a", 1.5, 1.4), disturbed), 1.0
    )
    assert found.artifact.id == "a"
    assert found.rejected["b"] == (
        "was measured, but its times are unstable (other processes took 45% of the CPU meanwhile)"
    )


def test_an_int8_file_for_another_cpu_is_refused_with_the_command_that_makes_one() -> None:
    refusal = TARGET.refusal(artifact("a", target="linux-x64-vnni"))
    assert refusal is not None
    assert refusal.endswith("`edgepress optimize --target linux-x64-avx2` makes one")
