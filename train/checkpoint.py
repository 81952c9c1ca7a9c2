"""The state of an unfinished training on disk, written after each epoch."""

import io
import json
import logging
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.files import write_bytes
from edgepress.record import from_json, to_json
from train.history import History, Phase

logger = logging.getLogger(__name__)

Arrays = tuple[NDArray[Any], ...]


@dataclass(frozen=True)
class Checkpoint:
    """Everything that the next epoch depends on.

    Attributes:
        key: SHA-256 of everything that the training depends on.
        history: Of the epochs that are done.
        current: All variables of the model and of its optimizer, after the last epoch.
        best: The variables of the model after the best epoch.
    """

    key: str
    history: History
    current: Arrays
    best: Arrays

    def save(self, path: Path) -> None:
        """Write the checkpoint atomically."""
        content = io.BytesIO()
        head = json.dumps({"key": self.key, "history": to_json(self.history)})
        arrays: dict[str, Any] = {"head": np.frombuffer(head.encode(), np.uint8)}
        arrays |= {f"current_{i}": array for i, array in enumerate(self.current)}
        arrays |= {f"best_{i}": array for i, array in enumerate(self.best)}
        np.savez(content, **arrays)
        write_bytes(path, content.getvalue())


@dataclass(frozen=True)
class Unfinished:
    """Where the state between epochs is kept, and what an interrupted training has left there.

    Attributes:
        path: The file.
        key: SHA-256 of everything that the training depends on.
        found: The state that it goes on from, or None.
    """

    path: Path
    key: str
    found: Checkpoint | None

    def of(self, phase: Phase) -> Checkpoint | None:
        """The state that this phase goes on from; None where another phase was interrupted, or none."""
        return self.found if self.found is not None and self.found.history.phase is phase else None

    def save(self, history: History, current: Arrays, best: Arrays) -> None:
        """Keep the state after an epoch."""
        Checkpoint(self.key, history, current, best).save(self.path)

    def remove(self) -> None:
        """Forget the state."""
        self.path.unlink(missing_ok=True)


def read_checkpoint(path: Path, key: str) -> Checkpoint | None:
    """The checkpoint of the same training, or None: there is none, or it is damaged or of another one."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:
            head = json.loads(archive["head"].tobytes())
            if head["key"] != key:
                logger.warning(
                    "an unfinished training of other pictures or settings is dropped, and this one begins"
                )
                return None
            history = from_json(History, head["history"])
            return Checkpoint(key, history, _numbered(archive, "current_"), _numbered(archive, "best_"))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        logger.warning("%s is damaged (%s); the training starts anew", path, error)
        return None


def _numbered(archive: Any, prefix: str) -> Arrays:
    count = sum(name.startswith(prefix) for name in archive.files)
    return tuple(archive[f"{prefix}{i}"] for i in range(count))


def values_of(variables: Sequence[Any]) -> Arrays:
    """Copies of the values of Keras variables."""
    return tuple(np.array(variable.value.numpy()) for variable in variables)


def assign(variables: Sequence[Any], values: Arrays) -> None:
    """Put values back into the variables that they came from."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
