"""The TFLite graph takes the ONNX graph's ranges where the values prove it, on the embedded model."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from edgepress.dataset import Dataset, open_data
from edgepress.errors import InputError
from edgepress.files import sha256_of_file
from edgepress.inspection.tflite_graph import tflite_model
from edgepress.manifest import Manifest
from edgepress.runners import litert_runner
from optimize.calibration import (
    CALIBRATION,
    CalibrationMethod,
    CalibrationTable,
    GraphCalibration,
    Sample,
    calibrate,
)
from optimize.calibration import correspondence as correspondence_module
from optimize.calibration.calibrate import calibrated_table
from optimize.calibration.correspondence import TOLERANCE, relative_difference
from optimize.calibration.onnx_calibration import calibrate_onnx
from optimize.calibration.tflite_calibration import calibrate_tflite, tensors_of_tflite
from optimize.improvement.sources import exported_sources
from tests.optimize.ranges import ranges_of_tflite

CopyOf = Callable[[Path], Path]
COUNT = 6


@pytest.fixture(scope="module")
def drawn() -> Dataset:
    return open_data("digits").calibration.sample(COUNT, 1)


@pytest.fixture
def exported(digits_folder: Path, copy_of: CopyOf) -> Manifest:
    return Manifest.load(copy_of(digits_folder))


def table_for(
    manifest: Manifest, drawn: Dataset, *ids: str, method: CalibrationMethod = CalibrationMethod.PERCENTILE
) -> CalibrationTable:
    sample = Sample.of(drawn, 1, manifest.model.preprocessing, method)
    return calibrated_table(
        manifest, drawn, sample, [manifest.get(name) for name in ids], exported_sources(manifest)
    )


def of(table: CalibrationTable, manifest: Manifest, artifact_id: str) -> GraphCalibration:
    return table.graph_of(manifest.get(artifact_id).sha256)


def with_changed_onnx(
    manifest: Manifest, change: Callable[[str, NDArray[np.float32]], NDArray[np.float32]]
) -> Manifest:
    """The manifest with an ONNX file whose weights went through `change`."""
    artifact = manifest.get("onnx-fp32")
    path = manifest.path_of(artifact)
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            changed = np.ascontiguousarray(change(tensor.name, values))
            tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
    onnx.save(model, path)
    manifest = manifest.with_artifact(replace(artifact, sha256=sha256_of_file(path)))
    manifest.save()
    return manifest


def test_tflite_takes_every_range_of_the_onnx_file_without_a_second_calibration(
    exported: Manifest, drawn: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("calibrated a second time")

    monkeypatch.setattr(calibrate, "calibrate_tflite", refuse)
    table = table_for(exported, drawn, "tflite-fp32")  # ONNX is calibrated for it
    exact, found = of(table, exported, "onnx-fp32"), of(table, exported, "tflite-fp32")
    assert found.origin is not None
    assert found.origin.artifact == "onnx-fp32"
    assert found.origin.measured == ()
    assert set(found.origin.taken) == set(found.ranges)
    assert 0 < found.origin.largest_difference < 1e-5
    assert {"images", "block1_conv1", "block1_pool", "fc1", "logits"} <= found.ranges.keys()
    for name, wanted in found.ranges.items():
        assert exact.ranges[name] == wanted
    assert exact.origin is None
    assert found.stability == exact.stability
    assert CalibrationTable.load(exported.folder) == table


def test_taken_ranges_and_means_are_those_that_the_tflite_graph_itself_has(
    exported: Manifest, drawn: Dataset
) -> None:
    path = exported.path_of(exported.get("tflite-fp32"))
    inputs = drawn.inputs(exported.model.preprocessing)
    names = [picture.name for picture in drawn.pictures]
    own = calibrate_tflite(path, inputs, names, CalibrationMethod.PERCENTILE)
    taken = of(table_for(exported, drawn, "tflite-fp32"), exported, "tflite-fp32")
    assert own.ranges.keys() == taken.ranges.keys()
    for name, wanted in own.ranges.items():
        assert taken.ranges[name].lowest == pytest.approx(wanted.lowest, rel=2e-3, abs=1e-6)
        assert taken.ranges[name].highest == pytest.approx(wanted.highest, rel=2e-3)
        assert taken.observed[name].highest == pytest.approx(own.observed[name].highest, rel=1e-4)
    assert own.channel_means.keys() == taken.channel_means.keys()
    assert len(own.channel_means) == 16
    for name, mean in own.channel_means.items():
        np.testing.assert_allclose(taken.channel_means[name], mean, rtol=1e-3, atol=1e-4)


def test_a_layer_that_is_2_percent_off_and_all_behind_it_are_measured_on_the_tflite_graph(
    exported: Manifest, drawn: Dataset
) -> None:
    manifest = with_changed_onnx(
        exported, lambda name, values: values * 1.02 if name == "block4_conv1/kernel" else values
    )
    table = table_for(manifest, drawn, "onnx-fp32", "tflite-fp32")
    found = of(table, manifest, "tflite-fp32")
    assert found.origin is not None
    before = {name for name in found.ranges if re.match(r"images|block[123]", name)}
    assert set(found.origin.taken) == before
    assert set(found.origin.measured) == found.ranges.keys() - before
    path = manifest.path_of(manifest.get("tflite-fp32"))
    names = [picture.name for picture in drawn.pictures]
    inputs = drawn.inputs(manifest.model.preprocessing)
    own = calibrate_tflite(path, inputs, names, CalibrationMethod.PERCENTILE)
    for name in found.origin.measured:
        assert found.ranges[name] == own.ranges[name]
    for name, mean in own.channel_means.items():
        np.testing.assert_allclose(found.channel_means[name], mean, rtol=1e-3, atol=1e-4)


def test_swapped_channels_are_no_counterpart(exported: Manifest, drawn: Dataset) -> None:
    def swapped(name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
        if name in {"block1_conv1/kernel", "block1_conv1/bias"}:
            return values[::-1]
        return values[:, ::-1] if name == "block1_conv2/kernel" else values

    manifest = with_changed_onnx(exported, swapped)  # the same logits
    found = of(table_for(manifest, drawn, "tflite-fp32"), manifest, "tflite-fp32")
    assert found.origin is not None
    assert found.origin.measured == ("block1_conv1",)
    own = ranges_of_tflite(
        manifest.path_of(manifest.get("tflite-fp32")),
        drawn.inputs(manifest.model.preprocessing),
        COUNT,
        method=CalibrationMethod.PERCENTILE,
    )
    assert found.ranges["block1_conv1"] == own["block1_conv1"]


def test_what_is_0_on_the_proving_picture_is_measured(
    exported: Manifest, drawn: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = correspondence_module._onnx_values

    def dead(path: Path, picture: NDArray[np.float32], names: list[str]) -> dict[str, NDArray[np.float32]]:
        found = dict(real(path, picture, names))
        return {**found, "fc1": np.zeros_like(found["fc1"])}

    monkeypatch.setattr(correspondence_module, "_onnx_values", dead)
    found = of(table_for(exported, drawn, "tflite-fp32"), exported, "tflite-fp32")
    assert found.origin is not None
    assert found.origin.measured == ("fc1",)
    assert found.channel_means["fc1"].shape == (128,)


def test_a_tflite_file_alone_is_calibrated_on_itself(exported: Manifest, drawn: Dataset) -> None:
    alone = exported.without(exported.get("onnx-fp32").path)
    alone.save()
    found = of(table_for(alone, drawn, "tflite-fp32"), alone, "tflite-fp32")
    assert found.origin is None
    tensors = tensors_of_tflite(alone.path_of(alone.get("tflite-fp32")))
    assert found.ranges.keys() == tensors.indices.keys()
    assert found.ranges["block1_pool"] == found.ranges["block1_conv2"]
    assert tensors.quantized.source["block1_pool"] == "block1_conv2"
    assert not {"images", "logits", "block1_pool"} & tensors.quantized.clippable
    assert found.stability is not None


def test_an_onnx_file_that_was_changed_gives_no_ranges(exported: Manifest, drawn: Dataset) -> None:
    path = exported.path_of(exported.get("onnx-fp32"))
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(InputError, match=r"onnx-fp32: .* was changed: SHA-256"):
        table_for(exported, drawn, "tflite-fp32")
    assert not (exported.folder / CALIBRATION).exists()


def test_interpreter_keeps_the_values_that_it_computes(digits_folder: Path, drawn: Dataset) -> None:
    """All tensors are kept although a delegate runs the graph: the logits are those of a plain run."""
    manifest = Manifest.load(digits_folder)
    path = manifest.path_of(manifest.get("tflite-fp32"))
    inputs = list(drawn.inputs(manifest.model.preprocessing))
    with litert_runner.on_cpu(path, 0) as runner:
        logits = np.concatenate([runner.infer(picture) for picture in inputs])
    found = ranges_of_tflite(path, inputs, COUNT)["logits"]
    assert (found.lowest, found.highest) == pytest.approx((logits.min(), logits.max()), rel=1e-5)


def test_a_file_that_is_no_tflite_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(b"0123456789")
    with pytest.raises(InputError, match="is no TFLite file"):
        ranges_of_tflite(path, [], 0)


def test_a_nan_in_tflite_is_found(exported: Manifest, drawn: Dataset) -> None:
    from edgepress.errors import ProofError

    path = exported.path_of(exported.get("tflite-fp32"))
    content = bytearray(path.read_bytes())
    with tflite_model(path) as model:
        index = next(i for i in model.tensors() if model.tensor(i).Name() == b"block3_conv1/bias")
        buffer = model._model.Buffers(model.tensor(index).Buffer())
        data = buffer.DataAsNumpy().tobytes() if buffer.DataLength() else None
        start = content.index(data) if data is not None else buffer.Offset()
    content[start : start + 4] = np.float32(np.nan).tobytes()
    path.write_bytes(content)
    with pytest.raises(ProofError, match="picture '0' made tensor 'block3_conv1' take .* not finite"):
        ranges_of_tflite(path, drawn.inputs(exported.model.preprocessing), COUNT)


def test_relative_difference_knows_both_orders_of_axes() -> None:
    exact = np.random.default_rng(0).normal(0, 1, (1, 4, 4, 4)).astype(np.float32)
    moved = exact.transpose(0, 2, 3, 1)
    assert relative_difference(exact, moved) == relative_difference(exact, exact) == 0
    assert relative_difference(exact, moved[..., ::-1]) > 100 * TOLERANCE
    assert relative_difference(exact, exact[:, :3]) == np.inf
    assert relative_difference(exact, exact.reshape(1, 64)[:, ::-1]) > 100 * TOLERANCE
    column = exact[:, :, :1, :1]  # (1, 4, 1, 1), which TFLite has as (1, 1, 1, 4) or (1, 4)
    assert relative_difference(column, column.reshape(1, 1, 1, 4)) == 0
    assert relative_difference(column, column.reshape(1, 4)) == 0


def test_relative_difference_is_one_of_the_spread() -> None:
    exact = np.array([[-1, 0, 3]], np.float32)
    assert relative_difference(exact, exact + np.float32(0.5)) == 0.125
    zeros = np.zeros((1, 3), np.float32)
    assert relative_difference(zeros, zeros) == np.inf  # proves nothing
    assert relative_difference(zeros, exact) == np.inf


PEAK = """
import sys
from pathlib import Path
from edgepress.dataset import open_data
from edgepress.manifest import Manifest
from optimize.calibration import CalibrationMethod, Sample
from optimize.calibration.calibrate import calibrated_table
from optimize.improvement.sources import exported_sources

folder, count = Path(sys.argv[1]), int(sys.argv[2])
manifest = Manifest.load(folder)
drawn = open_data("digits").calibration.sample(count, 0)
sample = Sample.of(drawn, 0, manifest.model.preprocessing, CalibrationMethod(sys.argv[3]))
wanted = [manifest.get("onnx-fp32"), manifest.get("tflite-fp32")]
calibrated_table(manifest, drawn, sample, wanted, exported_sources(manifest))
status = Path("/proc/self/status").read_text()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux' /proc")
def test_peak_memory_does_not_grow_with_the_pictures(exported: Manifest) -> None:
    # All activations of a picture are 0.4 MB here: 240 pictures more would be 96 MB. The allocator itself
    # is 6 % apart from one process to the next.
    peaks = []
    for count in (16, 64, 256):
        command = [sys.executable, "-c", PEAK, str(exported.folder), str(count), "percentile"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path.cwd())
        peaks.append(int(done.stdout))
    assert max(peaks[1:]) <= 1.08 * peaks[0], peaks


def test_onnx_and_tflite_agree_for_each_method(digits_folder: Path, drawn: Dataset) -> None:
    manifest = Manifest.load(digits_folder)
    names = [picture.name for picture in drawn.pictures]
    for method in (CalibrationMethod.MINMAX, CalibrationMethod.MSE):
        ranges = []
        for artifact_id, run in (("onnx-fp32", calibrate_onnx), ("tflite-fp32", calibrate_tflite)):
            path = manifest.path_of(manifest.get(artifact_id))
            ranges.append(run(path, drawn.inputs(manifest.model.preprocessing), names, method).ranges)
        for name, found in ranges[1].items():
            assert found.highest == pytest.approx(ranges[0][name].highest, rel=1e-2)
