"""The published JSON Schema of parity.json (`python -m edgepress.parity.parity_schema docs/reference`)."""

import sys
from pathlib import Path

from edgepress.files import write_bytes
from edgepress.parity.report import SCHEMA_VERSION, ParityReport
from edgepress.record_schema import published_schema

SCHEMA = "parity.schema.json"


def parity_schema() -> str:
    """Its text."""
    return published_schema(ParityReport, "parity", SCHEMA_VERSION)


if __name__ == "__main__":
    write_bytes(Path(sys.argv[1]) / SCHEMA, parity_schema().encode())
