"""Feature vectors on disk: what went through the convolutions once need not go through them again."""

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from edgepress.errors import InputError
from edgepress.files import make_folder


class FeatureStore:
    """Vectors by name, in one SQLite file, which survives whatever ends the process.

    Args:
        path: The file; made if it is not there.
        width: Length of every vector.
    """

    def __init__(self, path: Path, width: int) -> None:
        self._path = path
        self._width = width

    def __enter__(self) -> "FeatureStore":
        """Open the file.

        Raises:
            InputError: It cannot be opened or is damaged.
        """
        make_folder(self._path.parent)
        self._database = sqlite3.connect(self._path, timeout=60)
        try:
            self._database.execute("CREATE TABLE IF NOT EXISTS features (name TEXT PRIMARY KEY, vector BLOB)")
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise InputError(
                f"The cached features in {self._path} cannot be read ({error}). Remove the file."
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._database.close()

    def missing(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those names, in order, that have no vector yet."""
        known = {name for (name,) in self._database.execute("SELECT name FROM features")}
        return tuple(name for name in names if name not in known)

    def put(self, names: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Keep a vector for each name, all or none of them.

        Args:
            names: Of the vectors.
            vectors: (N, width) float32.
        """
        rows = [
            (name, np.ascontiguousarray(v, np.float32).tobytes())
            for name, v in zip(names, vectors, strict=True)
        ]
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO features VALUES (?, ?)", rows)

    def get(self, names: Sequence[str]) -> NDArray[np.float32]:
        """(N, width) float32: the vectors of these names, which must be there."""
        found = np.empty((len(names), self._width), np.float32)
        for row, name in enumerate(names):
            (blob,) = self._database.execute("SELECT vector FROM features WHERE name = ?", (name,)).fetchone()
            found[row] = np.frombuffer(blob, np.float32)
        return found
