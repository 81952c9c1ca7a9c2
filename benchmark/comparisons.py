"""What a reader of the numbers must know, computed from the rows themselves."""

from dataclasses import replace

from benchmark.measurement import Result
from benchmark.quantities import Speedup
from benchmark.rows import lacks_vnni
from benchmark.summary import quotient
from benchmark.verdict import verdict_of
from edgepress.artifact import Device, Precision

_SIGNIFICANT = 0.05


def with_comparisons(results: tuple[Result, ...], isa: str, seed: int) -> tuple[Result, ...]:
    """Add to each row its speed-up against FP16, its verdict, and its warnings.

    Args:
        results: All rows.
        isa: Value of `Isa`, of the machine that measured.
        seed: Of the bootstrap.
    """
    compared = (replace(result, speedup_vs_fp16=_vs_fp16(result, results, seed)) for result in results)
    return tuple(
        replace(result, verdict=verdict_of(result), warnings=_warnings(result, isa)) for result in compared
    )


def _vs_fp16(result: Result, results: tuple[Result, ...], seed: int) -> Speedup | None:
    """INT8, some layers in float or none, against FP16 of the same format on the same runner and device."""
    is_int8 = result.precision is Precision.INT8 or "static" in (result.recipe or "").split("_")
    if not is_int8 or result.speedup is None:
        return None
    place = (result.format, result.runner, result.device)
    for other in results:
        same_place = (other.format, other.runner, other.device) == place
        # TFLite's version has FP16 weights and FP32 arithmetic: "mixed", and what INT8 has to beat there.
        is_fp16 = other.precision is Precision.FP16 or "wf16" in (other.recipe or "").split("_")
        if same_place and is_fp16 and other.speedup is not None:
            return quotient(result.speedup, other.speedup, other.artifact, seed)
    return None


def _warnings(result: Result, isa: str) -> tuple[str, ...]:
    return (*_speed_warnings(result), *_accuracy_warnings(result), *_isa_warnings(result, isa))


def _speed_warnings(result: Result) -> list[str]:
    found: list[str] = []
    name = "this version" if result.precision is Precision.MIXED else result.precision.value.upper()
    for other, speedup in (("FP32", result.speedup), ("FP16", result.speedup_vs_fp16)):
        if speedup is not None and speedup.median < 1:
            low, high = speedup.ci95
            sure = "is slower than" if high < 1 else "is not shown to be faster than"
            found.append(f"{name} {sure} {other} here: {speedup.median:.2f}× [{low:.2f}, {high:.2f}]")
    return found


def _accuracy_warnings(result: Result) -> list[str]:
    accuracy = result.accuracy
    if accuracy is None:
        return []
    found = [accuracy.note] if accuracy.note is not None else []
    if accuracy.mcnemar_p is not None and accuracy.mcnemar_p < _SIGNIFICANT:
        found.append(f"top-1 differs from FP32's by more than chance (McNemar p = {accuracy.mcnemar_p:.2g})")
    return found


def _isa_warnings(result: Result, isa: str) -> list[str]:
    is_int8_time = result.precision is Precision.INT8 and result.latency is not None
    if is_int8_time and result.device is Device.CPU and lacks_vnni(isa):
        return ["this CPU has no VNNI: INT8 is slower here than on one that has it"]
    return []
