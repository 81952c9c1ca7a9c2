"""The choice, on rows that are made up: each artifact with the evidence that the test gives it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.bundle_target import bundle_target_of
from deploy.evidence import Accuracy, Evidence, Row, Speedup
from deploy.selection import Limits, by_evidence, named
from edgepress.artifact import Artifact, Format, Precision, Runtime
from edgepress.errors import InputError, LimitError
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
    return Row(name, name, "onnxruntime", 2, 1e6 / times, speedup, Accuracy(100, top1, agreement))


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
        Limits(),
    )
    assert found.artifact.id == "b"
    said = "2.00 times as fast as onnx-fp32 (95 % interval 1.90 to 2.10), 0.5 ms, with a loss of 0.50"
    assert said in found.reason
    assert found.rejected == {
        "a": "is slower than b",
        "c": "loses 10.00 points, and at most 1 are allowed",
        "onnx-fp32": "is slower than b",
    }


def test_by_evidence_takes_fp32_when_nothing_is_surely_faster() -> None:
    found = by_evidence(manifest(artifact("a")), TARGET, evidence(FP32, row("a", 1.2, 0.99)), Limits())
    assert found.artifact.id == "onnx-fp32"
    assert found.rejected == {"a": "is not shown to be faster than FP32 (1.20×, from 0.99)"}


def test_by_evidence_goes_by_agreement_without_labels() -> None:
    rows = (FP32, row("a", 2.0, 1.9, top1=None, agreement=0.97))
    for max_drop, chosen in ((2.0, "onnx-fp32"), (4.0, "a")):
        found = by_evidence(
            manifest(artifact("a")), TARGET, evidence(*rows, baseline_top1=None), Limits(max_drop)
        )
        assert found.artifact.id == chosen


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": Format.SAVED_MODEL}, "is not for onnxruntime or litert"),
        ({"runtimes": (Runtime.TENSORRT,)}, "is not for onnxruntime or litert"),
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
    found = by_evidence(manifest(other), TARGET, evidence(FP32, row("a", 3.0, 2.9)), Limits())
    assert found.artifact.id == "onnx-fp32"
    assert reason in found.rejected["a"]
    with pytest.raises(InputError, match=f"a {reason}"):
        named(manifest(other), TARGET, "a", Limits(), None)


@pytest.mark.parametrize("target", ["linux-x64-avx2", "linux-x64-avx512", None])
def test_artifact_that_is_right_on_every_x86_cpu_is_taken(target: str | None) -> None:
    assert named(manifest(artifact("a", target=target)), TARGET, "a", Limits(), None).artifact.id == "a"


def test_by_evidence_refuses_results_of_other_files() -> None:
    with pytest.raises(InputError, match="results.json was measured on another a than the one that is there"):
        by_evidence(manifest(artifact("a", sha256="new")), TARGET, evidence(FP32, row("a", 2, 1.9)), Limits())


def test_by_evidence_needs_an_fp32_artifact() -> None:
    alone = Manifest(Path("folder"), CARD, (artifact("a"),))
    with pytest.raises(
        InputError,
        match="has no FP32 artifact for onnxruntime or litert. Export the model with --format onnx",
    ):
        by_evidence(alone, TARGET, evidence(), Limits())


def test_by_evidence_does_not_choose_by_times_that_were_disturbed() -> None:
    disturbed = replace(row("b", 3.0, 2.9), doubt="unstable (other processes took 45% of the CPU meanwhile)")
    found = by_evidence(
        manifest(artifact("a"), artifact("b")),
        TARGET,
        evidence(FP32, row("a", 1.5, 1.4), disturbed),
        Limits(),
    )
    assert found.artifact.id == "a"
    assert found.rejected["b"] == (
        "was measured, but its times are unstable (other processes took 45% of the CPU meanwhile)"
    )


def test_an_int8_file_for_another_cpu_is_refused_with_the_command_that_makes_one() -> None:
    refusal = TARGET.refusal(artifact("a", target="linux-x64-vnni"))
    assert refusal is not None
    assert refusal.endswith("`edgepress optimize --target linux-x64-avx2` makes one")


def tflite(name: str, **changes: Any) -> Artifact:
    precision = Precision.FP32 if name == "tflite-fp32" else Precision.INT8
    parent = None if name == "tflite-fp32" else "tflite-fp32"
    return artifact(
        name,
        path=f"{name}.tflite",
        format=Format.TFLITE,
        runtimes=(Runtime.LITERT,),
        precision=precision,
        parent=parent,
        **changes,
    )


def test_of_several_runtimes_the_fastest_file_is_taken() -> None:
    lite = replace(row("t", 1.5, 1.4), median_ns=4e5, runner="litert")
    measured = evidence(FP32, row("a", 2.0, 1.9), lite, replace(FP32, artifact="tflite-fp32"))
    found = by_evidence(
        manifest(artifact("a"), tflite("tflite-fp32"), tflite("t")), TARGET, measured, Limits()
    )
    assert found.artifact.id == "t"  # 0.4 ms, though 1.5 times its FP32; `a` is twice as fast as FP32: 0.5 ms
    assert set(found.rejected) == {"a", "onnx-fp32", "tflite-fp32"}


@pytest.mark.parametrize(
    ("limits", "chosen", "reason"),
    [
        (Limits(max_latency_ms=0.6), "a", {"onnx-fp32": "is slower than a"}),
        (Limits(max_bytes=1), "onnx-fp32", {"a": "has 0.0 MB, and at most 1e-06 MB are allowed"}),
        (Limits(max_latency_ms=1.5, max_bytes=1), "onnx-fp32", {}),
    ],
)
def test_limits_of_time_and_size_are_kept(limits: Limits, chosen: str, reason: dict[str, str]) -> None:
    measured = evidence(FP32, row("a", 2.0, 1.9))
    found = by_evidence(manifest(artifact("a", size_bytes=2)), TARGET, measured, limits)
    assert found.artifact.id == chosen
    assert reason.items() <= found.rejected.items()


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(max_latency_ms=0.1), "onnx-fp32 takes 1 ms, and at most 0.1 ms are allowed"),
        (Limits(max_latency_ms=0.1), "a takes 0.5 ms, and at most 0.1 ms are allowed"),
        (Limits(max_bytes=0), "onnx-fp32 has 0.0 MB, and at most 0 MB are allowed"),
    ],
)
def test_nothing_within_the_limits_fails_with_the_numbers(limits: Limits, message: str) -> None:
    with pytest.raises(LimitError, match="Nothing keeps to the limits") as failure:
        by_evidence(manifest(artifact("a")), TARGET, evidence(FP32, row("a", 2.0, 1.9)), limits)
    assert message in str(failure.value)
    assert failure.value.exit_code == 1


def test_a_named_artifact_that_is_too_large_fails() -> None:
    with pytest.raises(
        LimitError, match="onnx-fp32 has 0.0 MB, and at most 0 MB are allowed. Choose another"
    ):
        named(manifest(), TARGET, "onnx-fp32", Limits(max_bytes=0), None)


def test_what_was_not_measured_is_not_within_a_limit_of_time() -> None:
    with pytest.raises(LimitError, match="onnx-fp32 was not measured, and at most 5 ms are allowed"):
        by_evidence(manifest(), TARGET, evidence(), Limits(max_latency_ms=5))


def test_a_named_artifact_that_was_measured_too_slow_fails() -> None:
    measured = evidence(FP32)
    with pytest.raises(
        LimitError, match="onnx-fp32 takes 1 ms, and at most 0.5 ms are allowed. Choose another"
    ):
        named(manifest(), TARGET, "onnx-fp32", Limits(max_latency_ms=0.5), measured)
    assert (
        named(manifest(), TARGET, "onnx-fp32", Limits(max_latency_ms=2), measured).artifact.id == "onnx-fp32"
    )


def test_a_named_artifact_without_a_measurement_is_left_to_the_device(
    caplog: pytest.LogCaptureFixture,
) -> None:
    choice = named(manifest(), TARGET, "onnx-fp32", Limits(max_latency_ms=0.5), None)
    assert choice.artifact.id == "onnx-fp32"
    assert "was not measured: `verify.py --latency` tells on the device" in caplog.text


def test_fp32_of_another_runtime_wins_if_it_is_faster_than_what_was_made_faster() -> None:
    lite = replace(
        FP32, artifact="tflite-fp32", artifact_sha256="tflite-fp32", median_ns=4e5, runner="litert"
    )
    measured = evidence(FP32, row("a", 2.0, 1.9), lite)  # 1 ms, 0.5 ms, 0.4 ms
    found = by_evidence(manifest(artifact("a"), tflite("tflite-fp32")), TARGET, measured, Limits())
    assert found.artifact.id == "tflite-fp32"
    assert found.rejected == {"onnx-fp32": "is slower than a", "a": "is slower than tflite-fp32"}


def test_a_runtime_whose_times_are_not_known_is_not_called_slower() -> None:
    disturbed = replace(FP32, artifact="tflite-fp32", median_ns=1, runner="litert", doubt="unstable (busy)")
    for rows, chosen in (((FP32, disturbed), "onnx-fp32"), ((disturbed,), "onnx-fp32")):
        found = by_evidence(manifest(tflite("tflite-fp32")), TARGET, evidence(*rows), Limits())
        assert found.artifact.id == chosen
        assert found.rejected == {"tflite-fp32": "is not shown to be faster than onnx-fp32"}


def test_what_lost_its_fp32_artifact_is_not_chosen() -> None:
    measured = evidence(FP32, replace(row("t", 3.0, 2.9), runner="litert"))
    found = by_evidence(manifest(tflite("t")), TARGET, measured, Limits())
    assert found.artifact.id == "onnx-fp32"
    assert found.rejected == {"t": "has no FP32 artifact for its runtime to be compared with"}
