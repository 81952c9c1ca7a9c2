"""results.json: what was measured, on what, and how sure it is. Raw samples are kept."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from benchmark.decisions import Decisions
from benchmark.memory import Residence
from benchmark.plan import Plan
from edgepress.artifact import Device, Format, Precision, PrecisionShares, Runtime
from edgepress.errors import InputError
from edgepress.files import read_json, write_bytes
from edgepress.record import from_json, to_json
from edgepress.seal import is_sealed, sealed

RESULTS = "results.json"
BOUNDARY = (
    "one image (batch 1), preprocessed, in host memory, to logits in host memory; "
    "decoding, preprocessing and softmax are outside"
)
SCHEMA_VERSION = 2


class Status(str, Enum):
    """What became of a row."""

    OK = "ok"
    SKIPPED = "skipped"  # not run here, for the reason that is given
    FAILED = "failed"


class Basis(str, Enum):
    """Where a speed-up comes from."""

    PAIRED = "paired"  # median over pairs of neighbouring blocks in two interleaved processes
    DEFINITION = "definition"  # the FP32 artifact against itself
    QUOTIENT = "quotient"  # of two paired speed-ups against the same FP32 artifact


@dataclass(frozen=True)
class Speedup:
    """How many times as fast: above 1 is faster.

    Attributes:
        median: The estimate.
        ci95: Its percentile-bootstrap 95 % interval.
        against: Id of the artifact that it is relative to, on the same runner, device and threads.
        basis: How it was found.
        pair_ratios: Per pair of blocks, baseline's median over variant's median; empty unless paired.
    """

    median: float
    ci95: tuple[float, float]
    against: str
    basis: Basis
    pair_ratios: tuple[float, ...]


@dataclass(frozen=True)
class Latency:
    """One inference after another, input in host memory to logits in host memory.

    Attributes:
        samples_ns: Every counted inference, in order.
        block_counts: How many of them each block holds.
        median_ns: Of all samples.
        median_ci95_ns: Its 95 % interval by order statistics; None with too few samples.
        min_ns: Of all samples.
        p90_ns: None where there are too few samples for it.
        p99_ns: Likewise.
        percentile_note: Why a percentile is None; None if none is.
        cv: Coefficient of variation (standard deviation over mean).
        load_ns: From the file to a ready runtime.
        first_ns: The very first inference.
        warm_up_count: Inferences between the first one and the first block.
        others_cpu: Share in [0, 1] of our cores that other processes took meanwhile; None where not known.
    """

    samples_ns: tuple[int, ...]
    block_counts: tuple[int, ...]
    median_ns: float
    median_ci95_ns: tuple[float, float] | None
    min_ns: int
    p90_ns: float | None
    p99_ns: float | None
    percentile_note: str | None
    cv: float
    load_ns: int
    first_ns: int
    warm_up_count: int
    others_cpu: float | None


class State(str, Enum):
    """Whether a row's times can be believed."""

    VALID = "valid"
    UNSTABLE = "unstable"  # something disturbed the measurement: measure again
    INVALID = "invalid"  # the numbers do not say what they seem to say


@dataclass(frozen=True)
class Verdict:
    """What to make of a row's times.

    Attributes:
        state: The worst of all reasons.
        reasons: One clause each; empty if valid.
    """

    state: State
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Accuracy:
    """How the logits compare with the reference's, on the same pictures.

    Attributes:
        images: Number of pictures.
        top1: Share of pictures in [0, 1]; None without labels that are the model's.
        top5: Likewise.
        top1_ci95: Wilson's 95 % interval of `top1`.
        top5_ci95: Likewise.
        agreement: Share of pictures with the same top class as the reference.
        logit_snr_db: None where the logits are identical or not finite.
        logits_identical: Whether every logit has the same bits.
        kl_nats: Mean Kullback-Leibler divergence of the softmaxes from the reference's; None if not finite.
        mcnemar_p: Two-sided p-value that top-1 differs from the reference's by chance only.
        resolvable: The smallest difference of top-1, as a share, that so many pictures can show (p < 0.05).
        note: Why something is None.
    """

    images: int
    top1: float | None
    top5: float | None
    top1_ci95: tuple[float, float] | None
    top5_ci95: tuple[float, float] | None
    agreement: float
    logit_snr_db: float | None
    logits_identical: bool
    kl_nats: float | None
    mcnemar_p: float | None
    resolvable: float | None
    note: str | None


@dataclass(frozen=True)
class Memory:
    """The process that measured latency.

    Attributes:
        empty_rss_bytes: With the runtime imported, before the model was loaded.
        end: After the last block.
    """

    empty_rss_bytes: int | None
    end: Residence

    @property
    def peak_rss_bytes(self) -> int | None:
        """The most that loading and running the model added to the empty process."""
        if self.empty_rss_bytes is None or self.end.peak_rss_bytes is None:
            return None
        return self.end.peak_rss_bytes - self.empty_rss_bytes


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
        decisions: Per class, and which pictures changed their top class; None without accuracy.
        verdict: Whether the row can be believed; None for one without times that nothing speaks against.
        warnings: What a reader of the numbers must know.
    """

    artifact: str
    artifact_sha256: str
    format: Format
    precision: Precision
    promised: Precision
    shares: PrecisionShares | None
    recipe: str | None
    runner: Runtime
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
    verdict: Verdict | None
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Environment:
    """What measured.

    Attributes:
        machine: `Machine.to_json()`.
        packages: Versions of the runtimes that are installed.
    """

    edgepress: str
    python: str
    packages: Mapping[str, str]
    machine: Mapping[str, Any]


@dataclass(frozen=True)
class Baseline:
    """Whose logits are the reference of agreement and SNR."""

    artifact: str
    runner: Runtime
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
    """

    source: str
    evaluated: int
    left_out: int
    fingerprint: str


@dataclass(frozen=True)
class Model:
    """The model behind all rows."""

    name: str
    source: str
    parameters: int
    class_count: int


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
