"""Lines of tegrastats. All are made by hand after NVIDIA's documentation; none was recorded on a Jetson."""

import os
from pathlib import Path

import pytest

from edgepress.doctor.fact import Unknown
from edgepress.doctor.tegrastats import TegraLine, one_line, parsed

MIB = 1 << 20
HANDMADE = {
    "JetPack 6, Orin": (
        "11-27-2026 10:00:00 RAM 3215/7620MB (lfb 4x2MB) SWAP 0/3810MB (cached 0MB) "
        "CPU [12%@1510,0%@1510,off,off] EMC_FREQ 3%@2133 GR3D_FREQ 99%@[624] cpu@50.1C gpu@49.5C "
        "VDD_IN 7040mW/6500mW VDD_CPU_GPU_CV 2100mW/1900mW VDD_SOC 1500mW/1480mW",
        TegraLine(3215 * MIB, 0.99, 624, 2133, 7040),
    ),
    "two clusters, GPU rail only": (
        "RAM 9000/30536MB (lfb 5x4MB) GR3D_FREQ 50%@[1300,1298] VDD_GPU_SOC 5023mW/4823mW",
        TegraLine(9000 * MIB, 0.5, 1300, None, 5023),
    ),
    "JetPack 4, Nano": (
        "RAM 1903/3964MB (lfb 2x1MB) EMC_FREQ 12%@1600 GR3D_FREQ 0%@76 POM_5V_IN 2000/2100 POM_5V_GPU 80/80",
        TegraLine(1903 * MIB, 0.0, 76, 1600, 2000),
    ),
    "without a clock": ("RAM 1/2MB GR3D_FREQ 7%", TegraLine(MIB, 0.07, None, None, None)),
    "something else": ("nothing of the kind", TegraLine(None, None, None, None, None)),
}


@pytest.mark.parametrize("name", HANDMADE)
def test_parsed(name: str) -> None:
    line, found = HANDMADE[name]
    assert parsed(line) == found


def program(folder: Path, script: str) -> str:
    path = folder / "tegrastats"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_one_line_of_a_program_that_never_ends(tmp_path: Path) -> None:
    line, found = HANDMADE["JetPack 6, Orin"]
    assert one_line(1.0, program(tmp_path, f"echo '{line}'; exec sleep 60")) == found


def test_one_line_says_why_there_is_none(tmp_path: Path) -> None:
    assert one_line(1.0, str(tmp_path)) == Unknown("tegrastats is not there: this is no Jetson")
    assert one_line(1.0, program(tmp_path, "exit 1")) == Unknown("tegrastats wrote nothing")
