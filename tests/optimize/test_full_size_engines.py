"""Full-size VGG16, really built by TensorRT-RTX: three precisions for four GPU generations, and for all.

Nothing is run: there is no GPU. What is proven is that parser and builder take the files, that a plan is as
large as its precision says, and what building costs.
"""

import importlib.util
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgepress.manifest import Manifest
from optimize.onnx_fp16_from_fp32 import onnx_fp16_from_fp32
from optimize.onnx_tensorrt_qdq_from_fp32 import onnx_tensorrt_qdq_from_fp32
from tests.optimize.ranges import ranges_of_onnx
from tests.performance.whole_process import Cost, cost_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed"
    ),
]

PRECISIONS = {"fp32": 1, "fp16": 1 / 2, "int8": 1 / 4}  # and share of FP32's size
CAPABILITIES = ("sm80", "sm86", "sm89", "sm120", "all")

# One process for all: loading TensorRT-RTX and parsing cost as much as building.
BUILD = """
import json, pathlib, sys
from edgepress.target import ComputeCapability
from optimize.engine_from_onnx import engine_from_onnx, tensorrt_rtx

trt, folder, sizes = tensorrt_rtx(), pathlib.Path(sys.argv[1]), {}
for source in sorted(folder.glob("*.onnx")):
    for name in sys.argv[2:]:
        plan = folder / f"{source.stem}-{name}.plan"
        engine_from_onnx(trt, source, plan, ComputeCapability(name))
        sizes[plan.stem] = plan.stat().st_size
        plan.unlink()
(folder / "sizes.json").write_text(json.dumps(sizes))
"""


@dataclass(frozen=True)
class Built:
    """What was built from full-size VGG16, in one process.

    Attributes:
        folder: Of the ONNX files; plans are gone.
        sizes: Bytes of each plan by (precision, capability).
        cost: Of the process.
    """

    folder: Path
    sizes: Mapping[tuple[str, str], int]
    cost: Cost


@pytest.fixture(scope="module")
def built(vgg16_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """All plans."""
    folder = tmp_path_factory.mktemp("engines")
    source = vgg16_folder / Manifest.load(vgg16_folder).get("onnx-fp32").path
    (folder / "fp32.onnx").symlink_to(source)
    onnx_fp16_from_fp32(source, folder / "fp16.onnx", None)
    noise = np.random.default_rng(0).uniform(-120, 120, (1, 224, 224, 3)).astype(np.float32)
    onnx_tensorrt_qdq_from_fp32(source, folder / "int8.onnx", ranges_of_onnx(source, [noise], 1))
    cost = cost_of(("-c", BUILD, folder, *CAPABILITIES), folder)
    sizes = json.loads((folder / "sizes.json").read_text())
    return Built(folder, {tuple(name.split("-")): size for name, size in sizes.items()}, cost)


def test_full_size_plans_are_as_large_as_their_precision(built: Built) -> None:
    assert len(built.sizes) == len(PRECISIONS) * len(CAPABILITIES)
    for (precision, capability), size in built.sizes.items():
        source = (built.folder / f"{precision}.onnx").stat().st_size
        assert source < size < 1.02 * source, f"{precision} for {capability}"
        share = size / built.sizes["fp32", capability]
        assert share == pytest.approx(PRECISIONS[precision], rel=0.03), f"{precision} for {capability}"


def test_full_size_plans_need_no_more_than_3_gb(built: Built) -> None:
    sys.stdout.write(f"\n15 plans: {built.cost.wall_s:.0f} s, peak {built.cost.peak_bytes / 1e9:.2f} GB\n")
    assert built.cost.peak_bytes < 3e9
