"""The published JSON Schema of parity.json (`python -m edgepress.parity.parity_schema docs/reference`)."""

import json
import sys
from pathlib import Path

from edgepress.files import write_bytes
from edgepress.parity.report import SCHEMA_VERSION, ParityReport
from edgepress.record_schema import json_schema

SCHEMA = "parity.schema.json"


def parity_schema() -> str:
    """Its text."""
    schema = json_schema(ParityReport)
    schema["title"] = f"edgepress parity, schema version {SCHEMA_VERSION}"
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    write_bytes(Path(sys.argv[1]) / SCHEMA, parity_schema().encode())
