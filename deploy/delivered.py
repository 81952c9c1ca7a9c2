"""What lies where the bundle is to go: the same bundle, an older one, or something else."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.runtime.verify import Damaged, Unreadable, check_files
from edgepress.errors import InputError
from edgepress.manifest import Manifest

BUNDLE_MANIFEST = "manifest.json"
_MARKS = {
    "schema_version",
    "key",
    "target",
    "golden",
    "files",
}  # no manifest.json but a bundle's has them all


def place_of(out: Path) -> Path:
    """The same place with a name of its own: `.` and `..` have none."""
    return out.parent.resolve() / out.name if out.name not in {"", ".."} else out.resolve()


def is_current(out: Path, key: str) -> bool:
    """Whether a bundle made from the same things is there, and its own verify.py has no objection."""
    value = _manifest_of(out)
    return value is not None and value.get("key") == key and _objection(out) is None


def require_place(out: Path, manifest: Manifest) -> None:
    """Only what edgepress wrote itself, byte for byte, is replaced; nothing is touched here.

    Raises:
        InputError: Something else is there, or the place is inside an artifact.
    """
    for artifact in manifest.artifacts:
        path = manifest.path_of(artifact).resolve()
        if path.is_dir() and out.resolve().is_relative_to(path):
            raise InputError(f"{out} is inside the artifact {artifact.id}. Give another --out.")
    try:
        reason = _foreign(out)
    except OSError as error:
        raise InputError(f"{out} cannot be looked at ({error.strerror}). Give another --out.") from error
    if reason is not None:
        raise InputError(
            f"{out} {reason}. Nothing in it was touched: give another --out, or move it away yourself."
        )


def _foreign(out: Path) -> str | None:
    """Why what is there is not edgepress' to remove; None if it is, or if nothing is there."""
    if out.is_symlink():
        return "is a symbolic link"
    if not out.exists():
        return None
    if not out.is_dir():
        return "is a file"
    if not any(out.iterdir()):
        return None
    if _manifest_of(out) is None:
        return "is there and is no bundle"
    objection = _objection(out)
    return None if objection is None else f"is a bundle that was changed since ({objection})"


def _manifest_of(out: Path) -> Mapping[str, Any] | None:
    """The manifest of a bundle; None if there is none, or one of something else."""
    try:
        value = json.loads((out / BUNDLE_MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and set(value) >= _MARKS else None


def _objection(out: Path) -> str | None:
    """What a bundle's own verify.py says of the files; None if they are as they were delivered."""
    try:
        check_files(out)
    except (Damaged, Unreadable) as error:
        return str(error)
    return None
