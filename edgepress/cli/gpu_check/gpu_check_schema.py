"""The published JSON Schema of gpu-check.json.

`python -m edgepress.cli.gpu_check.gpu_check_schema docs/reference` writes it.
"""

import sys
from pathlib import Path

from edgepress.cli.gpu_check.report import SCHEMA_VERSION, GpuCheck
from edgepress.files import write_bytes
from edgepress.record_schema import published_schema

SCHEMA = "gpu-check.schema.json"


def gpu_check_schema() -> str:
    """Its text."""
    return published_schema(GpuCheck, "gpu-check", SCHEMA_VERSION)


if __name__ == "__main__":
    write_bytes(Path(sys.argv[1]) / SCHEMA, gpu_check_schema().encode())
