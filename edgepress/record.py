"""Frozen dataclasses to and from JSON, checked against their own type hints.

A class whose JSON says more than its fields (`Preprocessing`) has its own methods `to_json` and `from_json`.
"""

import dataclasses
import types
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from edgepress.errors import InputError
from edgepress.files import read_json

Record = TypeVar("Record")


def to_json(value: Any) -> Any:
    """A dataclass (nested, with enums, tuples and mappings) as JSON's own types."""
    if hasattr(value, "to_json"):
        return value.to_json()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    return value


def from_json(kind: type[Record], value: Any) -> Record:
    """The inverse of `to_json`.

    Raises:
        ValueError: A field is missing, unknown, or of another type than its hint; the text names it.
    """
    if not isinstance(value, dict):
        raise ValueError(  # noqa: TRY004  # a wrong file, not a wrong call
            f"wanted an object for {kind.__name__}, got {type(value).__name__}"
        )
    own = getattr(kind, "from_json", None)
    if own is not None:
        return cast("Record", own(value))
    hints = get_type_hints(kind)
    if set(value) != set(hints):
        odd = ", ".join(sorted(set(value) ^ set(hints)))
        raise ValueError(f"{kind.__name__}: missing or unknown fields: {odd}")
    return kind(**{name: _read(hints[name], value[name], f"{kind.__name__}.{name}") for name in hints})


def read_record(path: Path, kind: type[Record], what: str, version: int, remedy: str) -> Record:
    """Read a dataclass that has a `schema_version` from a JSON file.

    Args:
        path: Of the file.
        kind: The dataclass.
        what: What the file is called in messages, e.g. "parity report".
        version: That this edgepress reads.
        remedy: What to do where it cannot be read: a sentence.

    Raises:
        InputError: There is none, or it is of another schema version or damaged.
    """
    value = read_json(path, what)
    found = value.get("schema_version") if isinstance(value, dict) else None
    if found != version:
        raise InputError(f"{path} has schema version {found}, wanted {version}. {remedy}")
    try:
        return from_json(kind, value)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error!r}). {remedy}") from error


def _read(hint: Any, value: Any, where: str) -> Any:
    origin = get_origin(hint)
    if origin in {Union, types.UnionType}:
        return None if value is None else _read(get_args(hint)[0], value, where)
    if origin is tuple:
        return _read_tuple(get_args(hint), value, where)
    if origin is Mapping:
        return _read_mapping(get_args(hint)[1], value, where)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_json(hint, value)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(value)
    if hint is float and type(value) is int:
        value = float(value)
    return _of_type(hint, value, where)


def _read_tuple(items: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    values = _of_type(list, value, where)
    hints = (items[0],) * len(values) if items[-1] is Ellipsis else items
    if len(hints) != len(values):
        raise ValueError(f"{where}: wanted {len(hints)} values, got {len(values)}")
    return tuple(_read(hint, item, where) for hint, item in zip(hints, values, strict=True))


def _read_mapping(kind: Any, value: Any, where: str) -> dict[str, Any]:
    values: dict[str, Any] = _of_type(dict, value, where)
    return values if kind is Any else {k: _read(kind, v, f"{where}[{k!r}]") for k, v in values.items()}


def _of_type(kind: type, value: Any, where: str) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{where}: wanted {kind.__name__}, got {type(value).__name__}")
    return value
