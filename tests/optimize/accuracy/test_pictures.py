"""What judges is known by its content, order, labels and decoding."""

from dataclasses import replace

import numpy as np
import pytest

from edgepress.dataset import open_data
from optimize.accuracy.pictures import Pictures


def test_fingerprint_follows_order_labels_and_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    found = open_data("digits").evaluation.take((0, 1))
    pictures = Pictures("digits", found, found.labels(), None)
    others = [
        replace(pictures, dataset=found.take((1, 0))),
        replace(pictures, labels=None),
        replace(pictures, labels=np.asarray([7, 7])),
    ]
    fingerprints = [pictures.fingerprint, *(other.fingerprint for other in others)]
    monkeypatch.setattr("optimize.accuracy.pictures.DECODING_VERSION", 99)
    fingerprints.append(pictures.fingerprint)
    assert len(set(fingerprints)) == len(fingerprints)
