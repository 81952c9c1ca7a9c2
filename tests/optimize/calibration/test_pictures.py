"""Pictures that must not calibrate, through the stage: what is wrong is found and said."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgepress.errors import InputError
from edgepress.manifest import Manifest
from optimize.calibration import CALIBRATION
from optimize.stage import OptimizeRequest, optimize_folder

RECIPE = "tensorrt_static_wi8_ai8"


def optimized(folder: Path, data: Path, samples: int = 8) -> Manifest:
    return optimize_folder(OptimizeRequest(folder, "linux-x64-avx2", (RECIPE,), str(data), samples, 0))


def written(folder: Path, images: "list[np.ndarray]") -> Path:
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i}.png")
    return folder


def noise(count: int) -> "list[np.ndarray]":
    return list(np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8))


def plain(count: int) -> "list[np.ndarray]":
    return [np.full((8, 8, 3), (i, 9, 200), np.uint8) for i in range(count)]


def test_pictures_of_a_single_colour_are_refused(folder: Path, tmp_path: Path) -> None:
    data = written(tmp_path / "plain", plain(3))
    with pytest.raises(InputError, match=r"All 3 calibration pictures of .*plain are of a single colour"):
        optimized(folder, data)
    assert not (folder / CALIBRATION).exists()
    assert Manifest.load(folder).find("tensorrt-static_wi8_ai8") is None


def test_some_pictures_of_a_single_colour_are_told_once(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = written(tmp_path / "some", [*noise(5), *plain(2)])
    optimized(folder, data)
    told = [r.getMessage() for r in caplog.records if "single colour" in r.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("2 of 7 calibration pictures are of a single colour, such as '")


def test_pictures_of_0_and_1_are_refused(folder: Path, tmp_path: Path) -> None:
    data = written(tmp_path / "dark", [image // 128 for image in noise(4)])
    with pytest.raises(InputError, match="All values of the 4 .* are 0 or 1: wanted RGB from 0 to 255"):
        optimized(folder, data)


def test_one_picture_calibrates_with_a_warning(
    folder: Path, npz: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = optimized(folder, npz, samples=1)
    assert made.find("tensorrt-static_wi8_ai8") is not None
    assert "onnx-fp32 was calibrated on one picture" in caplog.text


def test_halves_that_differ_are_told_once(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    grey = [np.clip(image, 126, 129) for image in noise(4)]
    data = written(tmp_path / "odd", [*grey, *noise(4)])
    with caplog.at_level(logging.WARNING):
        for seed in range(3):  # the order is drawn
            request = OptimizeRequest(folder, "linux-x64-avx2", (RECIPE,), str(data), 2, seed)
            optimize_folder(request)
    told = [r.getMessage() for r in caplog.records if "are too few" in r.getMessage()]
    assert told
    assert "onnx-fp32: 2 calibration pictures are too few." in told[0]
    assert told[0].endswith("Give --samples 8.")
