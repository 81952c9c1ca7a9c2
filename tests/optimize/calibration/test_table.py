import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepress.errors import InputError
from edgepress.preprocessing import Preprocessing, PreprocessMode
from optimize.calibration import (
    CALIBRATION,
    CalibrationMethod,
    CalibrationTable,
    GraphCalibration,
    Origin,
    Range,
    Sample,
    Stability,
)

PREPROCESSING = Preprocessing(PreprocessMode.TF, 8, 8)


def table_of(**changes: object) -> CalibrationTable:
    sample = Sample("digits", 3, ("a" * 64, "b" * 64), PREPROCESSING)
    found = GraphCalibration(
        ranges={"x": Range(-1.0, 2.5)},
        observed={"x": Range(-1.0, 1 / 3)},
        channel_means={"x": np.array([0.1, -2, 1e-20], np.float32)},
        stability=Stability((1, 1), {"x": 0.25}),
        origin=Origin("onnx-fp32", ("x",), 1e-6, ()),
    )
    fields = {"model": "m" * 64, "sample": sample, "graphs": {"s" * 64: found}}
    return CalibrationTable(**{**fields, **changes})  # type: ignore[arg-type]


def test_calibration_table_survives_json(tmp_path: Path) -> None:
    table = table_of()
    table.save(tmp_path)
    loaded = CalibrationTable.load(tmp_path)
    assert loaded == table
    mean = loaded.graph_of("s" * 64).channel_means["x"]
    np.testing.assert_array_equal(mean, table.graph_of("s" * 64).channel_means["x"], strict=True)
    value = json.loads((tmp_path / CALIBRATION).read_text())
    assert value["method"] == "minmax"
    assert value["samples"] == 2
    assert value["pictures"] == ["a" * 64, "b" * 64]
    assert CalibrationTable.load(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("2.5", "2.6"),
        ('"minmax"', '"mse"'),
        ("0.25", "0.125"),
        ('"onnx-fp32"', '"onnx"'),
        ("zczMPQ", "zczMPA"),
        ('"seed": 3', '"seed": 4'),
    ],
)
def test_calibration_table_load_refuses_a_changed_file(tmp_path: Path, before: str, after: str) -> None:
    table_of().save(tmp_path)
    path = tmp_path / CALIBRATION
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(InputError, match="calibration.json was changed"):
        CalibrationTable.load(tmp_path)


@pytest.mark.parametrize("content", ["{}", "[]", '{"graphs": 3}'])
def test_calibration_table_load_refuses_a_damaged_file(tmp_path: Path, content: str) -> None:
    (tmp_path / CALIBRATION).write_text(content)
    with pytest.raises(InputError, match="is damaged"):
        CalibrationTable.load(tmp_path)


def test_calibration_table_load_makes_a_table_of_schema_1_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / CALIBRATION).write_text('{"schema_version": 1, "method": "minmax", "graphs": {}}')
    assert CalibrationTable.load(tmp_path) is None
    assert "has schema version 1, this edgepress writes 3: it is made anew" in caplog.text


def test_ranges_of_refuses_the_table_of_another_model() -> None:
    with pytest.raises(InputError, match="table is of another model: wanted ranges .*eeeeeeeeeeee"):
        table_of().ranges_of("e" * 64)


def test_sample_fingerprint_follows_pictures_order_preprocessing_and_method() -> None:
    sample = Sample("x", 0, ("a", "b"), PREPROCESSING)
    others = [
        Sample("x", 0, ("b", "a"), PREPROCESSING),
        Sample("x", 0, ("a",), PREPROCESSING),
        Sample("x", 0, ("a", "b"), Preprocessing(PreprocessMode.CAFFE, 8, 8)),
        replace(sample, method=CalibrationMethod.ENTROPY),
        replace(sample, decoding=1),
    ]
    assert sample.fingerprint not in {other.fingerprint for other in others}
    assert table_of().fingerprint != table_of(sample=others[0]).fingerprint
