from dataclasses import replace
from pathlib import Path

import pytest

from edgepress.dataset import DIGITS, open_data
from edgepress.errors import InputError
from edgepress.evaluation_data import data_for, evaluation_of
from edgepress.manifest import Manifest


def calibrated_on(folder: Path, artifact_id: str, data: str, chosen: slice) -> Manifest:
    """The manifest, with an artifact that says it was calibrated on these pictures of DATA."""
    manifest = Manifest.load(folder)
    pictures = [picture.sha256 for picture in open_data(data).calibration.pictures[chosen]]
    calibration = {"calibration": {"source": data, "pictures": pictures}}
    manifest = manifest.with_artifact(replace(manifest.get(artifact_id), provenance=calibration))
    manifest.save()
    return manifest


def test_data_for_the_embedded_model_is_digits() -> None:
    assert data_for("vgg16-digits", None) == DIGITS
    assert data_for("vgg16-digits", "photos") == "photos"


def test_data_for_another_model_must_be_named() -> None:
    with pytest.raises(InputError, match="vgg16 be evaluated on.*--data"):
        data_for("vgg16", None)


def test_evaluation_of_takes_all_without_a_calibration(tiny_folder: Path, tiny_data: str) -> None:
    found = evaluation_of(Manifest.load(tiny_folder), tiny_data, None, 0)
    assert (len(found.pictures), found.left_out) == (12, 0)


def test_evaluation_of_leaves_out_what_calibrated(tiny_folder: Path, tiny_data: str) -> None:
    manifest = calibrated_on(tiny_folder, "onnx-int8", tiny_data, slice(5))
    found = evaluation_of(manifest, tiny_data, None, 0)
    assert (len(found.pictures), found.left_out) == (7, 5)
    used = {picture.sha256 for picture in open_data(tiny_data).calibration.pictures[:5]}
    assert not used & {picture.sha256 for picture in found.pictures.pictures}


def test_evaluation_of_knows_the_same_data_by_another_spelling(
    tiny_folder: Path, tiny_data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = calibrated_on(tiny_folder, "onnx-int8", tiny_data, slice(5))
    monkeypatch.chdir(Path(tiny_data).parent)
    assert evaluation_of(manifest, "data.npz", None, 0).left_out == 5


def test_evaluation_of_other_data_that_overlaps_is_refused(tiny_folder: Path, tiny_data: str) -> None:
    manifest = calibrated_on(tiny_folder, "onnx-int8", tiny_data, slice(5))
    other = Path(tiny_data).with_name("other.npz")
    other.write_bytes(Path(tiny_data).read_bytes())
    with pytest.raises(InputError, match="5 pictures of .*other.npz also calibrated an INT8 version"):
        evaluation_of(manifest, str(other), None, 0)


def test_evaluation_of_nothing_is_refused(tiny_folder: Path, tiny_data: str) -> None:
    manifest = calibrated_on(tiny_folder, "onnx-int8", tiny_data, slice(12))
    with pytest.raises(InputError, match="All 12 pictures .* none is left"):
        evaluation_of(manifest, tiny_data, None, 0)


def test_evaluation_of_a_limit_draws_with_the_seed(tiny_folder: Path, tiny_data: str) -> None:
    manifest = Manifest.load(tiny_folder)
    one, same, other = (evaluation_of(manifest, tiny_data, 4, seed).pictures for seed in (1, 1, 2))
    assert len(one) == 4
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_evaluation_of_leaves_out_what_calibrated_any_artifact(tiny_folder: Path, tiny_data: str) -> None:
    calibrated_on(tiny_folder, "onnx-int8", tiny_data, slice(0, 4))
    manifest = calibrated_on(tiny_folder, "tensorrt-int8", tiny_data, slice(3, 6))
    assert evaluation_of(manifest, tiny_data, None, 0).left_out == 6


def test_evaluation_of_refuses_a_calibration_without_pictures(tiny_folder: Path, tiny_data: str) -> None:
    manifest = Manifest.load(tiny_folder)
    manifest = manifest.with_artifact(replace(manifest.get("onnx-int8"), provenance={"calibration": {}}))
    with pytest.raises(InputError, match="does not name the pictures that calibrated"):
        evaluation_of(manifest, tiny_data, None, 0)
