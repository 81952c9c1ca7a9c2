from pathlib import Path

import numpy as np
import pytest

from edgepress.errors import InputError
from train.feature_store import FeatureStore


def test_feature_store_keeps_vectors_between_openings(tmp_path: Path) -> None:
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    path = tmp_path / "cache" / "features.sqlite"
    with FeatureStore(path, 3) as store:
        assert store.missing(["a", "b", "c"]) == ("a", "b", "c")
        store.put(["a", "b"], vectors)
    with FeatureStore(path, 3) as store:
        assert store.missing(["a", "c", "b"]) == ("c",)
        assert np.array_equal(store.get(["b", "a", "b"]), vectors[[1, 0, 1]])


def test_feature_store_refuses_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "features.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(InputError, match="The cached features in .* cannot be read .* Remove the file"):
        with FeatureStore(tmp_path / "features.sqlite", 3):
            pass
