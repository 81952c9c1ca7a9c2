import json

from edgepress.seal import is_sealed, sealed

VALUE = {"b": [1, 2.5, None], "a": {"x": "é"}}


def test_a_sealed_object_survives_its_file_and_the_order_of_its_keys() -> None:
    found = json.loads(json.dumps(sealed(VALUE)))
    assert is_sealed(found)
    assert is_sealed(dict(reversed(found.items())))
    assert sealed(found) == found


def test_an_object_that_was_changed_is_not_sealed() -> None:
    found = sealed(VALUE)
    assert not is_sealed({**found, "b": [1, 2.5, 0]})
    assert not is_sealed({**found, "c": 1})
    assert not is_sealed(VALUE)
    assert not is_sealed({**found, "sha256": "0" * 64})
