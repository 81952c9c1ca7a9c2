"""results.json: what was measured, on what, and how sure it is. Raw samples are kept."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from benchmark.decisions import Decisions
from benchmark.plan import Plan
from benchmark.preflight import Finding
from benchmark.quantities import (
    Accuracy,
    DeviceLatency,
    GpuConduct,
    Latency,
    Memory,
    Profile,
    Speedup,
    State,
    Throughput,
    Verdict,
)
from benchmark.roofline import Ceilings, Roofline
from edgepress.artifact import Device, Format, Precision, PrecisionShares
from edgepress.errors import InputError
from edgepress.files import read_json, write_bytes
from edgepress.record import from_json, to_json
from edgepress.seal import is_sealed, sealed

RESULTS = "results.json"
BOUNDARY = (
    "one image (batch 1), preprocessed, in host memory, to logits in host memory; "
    "decoding, preprocessing and softmax are outside"
)
SCHEMA_VERSION = 4


class Status(str, Enum):
    """What became of a row."""

    OK = "ok"
    SKIPPED = "skipped"  # not run here, for the reason that is given
    FAILED = "failed"


@dataclass(frozen=True)
class Result:
    """One artifact on one runner and device.

    Attributes:
        precision: What its content has earned.
        promised: What the manifest says; another one than `precision` makes the row invalid.
        shares: Read out of the file just before it was measured; None where the format does not tell.
        recipe: None for an exported artifact.
        reason: Why it was skipped or failed, or why a value of an `ok` row is missing.
        speedup_vs_fp16: For INT8, against the FP16 artifact of the same format; a warning is given below 1.
        peak_rss_bytes: See `Memory.peak_rss_bytes`.
        evidence: What really ran, in the runner's words.
        offline: Throughput per batch, if it was asked for.
        roofline: How near the median is to what the machine can do; None where the file tells no MACs.
        profile: Node by node; None where the runtime has no profiler.
        profile_note: Why there is no profile.
        preprocessing_doubt: Another preprocessing with which this version's logits fit FP32's far better, in
            words; None if there is none.
        decisions: Per class, and which pictures changed their top class; None without accuracy.
        verdict: Whether the row can be believed; None for one without times that nothing speaks against.
        warnings: What a reader of the numbers must know.
        device_latency: By the GPU's own clock; None on a CPU, and where the runner cannot ask it.
        gpu: What the GPU did while latency was measured; None on a CPU.
    """

    artifact: str
    artifact_sha256: str
    format: Format
    precision: Precision
    promised: Precision
    shares: PrecisionShares | None
    recipe: str | None
    runner: str
    device: Device
    threads: int
    batch: int
    status: Status
    reason: str | None
    latency: Latency | None
    speedup: Speedup | None
    speedup_vs_fp16: Speedup | None
    accuracy: Accuracy | None
    decisions: Decisions | None
    size_bytes: int
    peak_rss_bytes: int | None
    memory: Memory | None
    evidence: str | None
    offline: tuple[Throughput, ...]
    roofline: Roofline | None
    profile: Profile | None
    profile_note: str | None
    preprocessing_doubt: str | None
    verdict: Verdict | None
    warnings: tuple[str, ...]
    device_latency: DeviceLatency | None = None
    gpu: GpuConduct | None = None


@dataclass(frozen=True)
class Environment:
    """What measured.

    Attributes:
        machine: `Machine.to_json()`.
        packages: Versions of the runtimes that are installed.
        preflight: What was looked at before anything was measured.
        ceilings: What the machine can do at best, with the same threads.
        host: The device that measured, as --host names it; None if it was this machine.
    """

    edgepress: str
    python: str
    packages: Mapping[str, str]
    machine: Mapping[str, Any]
    preflight: tuple[Finding, ...]
    ceilings: Ceilings | None
    host: str | None


@dataclass(frozen=True)
class Baseline:
    """Whose logits are the reference of agreement and SNR."""

    artifact: str
    runner: str
    device: Device
    top1: float | None
    top5: float | None


@dataclass(frozen=True)
class Data:
    """The pictures that were evaluated.

    Attributes:
        source: DATA as the user wrote it.
        evaluated: Number of pictures.
        left_out: Pictures of the same DATA that calibration had used.
        fingerprint: SHA-256 over the identities and labels of the evaluated pictures.
        preprocessing: What every version and the baseline got (see `edgepress.preprocessing`).
        thumbnails: Small JPEG pictures in base64, by the name of the picture: of those that a version decides
            otherwise than FP32, as far as a report shows them.
    """

    source: str
    evaluated: int
    left_out: int
    fingerprint: str
    preprocessing: Mapping[str, Any]
    thumbnails: Mapping[str, str]


@dataclass(frozen=True)
class Model:
    """The model behind all rows."""

    name: str
    source: str
    parameters: int
    class_count: int


@dataclass(frozen=True)
class Asked:
    """What was asked for, as on the command line: enough to ask for it again.

    Attributes:
        device: Where to measure.
        variants: Only these artifacts; None for all.
        runners: Only these runners; None for those that the artifacts were made for.
        offline: Batches of the offline scenario.
        threads: None for all cores.
        limit: Evaluate at most so many pictures; None for all.
        seed: Of orders and draws.
    """

    device: Device
    variants: tuple[str, ...] | None
    runners: tuple[str, ...] | None
    offline: tuple[int, ...]
    threads: int | None
    limit: int | None
    seed: int


@dataclass(frozen=True)
class Results:
    """One run of the benchmark.

    Attributes:
        key: Hash of everything that the numbers depend on: equal key, nothing to measure again.
        boundary: What lies inside the stopwatch.
        sha256: In the file, of all the rest in canonical form (sorted keys, no spaces); empty in memory.
    """

    schema_version: int
    key: str
    boundary: str
    model: Model
    environment: Environment
    baseline: Baseline
    data: Data
    plan: Plan
    asked: Asked
    results: tuple[Result, ...]
    sha256: str = ""

    def failed(self) -> tuple[Result, ...]:
        """Rows that should have run and did not."""
        return tuple(row for row in self.results if row.status is Status.FAILED)

    def invalid(self) -> tuple[Result, ...]:
        """Rows whose times do not say what they seem to say."""
        return tuple(row for row in self.results if row.verdict and row.verdict.state is State.INVALID)

    def save(self, folder: Path) -> None:
        """Write `folder`/results.json atomically, with each list of numbers on one line."""
        text = json.dumps(sealed(to_json(self)), indent=2, ensure_ascii=False, allow_nan=False)
        # JSON's strings hold no raw newline, so this can only match lists of numbers.
        text = re.sub(
            r"\[\n\s*([-+.,eE\d\s]+?)\n\s*\]", lambda found: f"[{' '.join(found[1].split())}]", text
        )
        write_bytes(folder / RESULTS, (text + "\n").encode())

    @classmethod
    def load(cls, folder: Path) -> "Results":
        """Read `folder`/results.json.

        Raises:
            InputError: There is none, it is damaged or was edited, or it is of another schema version.
        """
        path = folder / RESULTS
        if not path.is_file():
            raise InputError(f"No {RESULTS} in {folder}. Make it with: edgepress benchmark {folder}")
        value = read_json(path, "results")
        version = value.get("schema_version") if isinstance(value, dict) else None
        if version != SCHEMA_VERSION:
            raise InputError(
                f"{path} has schema version {version}, wanted {SCHEMA_VERSION}. "
                f"Measure again with: edgepress benchmark {folder}"
            )
        try:
            found = replace(from_json(cls, value), sha256="")
        except ValueError as error:
            raise InputError(
                f"{path} is damaged ({error}). Measure again with: edgepress benchmark {folder}"
            ) from error
        if not is_sealed(value):
            raise InputError(
                f"{path} was edited: its numbers are not those that were measured. "
                f"Measure again with: edgepress benchmark {folder}"
            )
        return found
