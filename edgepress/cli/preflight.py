"""What `make` needs, checked in one line before anything starts.

Run as a file by whatever Python the machine has, before anything is installed: standard library only,
and syntax that a Python too old for edgepress can still read.
"""

import importlib.util
import os
import shutil
import sys
from typing import Dict, List, Tuple

OLDEST, NEWEST = (3, 11), (3, 13)
ENVIRONMENT_BYTES = 4 * 10**9  # TensorFlow, TensorRT-RTX and the other runtimes, installed
FULL_SIZE_BYTES = 55 * 10**8  # full VGG16 in all versions is 4.6 GB, and one more file while it is written
SMALL_BYTES = 3 * 10**8
SMALL_MODEL = "vgg16-digits"


def missing(model: str, weights: str, data: str, out: str, environment: str, needs_data: str) -> List[str]:
    """All that is missing, as a list of clauses; empty when `make` can start.

    Args:
        model: As given to `edgepress export`; "" where the job file names it.
        weights: A weights file, "imagenet", "random" or "".
        data: "digits", a path, or "".
        out: Folder that will take the artifacts.
        environment: Folder of the virtual environment, which may not exist yet.
        needs_data: Not empty if pictures will be read (export alone needs none).
    """
    clauses = []
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        clauses.append(
            "Python %d.%d to %d.%d is needed and %s is %d.%d (name another one: make PYTHON=python3.11)"
            % (OLDEST + NEWEST + (sys.executable,) + sys.version_info[:2])
        )
    if not all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")):
        clauses.append("Python's venv module is missing (Debian and Ubuntu: apt install python3-venv)")
    model = model or SMALL_MODEL  # a job file is read, and its model checked, once edgepress is installed
    if model != SMALL_MODEL and not model.endswith(".keras") and model != "vgg16":
        clauses.append("MODEL=%s is neither vgg16, vgg16-digits nor a .keras file" % model)
    if model.endswith(".keras") and not os.path.isfile(model):
        clauses.append("MODEL=%s does not exist (check the path)" % model)
    if weights not in ("", "imagenet", "random") and not os.path.isfile(weights):
        clauses.append("WEIGHTS=%s does not exist (check the path)" % weights)
    if needs_data and not data and model != SMALL_MODEL:
        clauses.append("DATA= is needed for MODEL=%s (an image folder class/*.jpg, or an .npz)" % model)
    if data not in ("", "digits") and not os.path.exists(data):
        clauses.append("DATA=%s does not exist (check the path)" % data)
    return clauses + _disk(model, out, environment)


def _disk(model: str, out: str, environment: str) -> List[str]:
    """What lacks on the disks of the environment and of the artifacts."""
    needs: Dict[int, Tuple[str, int]] = {}
    model_bytes = SMALL_BYTES if model == SMALL_MODEL else FULL_SIZE_BYTES
    wanted = [(out, 0 if os.path.exists(os.path.join(out, "manifest.json")) else model_bytes)]
    if not os.path.exists(environment):
        wanted.append((environment, ENVIRONMENT_BYTES))
    for path, needed in wanted:
        folder = os.path.abspath(path)
        while not os.path.exists(folder):
            folder = os.path.dirname(folder)
        device = os.stat(folder).st_dev
        needs[device] = (folder, needs.get(device, ("", 0))[1] + needed)
    clauses = []
    for folder, needed in needs.values():
        free = shutil.disk_usage(folder).free
        if free < needed:
            clauses.append(
                "%.1f GB of disk are needed and %s has %.1f GB free (free some, or give another OUT=)"
                % (needed / 1e9, folder, free / 1e9)
            )
    return clauses


if __name__ == "__main__":
    found = missing(*sys.argv[1:7])
    if found:
        sys.exit("edgepress: cannot start: " + "; ".join(found))
