"""The published JSON Schema of results.json (`python -m benchmark.results_schema docs/reference`)."""

import json
import sys
from pathlib import Path

from benchmark.measurement import SCHEMA_VERSION, Results
from edgepress.files import write_bytes
from edgepress.record_schema import json_schema

SCHEMA = "results.schema.json"


def results_schema() -> str:
    """Its text."""
    schema = json_schema(Results)
    schema["title"] = f"edgepress results, schema version {SCHEMA_VERSION}"
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    write_bytes(Path(sys.argv[1]) / SCHEMA, results_schema().encode())
