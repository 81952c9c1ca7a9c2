"""CalibrationTable: the range of each activation, and the fingerprint of the data behind it.

Min-max calibration: the range of a tensor is what the sampled pictures really made it take (R.
Krishnamoorthi, arXiv 1806.08342, section 3.1). It is exact, needs one pass, and has no parameter.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgepress.dataset import Dataset
from edgepress.errors import InputError, ProofError
from edgepress.files import read_json, sha256_of_json, write_json
from edgepress.preprocessing import Preprocessing

CALIBRATION = "calibration.json"
METHOD = "minmax"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Range:
    """Smallest and largest value that a tensor took; real numbers, in the tensor's own unit."""

    lowest: float
    highest: float

    @property
    def magnitude(self) -> float:
        """Largest absolute value."""
        return max(abs(self.lowest), abs(self.highest))

    def with_range(self, other: "Range") -> "Range":
        """The smallest range that holds both."""
        return Range(min(self.lowest, other.lowest), max(self.highest, other.highest))


Ranges = Mapping[str, Range]


def widen(ranges: dict[str, Range], name: str, lowest: float, highest: float) -> None:
    """Take what one picture made a tensor take into `ranges`, in place.

    Raises:
        ProofError: A value is not finite.
    """
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        raise ProofError(
            f"Calibration: tensor {name!r} took the values {lowest}…{highest}, wanted finite ones. "
            "Check the model's weights and --preprocess."
        )
    seen = Range(lowest, highest)
    ranges[name] = ranges[name].with_range(seen) if name in ranges else seen


@dataclass(frozen=True)
class Sample:
    """The pictures that calibrate, and how they became tensors.

    Attributes:
        source: DATA as the user wrote it.
        seed: Of the draw.
        pictures: SHA-256 of each picture, in order; evaluation leaves these out.
        preprocessing: From picture to tensor.
    """

    source: str
    seed: int
    pictures: tuple[str, ...]
    preprocessing: Preprocessing

    @classmethod
    def of(cls, drawn: Dataset, seed: int, preprocessing: Preprocessing) -> "Sample":
        """Describe pictures that were drawn with `seed`."""
        return cls(drawn.source, seed, tuple(p.sha256 for p in drawn.pictures), preprocessing)

    def to_json(self) -> dict[str, Any]:
        """As written to calibration.json and to an artifact's provenance."""
        return {
            "source": self.source,
            "seed": self.seed,
            "samples": len(self.pictures),
            "preprocessing": self.preprocessing.to_json(),
            "pictures": list(self.pictures),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Sample":
        """The inverse of `to_json`."""
        preprocessing = Preprocessing.from_json(value["preprocessing"])
        return cls(value["source"], value["seed"], tuple(value["pictures"]), preprocessing)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the pictures' content and order and of the preprocessing."""
        return sha256_of_json([METHOD, list(self.pictures), self.preprocessing.to_json()])


@dataclass(frozen=True)
class CalibrationTable:
    """Activation ranges of the FP32 graphs of one model, all from the same sample.

    Attributes:
        model: Fingerprint of the model's weights (see ModelCard).
        sample: What the ranges were taken from.
        graphs: Per SHA-256 of an FP32 artifact (tensor names hold for one file only) its ranges.
    """

    model: str
    sample: Sample
    graphs: Mapping[str, Ranges]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything in the table."""
        return sha256_of_json(self._content())

    def ranges_of(self, artifact_sha256: str) -> Ranges:
        """The ranges of one FP32 artifact.

        Raises:
            InputError: The table was made from another model or file.
        """
        found = self.graphs.get(artifact_sha256)
        if found is None:
            known = ", ".join(f"{sha[:12]}…" for sha in self.graphs) or "none"
            raise InputError(
                f"The calibration table is of another model: wanted ranges for the file with SHA-256 "
                f"{artifact_sha256[:12]}…, got them for: {known}. Calibrate again: remove {CALIBRATION}."
            )
        return found

    def with_graph(self, artifact_sha256: str, ranges: Ranges) -> "CalibrationTable":
        """A table that also holds the ranges of this artifact."""
        return replace(self, graphs={**self.graphs, artifact_sha256: ranges})

    def _content(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "method": METHOD,
            "model": self.model,
            **self.sample.to_json(),
            "graphs": {
                sha: {name: [r.lowest, r.highest] for name, r in sorted(ranges.items())}
                for sha, ranges in sorted(self.graphs.items())
            },
        }

    def to_json(self) -> dict[str, Any]:
        """As written to calibration.json."""
        return {"fingerprint": self.fingerprint, **self._content()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "CalibrationTable":
        """The inverse of `to_json`.

        Raises:
            InputError: The content does not have the fingerprint that it states.
        """
        graphs = {
            sha: {name: Range(float(low), float(high)) for name, (low, high) in ranges.items()}
            for sha, ranges in value["graphs"].items()
        }
        table = cls(value["model"], Sample.from_json(value), graphs)
        if table.fingerprint != value["fingerprint"]:
            raise InputError(
                f"{CALIBRATION} was changed: its fingerprint is {table.fingerprint[:12]}…, it says "
                f"{value['fingerprint'][:12]}…. Remove the file and run optimize again."
            )
        return table

    def save(self, folder: Path) -> None:
        """Write `folder`/calibration.json atomically."""
        write_json(folder / CALIBRATION, self.to_json())

    @classmethod
    def load(cls, folder: Path) -> "CalibrationTable | None":
        """Read `folder`/calibration.json; None if there is none.

        Raises:
            InputError: It is damaged or was changed.
        """
        path = folder / CALIBRATION
        if not path.exists():
            return None
        value = read_json(path, "calibration table")
        try:
            return cls.from_json(value)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{path} is damaged ({error!r}). Remove the file and run optimize again."
            ) from error
