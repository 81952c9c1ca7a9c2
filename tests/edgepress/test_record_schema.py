from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import jsonschema
import pytest

from edgepress.record import to_json
from edgepress.record_schema import json_schema


class Colour(str, Enum):
    RED = "red"


@dataclass(frozen=True)
class Inner:
    """A pair."""

    pair: tuple[float, float]


@dataclass(frozen=True)
class Outer:
    """A record.

    Attributes:
        count: How many: at least
            one.
        colour: Of it.
    """

    count: int
    colour: Colour
    inner: Inner | None
    many: tuple[int, ...]
    extra: Mapping[str, Any]
    shares: Mapping[str, float]


VALUE = Outer(3, Colour.RED, Inner((1.0, 2.0)), (1, 2), {"a": [1]}, {"fp32": 1.0})


def test_schema_accepts_what_to_json_writes() -> None:
    schema = json_schema(Outer)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(to_json(VALUE), schema)
    jsonschema.validate({**to_json(VALUE), "inner": None}, schema)


@pytest.mark.parametrize(
    "change",
    [
        {"count": "3"},
        {"colour": "blue"},
        {"inner": {"pair": [1]}},
        {"many": [1, None]},
        {"shares": {"fp32": "all"}},
        {"stranger": 1},
    ],
)
def test_schema_refuses_what_from_json_refuses(change: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**to_json(VALUE), **change}, json_schema(Outer))


def test_schema_describes_fields_by_their_docstring() -> None:
    found = json_schema(Outer)["$defs"]["Outer"]
    assert found["description"] == "A record."
    assert found["properties"]["count"]["description"] == "How many: at least one."
    assert "description" not in found["properties"]["many"]


def test_schema_of_what_has_no_json_form_is_refused() -> None:
    @dataclass(frozen=True)
    class Odd:
        value: bytes

    with pytest.raises(TypeError, match="bytes"):
        json_schema(Odd)
