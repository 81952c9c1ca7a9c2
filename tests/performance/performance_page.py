"""Measures what export costs and writes docs/performance.md: `make performance`, about ten minutes."""

import logging
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path

from edgepress.files import write_bytes
from edgepress.machine import cpu_model, memory_bytes, usable_cores
from edgepress.models.vgg16 import VGG16, Architecture
from tests.performance.export_costs import (
    VGG16_AT_32,
    VGG19,
    Alternative,
    Form,
    alternative_cost,
    export_cost,
    floor_cost,
    optimize_cost,
    saved,
    scaled,
    slope,
)
from tests.performance.whole_process import Cost

PAGE = "performance.md"
_RUNS = 3
_PACKAGES = ("tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "ai-edge-litert")
_TFLITE_FP16 = "tflite_wf16_af32"

logger = logging.getLogger(__name__)


def page(folder: Path) -> str:
    """Measure everything in `folder` and give the page's text."""
    return "\n".join((*_head(), *_full_size(folder), *_beside_from_keras(folder), *_growth(folder), ""))


def _head() -> Iterator[str]:
    memory = (memory_bytes() or 0) / 2**30
    versions = ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    yield "# What export costs"
    yield ""
    yield (
        "Measured by `make performance`, which writes this page. A row is a command in a fresh process, from "
        "interpreter start to exit; what edgepress does includes the proof of each file by its runtime. Time "
        f"is the median of {_RUNS} runs, memory the largest resident set that the kernel counted in any; "
        "the converters alone, and the last table, ran once. What quantizing costs is measured with real "
        "weights, beside [what it loses](accuracy.md)."
    )
    yield ""
    yield f"Machine: {cpu_model()}, {usable_cores()} cores, {memory:.0f} GiB. Versions: {versions}."
    yield ""


def _full_size(folder: Path) -> Iterator[str]:
    yield f"## Full VGG16 ({VGG16.parameters:,} parameters, random weights)"
    yield ""
    yield "| | time | peak memory |"
    yield "|---|---:|---:|"
    yield _row("`import keras` alone (in every row below)", lambda: floor_cost(folder))
    for form in (Form.ONNX, Form.TFLITE, Form.SAVED_MODEL, Form.ALL):
        what = f"`edgepress export vgg16 --format {' '.join(form.value)}`"
        yield _row(what, partial(export_cost, "vgg16", form, folder, "--weights", "random"))
    yield _row(
        f"`edgepress optimize --recipe {_TFLITE_FP16}`: TFLite with FP16 weights, of the file above",
        lambda: optimize_cost(_TFLITE_FP16, folder),
    )
    model = saved(VGG16, folder)
    yield _row(
        "`edgepress export vgg16.keras`, all three formats",
        lambda: export_cost(model.path, Form.ALL, folder, "--preprocess", "caffe"),
    )
    for name, alternative in (
        ("FP32", Alternative.TFLITE_FP32),
        ("FP16", Alternative.TFLITE_FP16),
        ("dynamic range", Alternative.TFLITE_DYNAMIC),
    ):
        yield _row(
            f"`tf.lite.TFLiteConverter` {name}, nothing proven",
            partial(alternative_cost, alternative, model, folder),
            runs=1,
        )
    model.path.unlink()
    yield "| `tf2onnx.convert.from_keras` | not run: it was killed at 24.3 GB after 4 minutes | > 24 GB |"
    yield ""


def _beside_from_keras(folder: Path) -> Iterator[str]:
    model = saved(VGG16_AT_32, folder)
    ours = _median(lambda: export_cost(model.path, Form.ONNX, folder, "--preprocess", "caffe"))
    theirs = _median(lambda: alternative_cost(Alternative.FROM_KERAS, model, folder), runs=1)
    floor = _median(lambda: floor_cost(folder))
    model.path.unlink()
    size = f"{VGG16_AT_32.parameters / 1e6:.1f} M parameters, 32×32 input"
    yield f"## Beside `tf2onnx.convert.from_keras` ({size})"
    yield ""
    yield "| | time | beyond `import keras` | peak memory |"
    yield "|---|---:|---:|---:|"
    for name, cost in (("`edgepress export --format onnx`", ours), ("`tf2onnx.convert.from_keras`", theirs)):
        beyond_s = cost.wall_s - floor.wall_s
        yield f"| {name} | {cost.wall_s:.1f} s | {beyond_s:.1f} s | {cost.peak_bytes / 1e9:.2f} GB |"
    beyond = (theirs.wall_s - floor.wall_s) / (ours.wall_s - floor.wall_s)
    yield (
        f"| ratio | {theirs.wall_s / ours.wall_s:.1f} | {beyond:.1f} | "
        f"{theirs.peak_bytes / ours.peak_bytes:.1f} |"
    )
    yield ""


def _growth(folder: Path) -> Iterator[str]:
    yield "## Memory over the size of the weights (a `.keras` file, all three formats)"
    yield ""
    yield "| network | weights | time | peak memory |"
    yield "|---|---:|---:|---:|"
    points = []
    for architecture in (scaled(0.25), scaled(0.5), scaled(1), VGG19):
        cost, weights_bytes = _grown(architecture, folder)
        points.append((weights_bytes, cost.peak_bytes))
        yield (
            f"| {architecture.name} | {weights_bytes / 1e6:.0f} MB | {cost.wall_s:.1f} s | "
            f"{cost.peak_bytes / 1e9:.2f} GB |"
        )
    yield ""
    yield f"The least-squares line through them: {slope(points):.1f} bytes of memory for a byte of weights."


def _grown(architecture: Architecture, folder: Path) -> tuple[Cost, int]:
    model = saved(architecture, folder)
    cost = _median(lambda: export_cost(model.path, Form.ALL, folder, "--preprocess", "caffe"), runs=1)
    model.path.unlink()
    return cost, model.weights_bytes


def _row(what: str, measure: Callable[[], Cost], runs: int = _RUNS) -> str:
    cost = _median(measure, runs)
    return f"| {what} | {cost.wall_s:.1f} s | {cost.peak_bytes / 1e9:.2f} GB |"


def _median(measure: Callable[[], Cost], runs: int = _RUNS) -> Cost:
    costs = [measure() for _ in range(runs)]
    found = Cost(statistics.median(c.wall_s for c in costs), max(c.peak_bytes for c in costs))
    logger.info("%.1f s, %.2f GB", found.wall_s, found.peak_bytes / 1e9)
    return found


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    with tempfile.TemporaryDirectory() as scratch:
        write_bytes(Path(sys.argv[1]) / PAGE, page(Path(scratch)).encode())
