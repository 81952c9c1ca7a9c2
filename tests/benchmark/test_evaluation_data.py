import json
from pathlib import Path

import pytest

from benchmark.evaluation_data import data_for, evaluation_of
from edgepress.dataset import DIGITS, open_data
from edgepress.errors import InputError


def calibrate_on(folder: Path, data: str, count: int) -> None:
    pictures = [picture.sha256 for picture in open_data(data).calibration.pictures[:count]]
    (folder / "calibration.json").write_text(json.dumps({"source": data, "pictures": pictures}))


def test_data_for_the_embedded_model_is_digits() -> None:
    assert data_for("vgg16-digits", None) == DIGITS
    assert data_for("vgg16-digits", "photos") == "photos"


def test_data_for_another_model_must_be_named() -> None:
    with pytest.raises(InputError, match="vgg16 be evaluated on.*--data"):
        data_for("vgg16", None)


def test_evaluation_of_takes_all_without_a_calibration(tiny_folder: Path, tiny_data: str) -> None:
    found = evaluation_of(tiny_folder, tiny_data, None, 0)
    assert (len(found.pictures), found.left_out) == (12, 0)


def test_evaluation_of_leaves_out_what_calibrated(tiny_folder: Path, tiny_data: str) -> None:
    calibrate_on(tiny_folder, tiny_data, 5)
    found = evaluation_of(tiny_folder, tiny_data, None, 0)
    assert (len(found.pictures), found.left_out) == (7, 5)
    used = {picture.sha256 for picture in open_data(tiny_data).calibration.pictures[:5]}
    assert not used & {picture.sha256 for picture in found.pictures.pictures}


def test_evaluation_of_knows_the_same_data_by_another_spelling(
    tiny_folder: Path, tiny_data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrate_on(tiny_folder, tiny_data, 5)
    monkeypatch.chdir(Path(tiny_data).parent)
    assert evaluation_of(tiny_folder, "data.npz", None, 0).left_out == 5


def test_evaluation_of_other_data_that_overlaps_is_refused(tiny_folder: Path, tiny_data: str) -> None:
    calibrate_on(tiny_folder, tiny_data, 5)
    other = Path(tiny_data).with_name("other.npz")
    other.write_bytes(Path(tiny_data).read_bytes())
    with pytest.raises(InputError, match="5 pictures of .*other.npz also calibrated"):
        evaluation_of(tiny_folder, str(other), None, 0)


def test_evaluation_of_nothing_is_refused(tiny_folder: Path, tiny_data: str) -> None:
    calibrate_on(tiny_folder, tiny_data, 12)
    with pytest.raises(InputError, match="All 12 pictures .* none is left"):
        evaluation_of(tiny_folder, tiny_data, None, 0)


def test_evaluation_of_a_limit_draws_with_the_seed(tiny_folder: Path, tiny_data: str) -> None:
    one, same, other = (evaluation_of(tiny_folder, tiny_data, 4, seed).pictures for seed in (1, 1, 2))
    assert len(one) == 4
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_evaluation_of_refuses_a_calibration_without_pictures(tiny_folder: Path, tiny_data: str) -> None:
    (tiny_folder / "calibration.json").write_text("{}")
    with pytest.raises(InputError, match="does not name the pictures that calibrated"):
        evaluation_of(tiny_folder, tiny_data, None, 0)
