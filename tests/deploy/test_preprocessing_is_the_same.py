"""A bundle's own files make the same bytes of a picture as the toolkit does, and refuse the same pictures."""

import importlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from PIL import Image

import edgepress.decoding
import edgepress.interface
import edgepress.preprocessing
from edgepress.dataset import open_data
from edgepress.preprocessing import Preprocessing, PreprocessMode

Scripts = Callable[[Path], tuple[Any, Any]]
FLAT = (edgepress.decoding, edgepress.preprocessing, edgepress.interface)
NAMES = [module.__name__.rpartition(".")[2] for module in FLAT]


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """A folder with nothing but the three files that prepare pictures."""
    folder = tmp_path / "device"
    folder.mkdir()
    for module in FLAT:
        shutil.copy(str(module.__file__), folder)
    return folder


@pytest.fixture
def flat(device: Path) -> Iterator[dict[str, Any]]:
    """The three as a bundle's scripts import them, by name."""
    before = {name: sys.modules.pop(name) for name in NAMES if name in sys.modules}
    with (
        mock.patch.object(sys, "path", [str(device), *sys.path]),
        mock.patch.object(sys, "dont_write_bytecode", True),
    ):
        loaded = {name: importlib.import_module(name) for name in NAMES}
    assert {Path(str(module.__file__)).parent for module in loaded.values()} == {device}
    yield loaded
    for name in NAMES:
        del sys.modules[name]
    sys.modules.update(before)


def assert_same_inputs(flat: dict[str, Any], folder: Path, side: int, count: int) -> None:
    """Of the first `count` pictures, in all four modes, what goes into the network, byte for byte."""
    pictures = open_data(str(folder)).evaluation.take(range(count))
    assert len(pictures) == count
    for mode in PreprocessMode:
        spec = Preprocessing(mode, side, side)
        own = flat["preprocessing"].Preprocessing.from_json(spec.to_json())
        assert type(own) is not type(spec)
        for picture, wanted in zip(pictures.pictures, pictures.inputs(spec), strict=True):
            image = flat["decoding"].picture_of(folder / picture.name, own.least_size)
            found = flat["interface"].Interface().feed(own.crop(image)[np.newaxis], own)
            assert (found.dtype, found.shape) == (np.float32, (1, side, side, 3))
            assert found.tobytes() == wanted.tobytes(), (picture.name, mode)


def test_photos_become_the_same_bytes(flat: dict[str, Any], photos_folder: Path) -> None:
    assert_same_inputs(flat, photos_folder, 224, 50)


def test_pictures_of_any_size_and_mode_become_the_same_bytes(
    flat: dict[str, Any], pictures: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for i, path in enumerate(pictures):
        path.rename(folder / path.name)
        if i % 3 == 0:  # turned by EXIF, too
            exif = Image.Exif()
            exif[0x0112] = 2 + i % 7
            with Image.open(folder / path.name) as image:
                image.save(folder / path.name, exif=exif)
    assert_same_inputs(flat, folder, 224, len(pictures))


def test_they_need_nothing_of_edgepress(device: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(device)!r}); sys.modules['edgepress'] = None\n"
        f"import {', '.join(NAMES)}\n"
        "print(sorted({'PIL', 'numpy', 'edgepress.errors'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_infer_refuses_in_one_line_what_the_toolkit_refuses(
    small_bundle: Path, scripts_of: Scripts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    infer, _ = scripts_of(small_bundle)
    manifest = infer.bundle.load_manifest()
    Image.new("RGB", (40, 30)).save(tmp_path / "large.png")
    Image.new("RGB", (40, 30)).save(tmp_path / "large.jpg")
    Image.new("F", (8, 8)).save(tmp_path / "float.tiff")
    (tmp_path / "truncated.png").write_bytes((tmp_path / "large.png").read_bytes()[:60])
    (tmp_path / "text.jpg").write_text("no picture")
    monkeypatch.setattr(sys.modules["decoding"], "LARGEST_PIXELS", 1000)
    assert infer.read_pictures(tmp_path / "large.jpg", manifest).shape == (1, 8, 8, 3)
    for name, message in (
        ("large.png", "(it has 40 × 30 pixels; wanted are at most 1,000, or a JPEG"),
        ("float.tiff", "(its pixels are of mode F, and 8 or 16 bits a channel are wanted). Give another"),
        ("truncated.png", "cannot be decoded ("),
        ("text.jpg", "cannot be decoded (it is no BMP, GIF, JPEG, PNG, TIFF or WebP). Give another picture."),
        ("missing.jpg", "There is no picture at"),
    ):
        with pytest.raises(infer.Refusal) as refusal:
            infer.read_pictures(tmp_path / name, manifest)
        assert message in str(refusal.value)
        assert "\n" not in str(refusal.value)


def test_infer_says_how_to_get_pillow(
    small_bundle: Path, scripts_of: Scripts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    infer, _ = scripts_of(small_bundle)
    manifest = infer.bundle.load_manifest()
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    for name in [name for name in sys.modules if name == "PIL" or name.startswith("PIL.")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(infer.Refusal, match=r"pillow cannot be imported .*pip install -r requirements.txt"):
        infer.read_pictures(tmp_path / "a.png", manifest)
