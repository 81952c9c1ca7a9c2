"""JSON Schema (draft 2020-12) of a frozen dataclass, from the type hints that `edgepress.record` reads by."""

import dataclasses
import json
import types
from collections.abc import Mapping
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PRIMITIVE = {int: "integer", float: "number", str: "string", bool: "boolean"}


def json_schema(kind: type) -> dict[str, Any]:
    """The schema of what `edgepress.record.to_json` gives for a dataclass.

    Each dataclass below it becomes a definition with the first line of its docstring; the attributes' own
    descriptions are taken from its section "Attributes".

    Args:
        kind: A frozen dataclass whose fields `edgepress.record.from_json` can read.

    Raises:
        TypeError: A field has a type that has no JSON form here.
    """
    definitions: dict[str, Any] = {}
    root = _of(kind, definitions)
    return {"$schema": _DIALECT, "title": kind.__name__, **root, "$defs": dict(sorted(definitions.items()))}


def published_schema(kind: type, what: str, version: int) -> str:
    """The text of a file's schema, as docs/reference has it.

    Args:
        kind: Of the file's content, see `json_schema`.
        what: The file is, e.g. "results".
        version: Of its form.
    """
    schema = {**json_schema(kind), "title": f"edgepress {what}, schema version {version}"}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _of(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return {}
    if origin in {Union, types.UnionType}:
        return {"anyOf": [_of(arguments[0], definitions), {"type": "null"}]}
    if origin is tuple:
        return _of_tuple(arguments, definitions)
    if origin is Mapping:
        return {"type": "object", "additionalProperties": _of(arguments[1], definitions)}
    return _of_class(hint, definitions)


def _of_tuple(items: tuple[Any, ...], definitions: dict[str, Any]) -> dict[str, Any]:
    if items[-1] is Ellipsis:
        return {"type": "array", "items": _of(items[0], definitions)}
    parts = [_of(item, definitions) for item in items]
    return {"type": "array", "prefixItems": parts, "minItems": len(parts), "maxItems": len(parts)}


def _of_class(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if hint in _PRIMITIVE:
        return {"type": _PRIMITIVE[hint]}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {"enum": [member.value for member in hint]}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if hint.__name__ not in definitions:
            definitions[hint.__name__] = {}  # a dataclass that holds itself ends here
            definitions[hint.__name__] = _of_dataclass(hint, definitions)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    raise TypeError(f"{hint!r} has no JSON Schema")


def _of_dataclass(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    hints, told = get_type_hints(kind), _attributes(kind)
    properties = {
        name: {**_of(hint, definitions), **({"description": told[name]} if name in told else {})}
        for name, hint in hints.items()
    }
    return {
        "type": "object",
        "description": (kind.__doc__ or "").split("\n", maxsplit=1)[0],
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _attributes(kind: type) -> dict[str, str]:
    """Name → description, from the section "Attributes" of a Google-style docstring."""
    _, found, section = (kind.__doc__ or "").partition("Attributes:\n")
    told: dict[str, str] = {}
    name = ""
    for line in section.splitlines() if found else []:
        head, colon, text = line.strip().partition(": ")
        if colon and head.isidentifier():
            name = head
            told[name] = text
        elif name and line.strip():
            told[name] += " " + line.strip()
    return told
