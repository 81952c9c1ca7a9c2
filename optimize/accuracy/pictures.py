"""The pictures that judge: none of them trained or calibrated."""

from dataclasses import dataclass

from edgepress.dataset import Dataset
from edgepress.decoding import DECODING_VERSION
from edgepress.evaluation_data import Labels
from edgepress.files import sha256_of_json


@dataclass(frozen=True)
class Pictures:
    """Pictures and their classes.

    Attributes:
        data: DATA that they are from.
        dataset: The pictures.
        labels: (N,) class indices in the order of the logits; None where there are none.
        note: Why there are none.
    """

    data: str
    dataset: Dataset
    labels: Labels | None
    note: str | None

    @property
    def fingerprint(self) -> str:
        """SHA-256 over pictures and how they are decoded, order and labels."""
        labels = None if self.labels is None else [int(label) for label in self.labels]
        return sha256_of_json([[p.sha256 for p in self.dataset.pictures], labels, DECODING_VERSION])
