"""The published schemas of budget.json and sensitivity.json are those of the code, and hold."""

import json
from pathlib import Path

import jsonschema
import pytest

from optimize.accuracy.budget_report import BUDGET, Budget
from optimize.accuracy.budget_stage import BudgetRequest
from optimize.accuracy.report_schemas import report_schemas
from optimize.accuracy.sensitivity_report import SENSITIVITY
from optimize.accuracy.sensitivity_stage import SensitivityRequest, measure_sensitivity
from optimize.stage import OptimizeRequest, optimize_folder

PUBLISHED = Path(__file__).resolve().parents[3] / "docs" / "reference"
BUDGET_SCHEMA, SENSITIVITY_SCHEMA = "budget.schema.json", "sensitivity.schema.json"


def test_published_schemas_are_those_of_the_code() -> None:
    assert set(report_schemas()) == {BUDGET_SCHEMA, SENSITIVITY_SCHEMA}
    for name, text in report_schemas().items():
        assert (PUBLISHED / name).read_text(encoding="utf-8") == text, name


def test_every_number_is_described() -> None:
    for text in report_schemas().values():
        for name, definition in json.loads(text)["$defs"].items():
            told = {key for key, value in definition["properties"].items() if "description" in value}
            assert told == set(definition["properties"]), name


def test_reports_satisfy_their_schemas_and_edited_ones_do_not(spoilt_folder: Path, many: Path) -> None:
    budget, recipes = BudgetRequest(Budget(5.0)), ("tensorrt_static_wi8_ai8",)
    optimize_folder(
        OptimizeRequest(spoilt_folder, recipes=recipes, data=str(many), samples=20, budget=budget)
    )
    measure_sensitivity(SensitivityRequest(spoilt_folder, str(many), 4))
    schemas = {name: json.loads(text) for name, text in report_schemas().items()}
    found = json.loads((spoilt_folder / BUDGET).read_text(encoding="utf-8"))
    jsonschema.validate(found, schemas[BUDGET_SCHEMA])
    found["outcomes"][0]["ladder"]["tries"][0]["stage"] = "guess"
    with pytest.raises(jsonschema.ValidationError, match="'guess'"):
        jsonschema.validate(found, schemas[BUDGET_SCHEMA])
    found = json.loads((spoilt_folder / SENSITIVITY).read_text(encoding="utf-8"))
    jsonschema.validate(found, schemas[SENSITIVITY_SCHEMA])
    del found["layers"][0]["macs"]
    with pytest.raises(jsonschema.ValidationError, match="'macs' is a required property"):
        jsonschema.validate(found, schemas[SENSITIVITY_SCHEMA])
