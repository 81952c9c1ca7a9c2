"""Gates: what a version must reach to ship, said in one line, and whether it did.

    precision=int8 runner=onnxruntime: speedup>=1.5, top1_drop<=0.5

Left of the colon, which rows are meant; right of it, what each of them must reach.
"""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from benchmark.measurement import Baseline, Result, Results, Status
from benchmark.quantities import State
from edgepress.artifact import Device, Format, Precision
from edgepress.errors import InputError, unknown_choice
from edgepress.runners.runner import runner_names

_EXAMPLE = "precision=int8 runner=onnxruntime: speedup>=1.5, top1_drop<=0.5"
_CONDITION = re.compile(r"\s*([a-z0-9_]+)\s*(>=|<=|>|<)\s*([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


class Field(str, Enum):
    """What a row can be chosen by."""

    ARTIFACT = "artifact"
    FORMAT = "format"
    PRECISION = "precision"
    RECIPE = "recipe"
    RUNNER = "runner"
    DEVICE = "device"


_VALUES: dict[Field, type[Enum]] = {
    Field.FORMAT: Format,
    Field.PRECISION: Precision,
    Field.DEVICE: Device,
}


class Quantity(str, Enum):
    """What a row can be held to, with its unit."""

    SPEEDUP = "speedup"  # times, against the FP32 artifact on the same runner
    SPEEDUP_LOW = "speedup_low"  # the lower end of its 95 % interval
    SPEEDUP_VS_FP16 = "speedup_vs_fp16"
    TOP1 = "top1"  # percent
    TOP5 = "top5"
    TOP1_DROP = "top1_drop"  # percentage points that top-1 lies below the FP32 reference's
    TOP5_DROP = "top5_drop"
    AGREEMENT = "agreement"  # percent
    SNR_DB = "snr_db"  # infinite where the logits are identical
    KL_NATS = "kl_nats"
    MEDIAN_MS = "median_ms"
    P90_MS = "p90_ms"
    P99_MS = "p99_ms"
    LOAD_MS = "load_ms"
    FIRST_MS = "first_ms"
    IMAGES_PER_S = "images_per_s"  # of the best batch of the offline sweep
    INT8_MACS = "int8_macs"  # percent of the file's multiply-accumulates
    INT8_TIME = "int8_time"  # percent of the nodes' time, by the runtime's own profiler
    SIZE_MB = "size_mb"
    LOADED_MB = "loaded_mb"
    PEAK_MB = "peak_mb"
    DEVICE_MB = "device_mb"


@dataclass(frozen=True)
class Condition:
    """One thing that a row must reach.

    Attributes:
        quantity: What is held against the bound.
        comparison: ">=", "<=", ">" or "<".
        bound: In the quantity's unit.
    """

    quantity: Quantity
    comparison: str
    bound: float

    def __str__(self) -> str:
        return f"{self.quantity.value}{self.comparison}{self.bound:g}"


@dataclass(frozen=True)
class Requirement:
    """One line of the gate.

    Attributes:
        text: As the user wrote it.
        selector: Field and value; a row is meant if all of them are its own.
        conditions: All of them must hold.
    """

    text: str
    selector: tuple[tuple[Field, str], ...]
    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class Check:
    """One condition held against one row.

    Attributes:
        requirement: The line that asks for it.
        artifact: Of the row; None where no row was there to be held against.
        runner: Of the row.
        condition: In words.
        value: What was found, in the quantity's unit; None where it is not known or infinite.
        passed: Whether it holds. What is not known does not hold.
        finding: What was found, in words.
    """

    requirement: str
    artifact: str | None
    runner: str | None
    condition: str
    value: float | None
    passed: bool
    finding: str


def requirement_of(text: str) -> Requirement:
    """Read one line of a gate.

    Raises:
        InputError: It is of another form, or names a field, a value or a quantity that does not exist.
    """
    selected, colon, wanted = text.rpartition(":")
    if not colon or not wanted.strip():
        raise InputError(
            f"--require wants FIELD=VALUE …: QUANTITY>=NUMBER, …, such as {_EXAMPLE!r}. Received: {text!r}."
        )
    selector = tuple(_selection(word, text) for word in selected.split())
    return Requirement(text, selector, tuple(_condition(part, text) for part in wanted.split(",")))


def _selection(word: str, text: str) -> tuple[Field, str]:
    name, equals, value = word.partition("=")
    if not equals or not value:
        raise InputError(f"--require {text!r}: {word!r} is no FIELD=VALUE, such as precision=int8.")
    known = {field.value: field for field in Field}
    if name not in known:
        raise unknown_choice("field of --require", name, known)
    field = known[name]
    values = runner_names() if field is Field.RUNNER else [str(v.value) for v in _VALUES.get(field, ())]
    if values and value not in values:
        raise unknown_choice(f"{field.value} of --require", value, values)
    return field, value


def _condition(part: str, text: str) -> Condition:
    found = _CONDITION.fullmatch(part)
    if found is None:
        raise InputError(
            f"--require {text!r}: {part.strip()!r} is no QUANTITY>=NUMBER (or <=, >, <): speedup>=1.5."
        )
    name, comparison, bound = found.groups()
    known = {quantity.value: quantity for quantity in Quantity}
    if name not in known:
        raise unknown_choice("quantity of --require", name, known)
    return Condition(known[name], comparison, float(bound))


def checks_of(results: Results, requirements: tuple[Requirement, ...]) -> tuple[Check, ...]:
    """Hold every requirement against every row that it means.

    Rows that were skipped (another device, say) are passed over, but at least one row must have run. A row
    that failed does not hold, nor does a value that is not known, nor a time whose row is not VALID.
    """
    return tuple(check for requirement in requirements for check in _checks(results, requirement))


def _checks(results: Results, requirement: Requirement) -> list[Check]:
    meant = [row for row in results.results if _is_meant(row, requirement)]
    ran = [row for row in meant if row.status is not Status.SKIPPED]
    if not ran:
        reason = f"the first of {len(meant)} says: {meant[0].reason}" if meant else "no row is of this kind"
        words = f"no row that this means ran ({reason})"
        return [Check(requirement.text, None, None, requirement.text, None, passed=False, finding=words)]
    return [_check(row, results.baseline, c, requirement) for row in ran for c in requirement.conditions]


def _is_meant(row: Result, requirement: Requirement) -> bool:
    own: dict[Field, str | None] = {
        Field.ARTIFACT: row.artifact,
        Field.FORMAT: row.format.value,
        Field.PRECISION: row.precision.value,
        Field.RECIPE: row.recipe,
        Field.RUNNER: row.runner,
        Field.DEVICE: row.device.value,
    }
    return all(own[field] == value for field, value in requirement.selector)


def _check(row: Result, baseline: Baseline, condition: Condition, requirement: Requirement) -> Check:
    value = value_of(row, baseline, condition.quantity)
    doubt = _doubt(row) if condition.quantity in _times(row) else None
    passed = value is not None and doubt is None and _COMPARE[condition.comparison](value, condition.bound)
    if value is not None and doubt is not None:
        words = f"{condition.quantity.value} is {value:.4g}, but the row is {doubt}; wanted {condition}"
    elif value is None:
        words = f"{condition.quantity.value} is not known{_why(row)}; wanted {condition}"
    else:
        words = f"{condition.quantity.value} is {value:.4g}, wanted {condition}"
    finite = value if value is not None and abs(value) < float("inf") else None
    return Check(requirement.text, row.artifact, row.runner, str(condition), finite, passed, words)


def _doubt(row: Result) -> str | None:
    """Why the times of a row must not be believed; None if they may."""
    verdict = row.verdict
    if verdict is None or verdict.state is State.VALID:
        return None
    return f"{verdict.state.value.upper()} ({'; '.join(verdict.reasons)})"


def _why(row: Result) -> str:
    note = row.reason or (row.accuracy.note if row.accuracy is not None else None)
    note = note or (row.latency.percentile_note if row.latency is not None else None)
    return f" ({note})" if note else ""


def value_of(row: Result, baseline: Baseline, quantity: Quantity) -> float | None:
    """A quantity of a row in the unit of `Quantity`; None where it is not known."""
    return {**_times(row), **_shares(row, baseline), **_proofs(row), **_sizes(row)}[quantity]


def _times(row: Result) -> dict[Quantity, float | None]:
    latency, speedup, other = row.latency, row.speedup, row.speedup_vs_fp16
    return {
        Quantity.SPEEDUP: speedup.median if speedup else None,
        Quantity.SPEEDUP_LOW: speedup.ci95[0] if speedup else None,
        Quantity.SPEEDUP_VS_FP16: other.median if other else None,
        Quantity.MEDIAN_MS: _scaled(latency.median_ns if latency else None, 1e-6),
        Quantity.P90_MS: _scaled(latency.p90_ns if latency else None, 1e-6),
        Quantity.P99_MS: _scaled(latency.p99_ns if latency else None, 1e-6),
        Quantity.LOAD_MS: _scaled(latency.load_ns if latency else None, 1e-6),
        Quantity.FIRST_MS: _scaled(latency.first_ns if latency else None, 1e-6),
        Quantity.IMAGES_PER_S: max((found.images_per_s for found in row.offline), default=None),
    }


def _shares(row: Result, baseline: Baseline) -> dict[Quantity, float | None]:
    found = row.accuracy
    top1, top5 = (found.top1, found.top5) if found else (None, None)
    snr_db = float("inf") if found and found.logits_identical else found.logit_snr_db if found else None
    return {
        Quantity.TOP1: _scaled(top1, 100),
        Quantity.TOP5: _scaled(top5, 100),
        Quantity.TOP1_DROP: _drop(top1, baseline.top1),
        Quantity.TOP5_DROP: _drop(top5, baseline.top5),
        Quantity.AGREEMENT: _scaled(found.agreement if found else None, 100),
        Quantity.SNR_DB: snr_db,
        Quantity.KL_NATS: found.kl_nats if found else None,
    }


def _proofs(row: Result) -> dict[Quantity, float | None]:
    int8 = Precision.INT8.value
    macs = row.shares.macs[int8] if row.shares else None
    time = row.profile.precision_time_shares.get(int8, 0.0) if row.profile else None
    return {Quantity.INT8_MACS: _scaled(macs, 100), Quantity.INT8_TIME: _scaled(time, 100)}


def _sizes(row: Result) -> dict[Quantity, float | None]:
    memory = row.memory
    return {
        Quantity.SIZE_MB: _scaled(row.size_bytes, 1e-6),
        Quantity.LOADED_MB: _scaled(memory.loaded_rss_bytes if memory else None, 1e-6),
        Quantity.PEAK_MB: _scaled(row.peak_rss_bytes, 1e-6),
        Quantity.DEVICE_MB: _scaled(memory.device_bytes if memory else None, 1e-6),
    }


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _drop(share: float | None, reference: float | None) -> float | None:
    """Percentage points; rounded, so that 0.5 points are not 0.5000000000000004."""
    return None if share is None or reference is None else round(100 * (reference - share), 9)
