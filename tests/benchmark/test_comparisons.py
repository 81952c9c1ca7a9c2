from dataclasses import replace

import pytest

from benchmark.comparisons import with_comparisons
from benchmark.measurement import Result, Results
from benchmark.quantities import Basis, Speedup, State
from edgepress.artifact import Precision
from edgepress.isa import Isa


@pytest.fixture
def rows(measured_tiny: Results) -> dict[str, Result]:
    """Those that ran with a time, by artifact."""
    return {row.artifact: row for row in measured_tiny.results if row.latency is not None}


def speedup(*ratios: float) -> Speedup:
    middle = sorted(ratios)[len(ratios) // 2]
    return Speedup(middle, (min(ratios), max(ratios)), "onnx-fp32", Basis.PAIRED, ratios, (len(ratios),))


def compared(rows: dict[str, Result], fp16: Speedup, int8: Speedup, isa: Isa = Isa.X86_VNNI) -> Result:
    changed = (
        replace(rows["onnx-wf16_af16"], speedup=fp16),
        replace(rows["onnx-int8"], speedup=int8),
    )
    return with_comparisons(changed, isa.value, 0)[1]


def test_with_comparisons_is_silent_about_a_fast_version(rows: dict[str, Result]) -> None:
    found = compared(rows, speedup(1.1, 1.1, 1.1), speedup(2.2, 2.2, 2.2))
    assert found.speedup_vs_fp16 is not None
    assert found.speedup_vs_fp16.median == pytest.approx(2)
    assert not [warning for warning in found.warnings if "slower" in warning]


def test_with_comparisons_warns_when_int8_is_slower_than_fp16(rows: dict[str, Result]) -> None:
    found = compared(rows, speedup(4.0, 4.0, 4.0), speedup(2.0, 2.0, 2.0))
    assert "INT8 is slower than FP16 here: 0.50× [0.50, 0.50]" in found.warnings
    assert not any("FP32 here" in warning for warning in found.warnings)


def test_with_comparisons_warns_when_int8_with_layers_in_float_is_slower_than_fp16(
    rows: dict[str, Result],
) -> None:
    mixed = replace(rows["onnx-int8"], precision=Precision.MIXED, recipe="onnx_static_wi7_au8")
    found = compared({**rows, "onnx-int8": mixed}, speedup(4.0, 4.0, 4.0), speedup(2.0, 2.0, 2.0))
    assert "this version is slower than FP16 here: 0.50× [0.50, 0.50]" in found.warnings
    other = replace(mixed, recipe="onnx_w16_a32")
    found = compared({**rows, "onnx-int8": other}, speedup(4.0, 4.0, 4.0), speedup(2.0, 2.0, 2.0))
    assert found.speedup_vs_fp16 is None


def test_with_comparisons_warns_when_int8_is_slower_than_fp32(rows: dict[str, Result]) -> None:
    found = compared(rows, speedup(0.5, 0.5, 0.5), speedup(0.7, 0.8, 0.9))
    assert "INT8 is slower than FP32 here: 0.80× [0.70, 0.90]" in found.warnings
    assert found.verdict is not None
    assert found.verdict.state is State.UNSTABLE
    assert "the 95 % interval is wider than 10% of the speed-up" in found.verdict.reasons[0]


def test_with_comparisons_does_not_claim_what_the_interval_does_not_show(rows: dict[str, Result]) -> None:
    found = compared(rows, speedup(0.5, 0.5, 0.5), speedup(0.9, 0.95, 1.05))
    assert "INT8 is not shown to be faster than FP32 here: 0.95× [0.90, 1.05]" in found.warnings


@pytest.mark.parametrize(
    ("isa", "warned"),
    [(Isa.X86_AVX2, True), (Isa.X86_AVX512, True), (Isa.X86_VNNI, False), (Isa.ARM64, False)],
)
def test_with_comparisons_warns_of_a_cpu_without_vnni(
    rows: dict[str, Result], isa: Isa, *, warned: bool
) -> None:
    found = compared(rows, speedup(1.1, 1.1, 1.1), speedup(2.0, 2.0, 2.0), isa)
    assert any("no VNNI" in warning for warning in found.warnings) is warned


def test_with_comparisons_warns_of_a_significant_loss(rows: dict[str, Result]) -> None:
    int8 = rows["onnx-int8"]
    assert int8.accuracy is not None
    lossy = replace(int8, accuracy=replace(int8.accuracy, mcnemar_p=0.001))
    (found,) = with_comparisons((lossy,), Isa.X86_VNNI.value, 0)
    assert "top-1 differs from FP32's by more than chance (McNemar p = 0.001)" in found.warnings
