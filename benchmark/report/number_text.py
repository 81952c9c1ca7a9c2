"""How a report writes numbers: units and significant digits, the same in every table, page and terminal."""

from benchmark.measurement import Result
from benchmark.quantities import Accuracy, Basis, Speedup, State

ABSENT = "–"
MINUS = "−"
_DECADES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def significant(value: float) -> str:
    """At least three significant digits, e.g. "0.475", "12.3", "204.1", "14,029"."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def milliseconds(duration_ns: float | None) -> str:
    """Three significant digits, e.g. "0.475", "12.3", "204.1"."""
    return ABSENT if duration_ns is None else significant(duration_ns / 1e6)


def megabytes(size_bytes: int | None) -> str:
    """Millions of bytes, e.g. "1.0", "553"."""
    if size_bytes is None:
        return ABSENT
    value = size_bytes / 1e6
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def percent(share: float | None) -> str:
    """Share in [0, 1] as a percentage with two decimals, without the sign."""
    return ABSENT if share is None else f"{share * 100:.2f}"


def with_prefix(value: float) -> str:
    """Three significant digits and an SI prefix, e.g. "1.53 G", "820 M"."""
    for factor, prefix in _DECADES:
        if value >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value:.3g} "


def decibels(accuracy: Accuracy | None) -> str:
    """SNR of the logits, or "identical"."""
    if accuracy is None or (accuracy.logit_snr_db is None and not accuracy.logits_identical):
        return ABSENT
    return "identical" if accuracy.logit_snr_db is None else f"{accuracy.logit_snr_db:.1f}"


def times(speedup: Speedup | None) -> str:
    """Speed-up with its interval, e.g. "1.77× [1.70–1.82]"; the baseline is "1 (baseline)"."""
    if speedup is None:
        return ABSENT
    if speedup.basis is Basis.DEFINITION:
        return "1 (baseline)"
    return f"{speedup.median:.2f}× {interval(speedup)}"


def interval(speedup: Speedup) -> str:
    """The 95 % interval, e.g. "[1.70–1.82]"."""
    low, high = speedup.ci95
    return f"[{low:.2f}–{high:.2f}]"


def points(share: float) -> str:
    """A difference of shares in points with its sign, e.g. "−0.2", "+1.0", "−0.03"."""
    size = abs(share) * 100
    text = f"{size:.1f}" if size >= 0.1 else f"{size:.1g}"
    return f"{MINUS if share < 0 else '+'}{text}"


def probability(p: float) -> str:
    """A p-value, e.g. "p = 0.6"; below 0.001 only that it is."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def shares(found: dict[str, float]) -> str:
    """Shares in [0, 1] that are not nothing, the largest first, e.g. "int8 93 %, fp32 7 %"."""
    ordered = sorted(((name, share) for name, share in found.items() if share > 0), key=lambda pair: -pair[1])
    return ", ".join(f"{name} {_whole_percent(share)} %" for name, share in ordered) or ABSENT


def _whole_percent(share: float) -> str:
    return "< 1" if share < 0.005 else f"{share * 100:.0f}"


def is_believed(row: Result) -> bool:
    """Whether nothing speaks against a row."""
    return row.verdict is None or row.verdict.state is State.VALID


def state_of(row: Result) -> State:
    """Its verdict; a row without one is valid."""
    return State.VALID if row.verdict is None else row.verdict.state
