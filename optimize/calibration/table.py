"""CalibrationTable: the range of each activation, and the fingerprint of the data behind it."""

import base64
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.dataset import Dataset
from edgepress.decoding import DECODING_VERSION
from edgepress.errors import InputError
from edgepress.files import read_json, sha256_of_json, write_json
from edgepress.preprocessing import Preprocessing
from optimize.calibration.method import CalibrationMethod
from optimize.calibration.range import Range, Ranges
from optimize.calibration.stability import Stability

CALIBRATION = "calibration.json"
SCHEMA_VERSION = 3

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """The pictures that calibrate, how they became tensors, and how ranges follow from these.

    Attributes:
        source: DATA as the user wrote it.
        seed: Of the draw.
        pictures: SHA-256 of each picture, in order; evaluation leaves these out.
        preprocessing: From picture to tensor.
        method: From the values of a tensor to its range.
        is_equalized: Whether the network was equalized before, so that its activations are others.
        decoding: How the files became pixels; the same file gives others in another version.
    """

    source: str
    seed: int
    pictures: tuple[str, ...]
    preprocessing: Preprocessing
    method: CalibrationMethod = CalibrationMethod.MINMAX
    is_equalized: bool = False
    decoding: int = DECODING_VERSION

    @classmethod
    def of(
        cls,
        drawn: Dataset,
        seed: int,
        preprocessing: Preprocessing,
        method: CalibrationMethod = CalibrationMethod.MINMAX,
    ) -> "Sample":
        """Describe pictures that were drawn with `seed`."""
        return cls(drawn.source, seed, tuple(p.sha256 for p in drawn.pictures), preprocessing, method)

    def to_json(self) -> dict[str, Any]:
        """As written to calibration.json and to an artifact's provenance."""
        return {
            "method": self.method.value,
            "parameter": self.method.parameter,
            "is_equalized": self.is_equalized,
            "source": self.source,
            "seed": self.seed,
            "samples": len(self.pictures),
            "decoding": self.decoding,
            "preprocessing": self.preprocessing.to_json(),
            "pictures": list(self.pictures),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Sample":
        """The inverse of `to_json`."""
        return cls(
            value["source"],
            value["seed"],
            tuple(value["pictures"]),
            Preprocessing.from_json(value["preprocessing"]),
            CalibrationMethod(value["method"]),
            bool(value["is_equalized"]),
            int(value["decoding"]),
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the pictures' content and order, of decoding, preprocessing, method and equalization."""
        method = [self.method.value, self.method.parameter, self.is_equalized, self.decoding]
        return sha256_of_json([*method, list(self.pictures), self.preprocessing.to_json()])

    @property
    def observed_fingerprint(self) -> str:
        """SHA-256 of what the smallest and largest values depend on: all of that but order and method."""
        picture = [self.decoding, self.preprocessing.to_json()]
        return sha256_of_json([self.is_equalized, sorted(self.pictures), *picture])


@dataclass(frozen=True)
class Origin:
    """Where the ranges of a graph come from, if they were not all measured on itself.

    Attributes:
        artifact: Id of the artifact whose ranges hold here too.
        taken: Tensors whose range was taken from there, where they have the same names.
        largest_difference: Proof of it: how far their values differ at most on one picture in both graphs, as
            a share of the tensor's spread.
        measured: Tensors that were measured on this graph, since the other has none of that name and value.
    """

    artifact: str
    taken: tuple[str, ...]
    largest_difference: float
    measured: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As written to calibration.json."""
        return {
            "artifact": self.artifact,
            "taken": list(self.taken),
            "largest_difference": self.largest_difference,
            "measured": list(self.measured),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Origin":
        """The inverse of `to_json`."""
        taken, measured = tuple(value["taken"]), tuple(value["measured"])
        return cls(value["artifact"], taken, float(value["largest_difference"]), measured)


@dataclass(frozen=True)
class GraphCalibration:
    """What calibration found out about one FP32 graph.

    Attributes:
        ranges: Activation → what its integers are to stand for, by the method; zero inside, positive width.
        observed: Activation → smallest and largest value it took, whatever the method.
        channel_means: Activation that a weighted layer reads → its mean per input channel, or per input
            feature of a dense layer, over pictures and positions: (channels,) float32. Not compared by `==`.
        stability: Of `ranges`; None where there was one picture.
        origin: None where everything was measured on this graph.
    """

    ranges: Ranges
    observed: Ranges
    channel_means: Mapping[str, NDArray[np.float32]] = field(default_factory=dict, compare=False)
    stability: Stability | None = None
    origin: Origin | None = None

    def to_json(self) -> dict[str, Any]:
        """As written to calibration.json."""
        return {
            "origin": None if self.origin is None else self.origin.to_json(),
            "ranges": _ranges_to_json(self.ranges),
            "observed": _ranges_to_json(self.observed),
            "stability": None if self.stability is None else self.stability.to_json(),
            "channel_means": {name: _packed(mean) for name, mean in sorted(self.channel_means.items())},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "GraphCalibration":
        """The inverse of `to_json`."""
        stability, origin = value["stability"], value["origin"]
        return cls(
            ranges=_ranges_from_json(value["ranges"]),
            observed=_ranges_from_json(value["observed"]),
            channel_means={name: _unpacked(text) for name, text in value["channel_means"].items()},
            stability=None if stability is None else Stability.from_json(stability),
            origin=None if origin is None else Origin.from_json(origin),
        )


def _ranges_to_json(ranges: Ranges) -> dict[str, list[float]]:
    return {name: [r.lowest, r.highest] for name, r in sorted(ranges.items())}


def _ranges_from_json(value: Mapping[str, Any]) -> dict[str, Range]:
    return {name: Range(float(low), float(high)) for name, (low, high) in value.items()}


def _packed(values: NDArray[np.float32]) -> str:
    """Little-endian float32 as base64: exact, a third of the digits, and in the same file as the rest."""
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def _unpacked(text: str) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float32)


@dataclass(frozen=True)
class CalibrationTable:
    """Activation ranges of the FP32 graphs of one model, all from the same sample.

    Attributes:
        model: Fingerprint of the model's weights (see ModelCard).
        sample: What the ranges were taken from.
        graphs: Per SHA-256 of an FP32 artifact (tensor names hold for one file only) what was found out.
    """

    model: str
    sample: Sample
    graphs: Mapping[str, GraphCalibration]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything in the table."""
        return sha256_of_json(self._content())

    def graph_of(self, artifact_sha256: str) -> GraphCalibration:
        """What is known about one FP32 artifact.

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

    def ranges_of(self, artifact_sha256: str) -> Ranges:
        """The ranges of one FP32 artifact.

        Raises:
            InputError: The table was made from another model or file.
        """
        return self.graph_of(artifact_sha256).ranges

    def with_graph(self, artifact_sha256: str, found: GraphCalibration) -> "CalibrationTable":
        """A table that also holds what was found out about this artifact."""
        return replace(self, graphs={**self.graphs, artifact_sha256: found})

    def _content(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "model": self.model,
            **self.sample.to_json(),
            "graphs": {sha: found.to_json() for sha, found in sorted(self.graphs.items())},
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
        graphs = {sha: GraphCalibration.from_json(found) for sha, found in value["graphs"].items()}
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
        """Read `folder`/calibration.json; None if there is none, or one of another schema version.

        Raises:
            InputError: It is damaged or was changed.
        """
        path = folder / CALIBRATION
        if not path.exists():
            return None
        value = read_json(path, "calibration table")
        try:
            version = value.get("schema_version")
            if type(version) is int and version != SCHEMA_VERSION:
                _LOGGER.warning(
                    "%s has schema version %d, this edgepress writes %d: it is made anew.",
                    path,
                    version,
                    SCHEMA_VERSION,
                )
                return None
            return cls.from_json(value)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{path} is damaged ({error!r}). Remove the file and run optimize again."
            ) from error

    @classmethod
    def known(cls, folder: Path) -> "CalibrationTable | None":
        """The same without a word: None also where `load` would refuse it."""
        try:
            value = read_json(folder / CALIBRATION, "calibration table")
            return cls.from_json(value) if value["schema_version"] == SCHEMA_VERSION else None
        except (InputError, KeyError, TypeError, ValueError, AttributeError):
            return None
