"""The published JSON Schema of results.json (`python -m benchmark.results_schema docs/reference`)."""

import sys
from pathlib import Path

from benchmark.measurement import SCHEMA_VERSION, Results
from edgepress.files import write_bytes
from edgepress.record_schema import published_schema

SCHEMA = "results.schema.json"


def results_schema() -> str:
    """Its text."""
    return published_schema(Results, "results", SCHEMA_VERSION)


if __name__ == "__main__":
    write_bytes(Path(sys.argv[1]) / SCHEMA, results_schema().encode())
