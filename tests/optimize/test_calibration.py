import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from edgepress.dataset import open_data
from edgepress.errors import InputError, ProofError
from edgepress.preprocessing import Preprocessing, PreprocessMode
from optimize.calibration import CALIBRATION, CalibrationTable, Range, Sample, widen
from optimize.calibration_onnx import ranges_of_onnx
from optimize.calibration_tflite import ranges_of_tflite

MakeOnnx = Callable[..., Path]
Pictures = list[np.ndarray]

PREPROCESSING = Preprocessing(PreprocessMode.TF, 8, 8)


def table_of(**changes: object) -> CalibrationTable:
    sample = Sample("digits", 3, ("a" * 64, "b" * 64), PREPROCESSING)
    fields = {"model": "m" * 64, "sample": sample, "graphs": {"s" * 64: {"x": Range(-1.0, 2.5)}}}
    return CalibrationTable(**{**fields, **changes})  # type: ignore[arg-type]


def test_ranges_of_onnx_are_those_of_every_activation(make_onnx: MakeOnnx, pictures: Pictures) -> None:
    path = make_onnx()
    found = ranges_of_onnx(path, iter(pictures), len(pictures))
    model = onnx.load(path)
    names = [name for node in model.graph.node for name in node.output]
    assert set(found) == {"images", *names}
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    values = session.run(None, {"images": np.concatenate(pictures)})
    for name, array in zip(names, values, strict=True):
        assert found[name].lowest == pytest.approx(array.min(), rel=1e-5, abs=1e-6)
        assert found[name].highest == pytest.approx(array.max(), rel=1e-5, abs=1e-6)


def test_ranges_of_onnx_are_reproducible(make_onnx: MakeOnnx, pictures: Pictures) -> None:
    path = make_onnx()
    assert ranges_of_onnx(path, pictures, 12) == ranges_of_onnx(path, pictures, 12)


def test_ranges_of_onnx_keeps_memory_flat_and_reports_each_picture(make_onnx: MakeOnnx) -> None:
    path, seen, peaks = make_onnx(), [], {}

    def generate(count: int) -> Iterator[np.ndarray]:
        for i in range(count):
            yield np.random.default_rng(i).uniform(-1, 1, (1, 8, 8, 3)).astype(np.float32)

    ranges_of_onnx(path, generate(2), 2)
    for count in (8, 256):
        tracemalloc.start()
        ranges_of_onnx(path, generate(count), count, lambda *state: seen.append(state))
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[256] < peaks[8] + 256 * 8 * 8 * 3 * 4 / 2  # fewer bytes than the inputs alone would need
    assert seen[:8] == [(f"calibrate {path.stem}", i, 8) for i in range(1, 9)]


def test_ranges_of_onnx_refuses_activations_that_are_not_finite(
    make_onnx: MakeOnnx, pictures: Pictures
) -> None:
    pictures[3][0, 0, 0, 0] = np.inf
    with pytest.raises(ProofError, match="tensor .* took the values .*wanted finite"):
        ranges_of_onnx(make_onnx(), pictures, 12)


def test_ranges_of_onnx_refuses_a_file_that_is_no_onnx(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"\xff no model")
    with pytest.raises(InputError, match="cannot be read as ONNX"):
        ranges_of_onnx(path, [], 0)


def test_ranges_of_tflite_equal_those_of_onnx_where_tensors_are_the_same(digits_folder: Path) -> None:
    drawn = open_data("digits").calibration.sample(6, 1)
    mode = Preprocessing.from_json(
        json.loads((digits_folder / "manifest.json").read_text())["model"]["preprocessing"]
    )
    tflite = ranges_of_tflite(digits_folder / "tflite-fp32.tflite", drawn.inputs(mode), 6)
    exact = ranges_of_onnx(digits_folder / "onnx-fp32.onnx", drawn.inputs(mode), 6)
    for found in tflite.values():  # each fused TFLite tensor is one of ONNX' tensors
        nearest = min(abs(found.lowest - r.lowest) + abs(found.highest - r.highest) for r in exact.values())
        assert nearest < 1e-3 * max(1.0, found.magnitude)


def test_ranges_of_tflite_refuses_a_file_that_is_no_tflite(tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(b"0123456789")
    with pytest.raises(InputError, match="is no TFLite file"):
        ranges_of_tflite(path, [], 0)


def test_widen_holds_both_ranges() -> None:
    ranges: dict[str, Range] = {}
    widen(ranges, "x", -1, 2)
    widen(ranges, "x", 0, 5)
    assert ranges == {"x": Range(-1, 5)}
    assert ranges["x"].magnitude == 5


def test_calibration_table_survives_json(tmp_path: Path) -> None:
    table = table_of()
    table.save(tmp_path)
    assert CalibrationTable.load(tmp_path) == table
    value = json.loads((tmp_path / CALIBRATION).read_text())
    assert value["method"] == "minmax"
    assert value["samples"] == 2
    assert value["pictures"] == ["a" * 64, "b" * 64]
    assert CalibrationTable.load(tmp_path / "nowhere") is None


def test_calibration_table_load_refuses_a_changed_file(tmp_path: Path) -> None:
    table_of().save(tmp_path)
    path = tmp_path / CALIBRATION
    path.write_text(path.read_text().replace("2.5", "2.6"))
    with pytest.raises(InputError, match="calibration.json was changed"):
        CalibrationTable.load(tmp_path)


@pytest.mark.parametrize("content", ["{}", "[]", '{"graphs": 3}'])
def test_calibration_table_load_refuses_a_damaged_file(tmp_path: Path, content: str) -> None:
    (tmp_path / CALIBRATION).write_text(content)
    with pytest.raises(InputError, match="is damaged"):
        CalibrationTable.load(tmp_path)


def test_ranges_of_refuses_the_table_of_another_model() -> None:
    with pytest.raises(InputError, match="table is of another model: wanted ranges .*eeeeeeeeeeee"):
        table_of().ranges_of("e" * 64)


def test_sample_fingerprint_follows_pictures_order_and_preprocessing() -> None:
    sample = Sample("x", 0, ("a", "b"), PREPROCESSING)
    others = [
        Sample("x", 0, ("b", "a"), PREPROCESSING),
        Sample("x", 0, ("a",), PREPROCESSING),
        Sample("x", 0, ("a", "b"), Preprocessing(PreprocessMode.CAFFE, 8, 8)),
    ]
    assert sample.fingerprint not in {other.fingerprint for other in others}
    assert table_of().fingerprint != table_of(sample=others[0]).fingerprint
