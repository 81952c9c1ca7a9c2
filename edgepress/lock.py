"""One run at a time in a folder: the second one waits, and says so."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from edgepress.files import remove_leftovers

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Work in `folder` alone: wait for another run that works there, and say so.

    The lock is on the folder itself (flock), so it leaves no file behind, and the system releases it when
    its process ends, however it ends. What a killed run left half-written is removed: nobody else can be
    writing it. It must not be entered twice by one thread.

    Args:
        folder: Of artifacts. One that is not there is not locked: whoever looks into it will say so.
    """
    if not folder.is_dir():
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        _lock(handle, folder)
        remove_leftovers(folder)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path) -> None:
    """Take the lock, or warn where the file system has none."""
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        logger.warning("%s is in use by another run of edgepress; waiting until it has ended", folder)
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:  # some network file systems
        logger.warning(
            "%s cannot be locked (%s): do not run edgepress twice at once in it", folder, error.strerror
        )
