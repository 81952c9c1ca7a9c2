"""What a bundle needs to know of results.json."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepress.artifact import Device, Runtime
from edgepress.errors import InputError
from edgepress.files import read_json
from edgepress.record import from_json
from edgepress.seal import is_sealed

RESULTS = "results.json"
_VALID = "valid"
_DEVICES = {Runtime.TENSORRT: Device.CUDA, Runtime.TENSORRT_RTX: Device.CUDA}


@dataclass(frozen=True)
class Speedup:
    """How many times as fast as the FP32 artifact on the same runner.

    Attributes:
        median: The estimate.
        ci95: Its 95 % interval.
        against: Id of that artifact.
    """

    median: float
    ci95: tuple[float, float]
    against: str


@dataclass(frozen=True)
class Accuracy:
    """On pictures that neither trained nor calibrated.

    Attributes:
        images: Their number.
        top1: Share in [0, 1]; None without labels.
        agreement: Share with the same top class as FP32.
    """

    images: int
    top1: float | None
    agreement: float


@dataclass(frozen=True)
class Row:
    """One artifact as measured on one runner.

    Attributes:
        artifact: Its id.
        artifact_sha256: Of what was measured.
        runner: That ran it.
        threads: Of the runner.
        median_ns: Of one inference.
        speedup: None for FP32 itself.
        accuracy: What it costs.
        doubt: Why its times must not be believed, e.g. "unstable (…)"; None if they may.
    """

    artifact: str
    artifact_sha256: str
    runner: str
    threads: int
    median_ns: float
    speedup: Speedup | None
    accuracy: Accuracy
    doubt: str | None = None


@dataclass(frozen=True)
class Evidence:
    """The rows that ran on the runtimes of a target.

    Attributes:
        rows: By artifact.
        baseline_top1: Of the FP32 reference; None without labels.
        data: DATA that was evaluated.
        thoroughness: "full" or "quick".
        machine: On which it was measured, as in results.json.
    """

    rows: Mapping[str, Row]
    baseline_top1: float | None
    data: str
    thoroughness: str
    machine: Mapping[str, Any]


def read_evidence(folder: Path, runtimes: Collection[Runtime]) -> Evidence | None:
    """What results.json says about some runtimes; None if there is no such file.

    Raises:
        InputError: It is damaged or was edited.
    """
    path = folder / RESULTS
    if not path.is_file():
        return None
    value = read_json(path, "results")
    wanted = {(runtime.value, _DEVICES.get(runtime, Device.CPU).value) for runtime in runtimes}
    try:
        json.dumps(value, allow_nan=False)  # NaN compares as neither slower nor less accurate
        rows = (
            _row(row)
            for row in value["results"]
            if (row["runner"], row["device"]) in wanted
            and row["status"] == "ok"
            and row["latency"] is not None
        )
        evidence = Evidence(
            {row.artifact: row for row in rows},
            _share(value["baseline"]["top1"]),
            str(value["data"]["source"]),
            str(value["plan"]["thoroughness"]),
            dict(value["environment"]["machine"]),
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is damaged ({error!r}). Measure anew: edgepress benchmark {folder}"
        ) from error
    if not is_sealed(value):
        raise InputError(
            f"{path} was edited, or is of another edgepress. Measure anew: edgepress benchmark {folder}"
        )
    return evidence


def _row(value: Mapping[str, Any]) -> Row:
    return from_json(
        Row,
        {
            "artifact": value["artifact"],
            "artifact_sha256": value["artifact_sha256"],
            "runner": value["runner"],
            "threads": value["threads"],
            "median_ns": value["latency"]["median_ns"],
            "speedup": _only(value["speedup"], ("median", "ci95", "against")),
            "accuracy": _only(value["accuracy"], ("images", "top1", "agreement")),
            "doubt": _doubt(value["verdict"]),
        },
    )


def _share(value: Any) -> float | None:
    if value is not None and not (type(value) in {int, float} and 0 <= value <= 1):
        raise ValueError(f"baseline.top1: wanted a share in [0, 1], got {value!r}")
    return None if value is None else float(value)


def _doubt(verdict: Mapping[str, Any]) -> str | None:
    """What speaks against a row, from its verdict in results.json."""
    if verdict["state"] == _VALID:
        return None
    return f"{verdict['state']} ({'; '.join(verdict['reasons'])})"


def _only(value: Mapping[str, Any] | None, names: tuple[str, ...]) -> dict[str, Any] | None:
    return None if value is None else {name: value[name] for name in names}
