"""Feature vectors on disk: what went through the convolutions once need not go through them again."""

import logging
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from edgepress.errors import InputError
from edgepress.files import make_folder

logger = logging.getLogger(__name__)

_TIMEOUT_S = 60.0  # for another training's transaction, which lasts as long as a batch takes to write
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_TABLE = "CREATE TABLE IF NOT EXISTS features (name TEXT PRIMARY KEY, vector BLOB, checksum INTEGER)"
_ONE = "SELECT vector, checksum FROM features WHERE name = ?"


class FeatureStore:
    """Vectors by name, in one SQLite file, which survives whatever ends the process.

    Several trainings may use one file at once. Each vector has a checksum; one that does not fit counts as
    missing. A damaged file is made anew.

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
            InputError: It cannot be opened or written.
        """
        make_folder(self._path.parent)
        with self._told():
            self._database = self._opened()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._database.close()

    def missing(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those names, in order, that have no sound vector yet.

        Raises:
            InputError: The file cannot be read.
        """
        names = tuple(names)
        with self._told():
            try:
                return tuple(name for name in names if self._vector(name) is None)
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                self._database.close()
                self._database = self._anew(error)
                return names

    def put(self, names: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Keep a vector for each name, all or none of them.

        Args:
            names: Of the vectors.
            vectors: (N, width) float32.

        Raises:
            InputError: They cannot be written: a full disk, or another program keeps the file locked.
        """
        blobs = [np.ascontiguousarray(vector, "<f4").tobytes() for vector in vectors]
        rows = [(name, blob, _checksum(name, blob)) for name, blob in zip(names, blobs, strict=True)]
        with self._told(), self._database:
            self._database.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?)", rows)

    def get(self, names: Sequence[str]) -> NDArray[np.float32]:
        """(N, width) float32: the vectors of these names, which were put or are not `missing`.

        Raises:
            InputError: The file cannot be read, or a vector is not there as it was put.
        """
        found = np.empty((len(names), self._width), np.float32)
        with self._told():
            for row, name in enumerate(names):
                if (vector := self._vector(name)) is None:
                    raise InputError(
                        f"The cached features in {self._path} are damaged (those of {name!r}). Give the same "
                        "command again, or remove the file."
                    )
                found[row] = vector
        return found

    def _vector(self, name: str) -> NDArray[np.float32] | None:
        """The vector of a name, or None: there is none, or not the one that was put."""
        blob, checksum = self._database.execute(_ONE, (name,)).fetchone() or (None, None)
        if not isinstance(blob, bytes) or len(blob) != 4 * self._width or _checksum(name, blob) != checksum:
            return None
        return np.frombuffer(blob, "<f4")

    def _opened(self) -> sqlite3.Connection:
        try:
            return self._connected()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            return self._anew(error)

    def _connected(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=_TIMEOUT_S)
        try:
            database.execute(_TABLE)
        except BaseException:
            database.close()
            raise
        return database

    def _anew(self, error: sqlite3.DatabaseError) -> sqlite3.Connection:
        logger.warning("%s is damaged (%s); the features are made anew", self._path, error)
        for path in (self._path, self._path.with_name(f"{self._path.name}-journal")):
            path.unlink(missing_ok=True)
        return self._connected()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn whatever SQLite or the file system says into one line."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if _is_damage(error):
                raise InputError(
                    f"The cached features in {self._path} are damaged ({error}). Give the same command "
                    "again, or remove the file."
                ) from error
            raise InputError(
                f"The cached features in {self._path} cannot be used ({error}). Free some disk, end what "
                "keeps the file open, or remove it."
            ) from error


def _is_damage(error: BaseException) -> bool:
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    return code & 0xFF in _DAMAGED  # the lower byte of an extended code is the code


def _checksum(name: str, blob: bytes) -> int:
    """Of a vector and of the name that it belongs to."""
    return zlib.crc32(blob, zlib.crc32(name.encode()))
