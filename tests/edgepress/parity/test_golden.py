import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepress.errors import InputError
from edgepress.files import sha256_of_file
from edgepress.manifest import GOLDEN, Manifest
from edgepress.models.keras_import import import_keras
from edgepress.parity.golden import GoldenSet, PictureKind, load_golden
from edgepress.parity.golden_pictures import PHOTOS, golden_pictures
from edgepress.preprocessing import Preprocessing, PreprocessMode
from export.golden import golden_set
from export.stage import ExportRequest, export_model

TF = Preprocessing(PreprocessMode.TF, 24, 24)


def golden_of(folder: Path) -> GoldenSet:
    return load_golden(folder, Manifest.load(folder).model.golden_sha256)


def test_golden_pictures_are_photos_one_drawn_and_three_flat_ones() -> None:
    pictures, kinds = golden_pictures(None, TF)
    assert kinds == (
        PictureKind.WAVES,
        *[PictureKind.PHOTO] * PHOTOS,
        *(PictureKind.ZEROS, PictureKind.SATURATED, PictureKind.SINGLE_COLOUR),
    )
    assert pictures.shape == (len(kinds), 24, 24, 3)
    assert len(np.unique(pictures, axis=0)) == len(pictures)
    assert all(picture.std(axis=(0, 1)).min() > 20 for picture in pictures[:-3])
    assert [picture.std(axis=(0, 1)).max() for picture in pictures[-3:]] == [0, 0, 0]


def test_golden_photos_are_drawn_from_the_users_data(sample_photos: Path) -> None:
    pictures, kinds = golden_pictures(str(sample_photos), TF)
    assert kinds.count(PictureKind.PHOTO) == PHOTOS
    np.testing.assert_array_equal(pictures, golden_pictures(str(sample_photos), TF)[0])
    assert not np.array_equal(pictures, golden_pictures("digits", TF)[0])


def test_golden_set_holds_keras_own_values(small_file: Path, small_folder: Path) -> None:
    golden = golden_of(small_folder)
    assert [layer.name for layer in golden.layers] == [
        *("conv1", "pool1", "body/conv2", "body/pool2", "fc", "scores"),  # and no Flatten
    ]
    keras = import_keras()
    model = keras.models.load_model(small_file)
    until = keras.Model(model.inputs, model.get_layer("pool1").output)
    wanted = np.asarray(until(TF.normalize(golden.pictures))).reshape(len(golden.pictures), -1)
    pool = golden.layers[1]
    assert pool.positions.shape == (256,)
    np.testing.assert_allclose(pool.values, wanted[:, pool.positions], atol=1e-6)


def test_golden_set_is_the_same_bytes_each_time(small_folder: Path, small_file: Path, tmp_path: Path) -> None:
    request = ExportRequest(str(small_file), tmp_path / "out", tmp_path, preprocess=PreprocessMode.TF)
    again = export_model(replace(request, formats=request.formats[:1]))
    assert (tmp_path / "out" / GOLDEN).read_bytes() == (small_folder / GOLDEN).read_bytes()
    assert again.model.golden_sha256 == sha256_of_file(small_folder / GOLDEN)


def test_normalization_that_is_folded_stands_for_the_layer_before_it(
    tiny_layers: Callable[[], list[Any]],
) -> None:
    keras = import_keras()
    network = keras.Sequential([keras.Input((24, 24, 3)), *tiny_layers()])
    before = [vars(layer).copy().keys() for layer in network.layers]
    golden = golden_set(network, TF, *golden_pictures(None, TF))
    assert [(layer.name, layer.merged) for layer in golden.layers] == [
        ("norm", "conv"),
        *((name, "") for name in ("relu", "pool", "scores")),
    ]
    assert [vars(layer).keys() for layer in network.layers] == before


@pytest.mark.parametrize("what", ["edited", "missing", "unnamed"])
def test_golden_set_that_is_not_the_exports_is_refused(
    small_folder: Path, copy_of: Callable[[Path], Path], what: str
) -> None:
    folder = copy_of(small_folder)
    sha256 = Manifest.load(folder).model.golden_sha256
    path = folder / GOLDEN
    if what == "edited":
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    elif what == "missing":
        path.unlink()
    message = r"was changed: SHA-256 is" if what == "edited" else r"has no golden\.npz"
    with pytest.raises(InputError, match=rf"{message}.*Run the same `edgepress export` again"):
        load_golden(folder, None if what == "unnamed" else sha256)


def test_golden_set_of_another_form_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / GOLDEN, pictures=np.zeros(3))
    with pytest.raises(InputError, match="is no golden set of this version"):
        load_golden(tmp_path, sha256_of_file(tmp_path / GOLDEN))


def test_export_makes_a_lost_golden_set_anew_and_nothing_else(
    small_file: Path, small_folder: Path, copy_of: Callable[[Path], Path]
) -> None:
    folder = copy_of(small_folder)
    (folder / GOLDEN).write_bytes(b"edited")
    times = {path: path.stat().st_mtime_ns for path in folder.glob("*-fp32*")}
    request = ExportRequest(str(small_file), folder, folder, preprocess=PreprocessMode.TF)
    assert export_model(request) == Manifest.load(folder)
    assert golden_of(folder).logits.shape == (PHOTOS + 4, 5)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert math.isfinite(float(golden_of(folder).logits.sum()))
