import json
from pathlib import Path

import jsonschema
import pytest

from benchmark.measurement import RESULTS, SCHEMA_VERSION, Results
from benchmark.results_schema import SCHEMA, results_schema

PUBLISHED = Path(__file__).resolve().parents[2] / "docs" / "reference" / SCHEMA


def test_published_schema_is_that_of_the_code() -> None:
    assert PUBLISHED.read_text(encoding="utf-8") == results_schema()
    assert f"schema version {SCHEMA_VERSION}" in results_schema()


def test_results_json_satisfies_the_published_schema(measured_tiny: Results, tmp_path: Path) -> None:
    schema = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    measured_tiny.save(tmp_path)
    value = json.loads((tmp_path / RESULTS).read_text(encoding="utf-8"))
    jsonschema.validate(value, schema)
    value["results"][0]["latency"]["median_ns"] = "fast"
    with pytest.raises(jsonschema.ValidationError, match="'fast'"):
        jsonschema.validate(value, schema)


def test_every_number_of_a_row_is_described() -> None:
    """What a reader of results.json needs to know stands in the schema."""
    definitions = json.loads(results_schema())["$defs"]
    told = {name: set(definitions[name]["properties"]) for name in ("Latency", "Accuracy", "Speedup")}
    for name, properties in told.items():
        described = {p for p in properties if "description" in definitions[name]["properties"][p]}
        assert described == properties, name
