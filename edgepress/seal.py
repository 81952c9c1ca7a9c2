"""A JSON object that says by itself whether it was changed since it was written."""

from collections.abc import Mapping
from typing import Any

from edgepress.files import sha256_of_json

SEAL = "sha256"


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """The object with the SHA-256 of its canonical form as its last field.

    It is no signature: it shows accidents and edits, not forgery.
    """
    bare = {name: item for name, item in value.items() if name != SEAL}
    return {**bare, SEAL: sha256_of_json(bare)}


def is_sealed(value: Mapping[str, Any]) -> bool:
    """Whether an object is as `sealed` gave it."""
    return bool(value.get(SEAL) == sealed(value)[SEAL])
