import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import pytest

from edgepress.record import from_json, to_json


class Colour(str, Enum):
    RED = "red"


@dataclass(frozen=True)
class Inner:
    pair: tuple[float, float]


@dataclass(frozen=True)
class OwnForm:
    """Its JSON says more than its fields."""

    side: int

    def to_json(self) -> dict[str, int]:
        return {"side": self.side, "area": self.side**2}

    @classmethod
    def from_json(cls, value: Mapping[str, int]) -> "OwnForm":
        return cls(value["side"])


@dataclass(frozen=True)
class Outer:
    count: int
    share: float
    colour: Colour
    inner: Inner | None
    many: tuple[int, ...]
    extra: Mapping[str, Any]
    shares: Mapping[str, float]
    own: OwnForm


VALUE = Outer(3, 0.5, Colour.RED, Inner((1.0, 2.0)), (1, 2, 3), {"a": [1]}, {"fp32": 1.0}, OwnForm(3))


def test_from_json_is_the_inverse_of_to_json() -> None:
    assert from_json(Outer, json.loads(json.dumps(to_json(VALUE)))) == VALUE
    assert to_json(VALUE)["own"] == {"side": 3, "area": 9}
    assert from_json(Outer, {**to_json(VALUE), "inner": None}).inner is None


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("count", "3", "Outer.count: wanted int, got str"),
        ("count", True, "Outer.count: wanted int, got bool"),
        ("share", None, "Outer.share: wanted float"),
        ("colour", "blue", "'blue' is not a valid Colour"),
        ("many", 1, "Outer.many: wanted list"),
        ("inner", {"pair": [1]}, "Inner.pair: wanted 2 values, got 1"),
        ("inner", [], "wanted an object for Inner"),
        ("shares", {"fp32": "all"}, r"Outer.shares\['fp32'\]: wanted float, got str"),
        ("own", 3, "wanted an object for OwnForm"),
        ("stranger", 1, "missing or unknown fields: stranger"),
    ],
)
def test_from_json_names_what_is_wrong(field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_json(Outer, {**to_json(VALUE), field: value})
