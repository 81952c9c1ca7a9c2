"""parity.json: how far each version is from what it was made of, and whether it may be."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from edgepress.artifact import Precision
from edgepress.files import write_json
from edgepress.parity.budget import Budget, Hop
from edgepress.parity.distance import Distance
from edgepress.parity.layers import LayerFinding
from edgepress.record import read_record, to_json

PARITY = "parity.json"
SCHEMA_VERSION = 1
KERAS = "keras"
"""The reference of exported artifacts."""


class ParityStatus(str, Enum):
    """What became of a row."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"  # not here, for the reason that is given


@dataclass(frozen=True)
class ParityRow:
    """One artifact against what it was made of.

    Attributes:
        artifact: Its id.
        artifact_sha256: Of its content.
        precision: What its content has earned.
        reference: Id of its parent, or "keras".
        hop: Kind of step between both: names the budget.
        runner: What ran it; None where nothing can.
        status: Whether it is within its budget.
        reason: Why it was not run; else None.
        structured_db: SNR that was asked for on photos, what FP32 cannot give being granted; None if not run.
        flat_db: The same on flat pictures; None where they are not judged.
        structured: On photos and the drawn picture; None where there are no comparable logits.
        flat: On the flat pictures.
        from_keras: On photos, against Keras; None where Keras is the reference.
        findings: What is not within the budget, in words; empty if all is.
        layer: Where it begins; None if all is well, or no layer could be named.
    """

    artifact: str
    artifact_sha256: str
    precision: Precision
    reference: str
    hop: Hop
    runner: str | None
    status: ParityStatus
    reason: str | None = None
    structured_db: float | None = None
    flat_db: float | None = None
    structured: Distance | None = None
    flat: Distance | None = None
    from_keras: Distance | None = None
    findings: tuple[str, ...] = ()
    layer: LayerFinding | None = None


@dataclass(frozen=True)
class ParityReport:
    """What parity.json says.

    Attributes:
        schema_version: Of this file.
        key: Hash of everything that the rows depend on.
        golden_sha256: Of golden.npz.
        kinds: What each golden picture shows, in order.
        budgets: Of the kinds of step that occur.
        rows: In the order of the manifest.
    """

    schema_version: int
    key: str
    golden_sha256: str
    kinds: tuple[str, ...]
    budgets: tuple[Budget, ...]
    rows: tuple[ParityRow, ...]

    def of_status(self, status: ParityStatus) -> tuple[ParityRow, ...]:
        """The rows that have this status."""
        return tuple(row for row in self.rows if row.status is status)

    def save(self, folder: Path) -> None:
        """Write parity.json atomically."""
        write_json(folder / PARITY, to_json(self))

    @classmethod
    def load(cls, folder: Path) -> "ParityReport":
        """Read `folder`/parity.json.

        Raises:
            InputError: There is none, or it is of another schema version or damaged.
        """
        remedy = f"Make it anew: edgepress parity {folder}"
        return read_record(folder / PARITY, cls, "parity report", SCHEMA_VERSION, remedy)
