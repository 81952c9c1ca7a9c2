import base64
import builtins
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmark.thumbnails import LARGEST_BYTES, SIDE, thumbnails_of
from edgepress.dataset import Dataset, open_data


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """cat/wide.png (red in the middle, blue at both ends) and cat/noise.png."""
    folder = tmp_path / "photos" / "cat"
    folder.mkdir(parents=True)
    wide = np.full((100, 300, 3), (0, 0, 255), np.uint8)
    wide[:, 100:200] = (255, 0, 0)
    Image.fromarray(wide).save(folder / "wide.png")
    noise = np.random.default_rng(1).integers(0, 256, (96, 96, 3)).astype(np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    return folder.parent


def opened(folder: Path) -> Dataset:
    return open_data(str(folder)).evaluation


def test_thumbnail_is_the_middle_square_as_jpeg(photos: Path) -> None:
    found = thumbnails_of(opened(photos), ["cat/wide.png"])
    assert list(found) == ["cat/wide.png"]
    with Image.open(io.BytesIO(base64.b64decode(found["cat/wide.png"]))) as image:
        assert (image.format, image.size) == ("JPEG", (SIDE, SIDE))
        assert np.abs(np.asarray(image)[:, 4:-4].astype(int) - (255, 0, 0)).max() < 16


def test_thumbnail_of_noise_is_small_all_the_same(photos: Path) -> None:
    (text,) = thumbnails_of(opened(photos), ["cat/noise.png"]).values()
    assert len(base64.b64decode(text)) <= LARGEST_BYTES


def test_picture_that_is_gone_has_no_thumbnail(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    pictures = opened(photos)
    (photos / "cat" / "noise.png").unlink()
    assert list(thumbnails_of(pictures, ["cat/noise.png", "cat/wide.png"])) == ["cat/wide.png"]
    assert "no thumbnail: The picture" in caplog.text


def test_there_are_no_thumbnails_without_pillow(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def without_pillow(name: str, *more: Any) -> Any:
        if name.startswith("PIL"):
            raise ImportError(name)
        return found(name, *more)

    pictures = opened(photos)
    monkeypatch.setattr(builtins, "__import__", without_pillow)
    assert thumbnails_of(pictures, ["cat/wide.png"]) == {}
