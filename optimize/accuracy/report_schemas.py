"""JSON Schemas of both reports (`python -m optimize.accuracy.report_schemas docs/reference`)."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from edgepress.files import write_bytes
from edgepress.record_schema import json_schema
from optimize.accuracy import budget_report, sensitivity_report
from optimize.accuracy.budget_report import BudgetReport
from optimize.accuracy.sensitivity_report import SensitivityReport


def report_schemas() -> Mapping[str, str]:
    """Name of each file → its text."""
    return {
        "budget.schema.json": _text(BudgetReport, "accuracy budget", budget_report.SCHEMA_VERSION),
        "sensitivity.schema.json": _text(SensitivityReport, "sensitivity", sensitivity_report.SCHEMA_VERSION),
    }


def _text(kind: type, what: str, version: int) -> str:
    schema = json_schema(kind)
    schema["title"] = f"edgepress {what}, schema version {version}"
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, text in report_schemas().items():
        write_bytes(Path(sys.argv[1]) / name, text.encode())
