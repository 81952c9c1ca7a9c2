import logging
import subprocess
import sys
from pathlib import Path

import pytest

from edgepress.cli.console import LineProgress

ROOT = Path(__file__).resolve().parents[3]


def test_native_noise_hidden_keeps_pythons_output_and_drops_the_frameworks() -> None:
    code = (
        "import os, sys\n"
        "from edgepress.cli.console import native_noise_hidden\n"
        "with native_noise_hidden():\n"
        "    os.write(1, b'noise'); os.write(2, b'noise')\n"
        "    os.system('echo child; echo child >&2')\n"
        "    print('result'); print('log', file=sys.stderr)\n"
        "os.write(1, b'after')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "result\nafter"
    assert done.stderr == "log\n"


def test_native_noise_hidden_still_shows_a_crash() -> None:
    code = (
        "import faulthandler\n"
        "from edgepress.cli.console import native_noise_hidden\n"
        "with native_noise_hidden(): faulthandler._sigabrt()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode != 0
    assert "Fatal Python error: Aborted" in done.stderr


def test_line_progress_logs_the_start_and_the_end_but_not_every_unit(
    caplog: pytest.LogCaptureFixture,
) -> None:
    progress = LineProgress()
    with caplog.at_level(logging.INFO, logger="edgepress.cli.console"):
        for done in range(1, 101):
            progress("calibrate", done, 100)
    assert [record.getMessage() for record in caplog.records] == [
        "calibrate: 1 of 100",
        "calibrate: 100 of 100",
    ]
