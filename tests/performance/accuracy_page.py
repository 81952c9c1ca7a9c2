"""Measures what quantizing loses, costs and gains on the reference model, and writes docs/accuracy.md.

`make accuracy` calls it, about an hour: EDGEPRESS_REFERENCE names the folder of the reference model.
"""

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np

from edgepress.artifact import Runtime
from edgepress.dataset import open_data
from edgepress.files import write_bytes
from edgepress.isa import host_isa
from edgepress.machine import cpu_model, usable_cores
from edgepress.manifest import Manifest
from edgepress.metrics import wilson_ci95
from edgepress.target import HOST, target_of
from optimize.calibration import CalibrationMethod
from optimize.improvement import Improvement
from optimize.recipe import recipes_for
from tests.performance.paired_latency import Engine, Version, ratio
from tests.performance.quantization_accuracy import Judged, Loss, judged_artifact, judged_by, loss
from tests.performance.quantization_peers import Peer, peer_cost
from tests.performance.whole_process import Cost, cost_of

PAGE = "accuracy.md"
SAMPLES = 128
_FP32 = "onnx-fp32"
_STREAMED = CalibrationMethod.ENTROPY  # whose other implementations keep all pictures' values
_FEW = 15  # photos for the tables that only compare settings
_SOME = 50  # photos for FP16, which is slow in ONNX Runtime on a CPU
_PACKAGES = ("onnxruntime", "ai-edge-litert", "litert-quantizer", "openvino", "tensorflow", "keras")
_OWN = next(recipe for recipe in recipes_for(target_of(HOST)) if recipe.isas is not None)
_INT8 = {
    Runtime.ONNXRUNTIME: _OWN.name,
    Runtime.ONNXRUNTIME_EMULATION: "tensorrt_static_wi8_ai8",
    Runtime.LITERT: "tflite_static_wi8_ai8",
}
_TITLES = {
    Runtime.ONNXRUNTIME: "ONNX Runtime",
    Runtime.ONNXRUNTIME_EMULATION: "TensorRT, emulated",
    Runtime.LITERT: "LiteRT",
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bench:
    """The reference model, exported once, and scratch space.

    Attributes:
        reference: Folder of reference_vgg16.keras, calibration/ and evaluation/.
        scratch: For everything that is written.
    """

    reference: Path
    scratch: Path

    @property
    def exported(self) -> Path:
        """Its folder with ONNX and TFLite in FP32."""
        return self.scratch / "exported"

    @property
    def evaluation(self) -> Path:
        """Photos that did not calibrate."""
        return self.reference / "evaluation"

    @property
    def calibration(self) -> Path:
        """Photos that may."""
        return self.reference / "calibration"

    def export(self) -> None:
        """Export it."""
        model = self.reference / "reference_vgg16.keras"
        arguments = ("--preprocess", "caffe", "--data", self.calibration, "--format", "onnx", "tflite")
        self._run("export", model, "--out", self.exported, *arguments)

    def optimized(self, recipes: Sequence[str], *more: str, samples: int = SAMPLES) -> tuple[Manifest, Cost]:
        """A fresh copy of the exported folder with these recipes, and what they cost."""
        folder = self.scratch / "optimized"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.exported, folder, copy_function=os.link)
        cost = self._run(
            *("optimize", folder, "--data", self.calibration, "--samples", str(samples)),
            *("--recipe", *recipes, *more),
        )
        return Manifest.load(folder), cost

    def _run(self, *arguments: "str | Path") -> Cost:
        return cost_of(("-m", "edgepress.cli", *arguments), self.scratch)

    @cache  # noqa: B019  # one bench a process
    def inputs(self, count: int) -> Path:
        """The first calibration pictures that `optimize` draws, one input a file."""
        folder = self.scratch / f"inputs-{count}"
        folder.mkdir()
        drawn = open_data(str(self.calibration)).calibration.sample(SAMPLES, 0).take(range(count))
        preprocessing = Manifest.load(self.exported).model.preprocessing
        for number, array in enumerate(drawn.inputs(preprocessing)):
            np.save(folder / f"{number:04d}.npy", array)
        return folder

    def judged(self, manifest: Manifest, artifact_id: str, limit: int | None) -> Judged:
        """What an artifact says of the evaluation photos."""
        logger.info("judging %s", artifact_id)
        return judged_artifact(manifest, manifest.get(artifact_id), self.evaluation, limit)

    @cached_property
    def fp32(self) -> Judged:
        """What FP32 says of all evaluation photos."""
        return self.judged(Manifest.load(self.exported), _FP32, None)

    def fp32_of(self, limit: int | None) -> Judged:
        """What FP32 says of so many of them; None for all."""
        return self.fp32 if limit is None else self._fp32_of(limit)

    @cache  # noqa: B019  # one bench a process
    def _fp32_of(self, limit: int) -> Judged:
        return self.judged(Manifest.load(self.exported), _FP32, limit)


def page(bench: Bench) -> str:
    """Measure everything and give the page's text."""
    bench.export()
    sections = (_head, _default, _methods, _memory, _improvements, _formats, _peers)
    return "\n".join(line for section in sections for line in (*section(bench), ""))


def _head(bench: Bench) -> Iterator[str]:
    versions = ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    photos = len(bench.fp32.labels) // 10
    low, high = wilson_ci95(bench.fp32.top1, photos)
    yield "# What quantizing loses, and what it costs"
    yield ""
    yield (
        f"Measured by `make accuracy`, which writes this page, on a full-size VGG16 with real ImageNet "
        f"convolutions and a head of eight classes (FP32 top-1 {bench.fp32.top1:.3f}). {SAMPLES} photos "
        f"calibrate; {photos} others judge, each in five crops and their mirror images. Tables that only "
        f"compare settings use {_FEW} of them. Agreement is the share of views with FP32's answer, SNR that "
        f"of the logits. So few photos know top-1 within {50 * (high - low):.0f} points, and their views "
        "are alike: McNemar's p says that two versions differ sooner than it should. Go by agreement and SNR."
    )
    yield ""
    yield (
        f"Machine: {cpu_model()} ({host_isa().value}), {usable_cores()} cores. Versions: {versions}. "
        "TensorRT's file runs in ONNX Runtime with its Q/DQ computed in float, which gives TensorRT's "
        "numbers up to rounding; no GPU was there."
    )


def _default(bench: Bench) -> Iterator[str]:
    recipes = ("onnx_wf16_af16", "tflite_wf16_af32", *_INT8.values())
    manifest, cost = bench.optimized(recipes)
    yield "## By default"
    yield ""
    yield "| version | bytes | views | top-1 | points lost | McNemar p | agreement | SNR |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for recipe in recipes:
        artifact = manifest.get(recipe.replace("_", "-", 1))
        limit = None if recipe in _INT8.values() else _SOME
        version = bench.judged(manifest, artifact.id, limit)
        found, views = loss(bench.fp32_of(limit), version), len(version.labels)
        yield f"| {artifact.id} | {artifact.size_bytes / 1e6:.1f} MB | {views} | {_cells(found)} |"
    yield ""
    yield f"All five in one `edgepress optimize`: {_cost(cost)}, the proof of each included."


def _cells(found: Loss) -> str:
    return (
        f"{found.top1:.4f} | {found.points:+.2f} | {found.mcnemar_p:.2g} | {found.agreement:.2%} | "
        f"{found.snr_db:.1f} dB"
    )


def _cost(cost: Cost) -> str:
    return f"{cost.wall_s:.0f} s, {cost.peak_bytes / 1e9:.2f} GB"


def _methods(bench: Bench) -> Iterator[str]:
    yield f"## Methods of calibration ({SAMPLES} photos; judged on {_FEW})"
    yield ""
    yield from _settings_head("`--calibration`")
    for method in CalibrationMethod:
        yield _settings_row(bench, method.value, "--calibration", method.value)


def _memory(bench: Bench) -> Iterator[str]:
    most = len(open_data(str(bench.calibration)).calibration)
    yield f"## Memory over the number of pictures ({_OWN.name}, `--calibration {_STREAMED.value}`)"
    yield ""
    yield "| `--samples` | time, peak memory |"
    yield "|---:|---:|"
    for samples in (16, 64, min(256, most)):
        _, cost = bench.optimized((_OWN.name,), "--calibration", _STREAMED.value, samples=samples)
        yield f"| {samples} | {_cost(cost)} |"


def _improvements(bench: Bench) -> Iterator[str]:
    yield f"## Beyond plain calibration (judged on {_FEW} photos)"
    yield ""
    yield from _settings_head("`--improve`")
    yield _settings_row(bench, "none", "--improve", "none")
    for improvement in Improvement:
        yield _settings_row(bench, improvement.value, "--improve", improvement.value)
    every = [improvement.value for improvement in Improvement]
    yield _settings_row(bench, " and ".join(every), "--improve", *every)


def _settings_head(name: str) -> Iterator[str]:
    titles = " | ".join(_TITLES[runtime] for runtime in _INT8)
    yield f"| {name} | {titles} | cost of all three |"
    yield "|---|---:|---:|---:|---:|"


def _settings_row(bench: Bench, title: str, *options: str) -> str:
    manifest, cost = bench.optimized(tuple(_INT8.values()), *options)
    cells = []
    for recipe in _INT8.values():
        found = loss(bench.fp32_of(_FEW), bench.judged(manifest, recipe.replace("_", "-", 1), _FEW))
        cells.append(f"{found.agreement:.1%}, {found.snr_db:.1f} dB")
    return f"| {title} | {' | '.join(cells)} | {_cost(cost)} |"


def _formats(bench: Bench) -> Iterator[str]:
    inputs = next(bench.inputs(SAMPLES).glob("*.npy"))
    yield f"## Formats on this instruction set, {host_isa().value} (judged on {_FEW} photos)"
    yield ""
    yield "| format | for | agreement | SNR | latency |"
    yield "|---|---|---:|---:|---:|"
    for title, recipe, target in (
        ("S8S8", "onnx_static_wi8_ai8", "linux-arm64-dotprod"),
        ("U8S8", "onnx_static_wi8_au8", "linux-x64-vnni"),
        ("U8S8, weights of 7 bits", "onnx_static_wi7_au8", "linux-x64-avx2"),
    ):
        manifest, _ = bench.optimized((recipe,), "--target", target)
        artifact = manifest.get(recipe.replace("_", "-", 1))
        found = loss(bench.fp32_of(_FEW), bench.judged(manifest, artifact.id, _FEW))
        timed = Version(manifest.path_of(artifact), Engine.ONNXRUNTIME)
        latency = ratio(timed, timed, inputs).ours_ms
        yield f"| {title} | {target} | {found.agreement:.1%} | {found.snr_db:.1f} dB | {latency:.1f} ms |"


def _peers(bench: Bench) -> Iterator[str]:
    manifest, _ = bench.optimized(tuple(_INT8.values()))
    onnx = manifest.path_of(manifest.get(_OWN.artifact_id))
    inputs = next(bench.inputs(SAMPLES).glob("*.npy"))
    yield "## Beside other tools"
    yield ""
    yield (
        "Each quantizes the same FP32 file with the same photos, in a fresh process. The ratio is the other "
        f"file's latency over ours ({_OWN.artifact_id}) in neighbouring blocks of time, with its 95 % "
        "interval: above 1, ours is faster."
    )
    yield ""
    yield "| tool | runs in | cost | agreement | SNR | latency | ours in ONNX Runtime | ours in OpenVINO |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|"
    for peer in Peer:
        count = SAMPLES // 2 if peer is Peer.STATIC_U8S8_ENTROPY else SAMPLES  # all would not fit into memory
        made = peer_cost(peer, bench.exported / "onnx-fp32.onnx", bench.inputs(count), bench.scratch)
        if made is None:
            yield f"| {peer.title} | | not run: no environment has it | | | | | |"
            continue
        path, cost = made
        engine = Engine.OPENVINO if peer is Peer.NNCF else Engine.ONNXRUNTIME
        runtime = "openvino" if peer is Peer.NNCF else Runtime.ONNXRUNTIME.value
        preprocessing = manifest.model.preprocessing
        found = loss(bench.fp32_of(_FEW), judged_by(runtime, path, bench.evaluation, preprocessing, _FEW))
        ratios = [
            ratio(Version(onnx, ours), Version(path, engine), inputs)
            for ours in (Engine.ONNXRUNTIME, Engine.OPENVINO)
        ]
        cells = " | ".join(f"{r.median:.2f} ({r.low:.2f}–{r.high:.2f})" for r in ratios)
        yield (
            f"| {peer.title}, {count} photos | {runtime} | {_cost(cost)} | {found.agreement:.1%} | "
            f"{found.snr_db:.1f} dB | {ratios[0].theirs_ms:.1f} ms | {cells} |"
        )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    folder = os.environ.get("EDGEPRESS_REFERENCE")
    if not folder:
        sys.exit("EDGEPRESS_REFERENCE is not set: no full-size VGG16 with real weights.")
    with tempfile.TemporaryDirectory() as scratch:
        text = page(Bench(Path(folder), Path(scratch)))
    write_bytes(Path(sys.argv[1]) / PAGE, text.encode())
