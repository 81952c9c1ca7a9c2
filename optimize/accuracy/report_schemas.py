"""JSON Schemas of both reports (`python -m optimize.accuracy.report_schemas docs/reference`)."""

import sys
from collections.abc import Mapping
from pathlib import Path

from edgepress.files import write_bytes
from edgepress.record_schema import published_schema
from optimize.accuracy import budget_report, sensitivity_report
from optimize.accuracy.budget_report import BudgetReport
from optimize.accuracy.sensitivity_report import SensitivityReport


def report_schemas() -> Mapping[str, str]:
    """Name of each file → its text."""
    return {
        "budget.schema.json": published_schema(BudgetReport, "accuracy budget", budget_report.SCHEMA_VERSION),
        "sensitivity.schema.json": published_schema(
            SensitivityReport, "sensitivity", sensitivity_report.SCHEMA_VERSION
        ),
    }


if __name__ == "__main__":
    for name, text in report_schemas().items():
        write_bytes(Path(sys.argv[1]) / name, text.encode())
