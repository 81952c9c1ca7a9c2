import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgepress.errors import InputError
from train import feature_store
from train.feature_store import FeatureStore

NAMES = [f"picture {i}" for i in range(400)]
VECTORS = np.random.default_rng(0).standard_normal((400, 64), np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with 400 vectors of 64 values."""
    path = tmp_path / "cache" / "features.sqlite"
    with FeatureStore(path, 64) as store:
        store.put(NAMES, VECTORS)
    return path


def damage_page(path: Path) -> None:
    """Overwrite what stands in the middle of the file."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = b"\xff" * 4096
    path.write_bytes(content)


def test_feature_store_keeps_vectors_between_openings(path: Path) -> None:
    with FeatureStore(path, 64) as store:
        assert store.missing(["new", *NAMES]) == ("new",)
        assert np.array_equal(store.get([NAMES[3], NAMES[0], NAMES[3]]), VECTORS[[3, 0, 3]])


@pytest.mark.parametrize("content", [b"no database" * 100, b"SQLite format 3\0" + b"\1" * 4000])
def test_feature_store_makes_a_damaged_file_anew(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "features.sqlite"
    path.write_bytes(content)
    with FeatureStore(path, 64) as store:
        assert store.missing(NAMES) == tuple(NAMES)
        store.put(NAMES, VECTORS)
        assert np.array_equal(store.get(NAMES), VECTORS)
    assert "is damaged" in caplog.text
    assert "made anew" in caplog.text


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("spoil", [damage_page, cut_off])
def test_feature_store_with_damaged_pages_is_made_anew(
    path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None]
) -> None:
    spoil(path)
    with FeatureStore(path, 64) as store:
        assert store.missing(NAMES) == tuple(NAMES)
        store.put(NAMES, VECTORS)
        assert np.array_equal(store.get(NAMES), VECTORS)
    assert "made anew" in caplog.text


def test_feature_store_damaged_while_open_says_what_to_do(path: Path) -> None:
    with FeatureStore(path, 64) as store:
        damage_page(path)
        with pytest.raises(InputError, match=r"damaged .*same command again"):
            store.get(NAMES)


@pytest.mark.parametrize(
    "change",
    [
        "SET vector = x'00'",
        "SET vector = zeroblob(256)",
        "SET vector = 'text'",
        "SET vector = NULL",
        "SET checksum = 0",
        "SET vector = (SELECT vector FROM features WHERE name = 'picture 1')",
    ],
)
def test_feature_store_takes_no_vector_that_is_not_what_was_put(path: Path, change: str) -> None:
    with sqlite3.connect(path) as database:
        database.execute(f"UPDATE features {change} WHERE name = 'picture 7'")
    database.close()
    with FeatureStore(path, 64) as store:
        with pytest.raises(InputError, match="'picture 7'"):
            store.get(["picture 7"])
        assert store.missing(NAMES) == ("picture 7",)
        store.put(["picture 7"], VECTORS[7:8])
        assert np.array_equal(store.get(NAMES), VECTORS)


def test_feature_store_takes_no_vector_of_another_width(path: Path) -> None:
    with FeatureStore(path, 32) as store:
        assert store.missing(NAMES) == tuple(NAMES)


def test_two_trainings_use_a_feature_store_at_once(tmp_path: Path) -> None:
    path, failed = tmp_path / "features.sqlite", []

    def train(order: slice) -> None:
        try:
            with FeatureStore(path, 64) as store:
                for i in range(0, 400, 16)[order]:
                    store.put(NAMES[i : i + 16], VECTORS[i : i + 16])
                    store.missing(NAMES)
                    store.get(NAMES[i : i + 16])
        except Exception as error:  # noqa: BLE001  # told by the test
            failed.append(error)

    threads = [threading.Thread(target=train, args=(slice(None, None, step),)) for step in (1, -1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with FeatureStore(path, 64) as store:
        assert np.array_equal(store.get(NAMES), VECTORS)


def test_feature_store_that_stays_locked_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_store, "_TIMEOUT_S", 0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(InputError, match=r"database is locked"), FeatureStore(path, 64) as store:
        store.put(NAMES[:1], VECTORS[:1])
    other.close()


def test_feature_store_on_a_full_disk_says_so(path: Path) -> None:
    with FeatureStore(path, 64) as store:
        store._database.execute("PRAGMA max_page_count = 1")
        with pytest.raises(InputError, match="disk is full"):
            store.put([f"more {name}" for name in NAMES], VECTORS)
        assert np.array_equal(store.get(NAMES), VECTORS)


def test_feature_store_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    (tmp_path / "features.sqlite").mkdir()
    with pytest.raises(InputError, match="unable to open"), FeatureStore(tmp_path / "features.sqlite", 64):
        pass
