"""The published JSON Schema of gpu-check.json.

`python -m edgepress.cli.gpu_check.gpu_check_schema docs/reference` writes it.
"""

import json
import sys
from pathlib import Path

from edgepress.cli.gpu_check.report import SCHEMA_VERSION, GpuCheck
from edgepress.files import write_bytes
from edgepress.record_schema import json_schema

SCHEMA = "gpu-check.schema.json"


def gpu_check_schema() -> str:
    """Its text."""
    schema = json_schema(GpuCheck)
    schema["title"] = f"edgepress gpu-check, schema version {SCHEMA_VERSION}"
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    write_bytes(Path(sys.argv[1]) / SCHEMA, gpu_check_schema().encode())
