from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgepress.dataset import DIGITS_HELD_OUT, digits, open_data
from edgepress.errors import InputError
from edgepress.preprocessing import Preprocessing, PreprocessMode

SPEC = Preprocessing(PreprocessMode.NONE, 8, 8)


def folder_with(tmp_path: Path, *names: str) -> Path:
    for i, name in enumerate(names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (i, 2 * i, 3 * i)).save(tmp_path / name)
    return tmp_path


def test_digits_pools_are_disjoint_and_of_the_documented_size() -> None:
    pools = open_data("digits")
    train = {p.sha256 for p in pools.calibration.pictures}
    assert (len(pools.calibration), len(pools.evaluation)) == (1198, DIGITS_HELD_OUT)
    assert not train & {p.sha256 for p in pools.evaluation.pictures}
    image = pools.evaluation.pictures[0].read(Preprocessing(PreprocessMode.NONE, 32, 32))
    assert image.shape == (32, 32, 3)
    assert image.max() > 200


def test_folder_gives_classes_in_alphabetical_order(tmp_path: Path) -> None:
    found = open_data(str(folder_with(tmp_path, "dog/b.png", "cat/a.jpg", "cat/c.jpeg"))).evaluation
    assert found.classes == ("cat", "dog")
    labels = found.labels()
    assert labels is not None
    assert labels.tolist() == [0, 0, 1]
    assert [p.name for p in found.pictures] == ["cat/a.jpg", "cat/c.jpeg", "dog/b.png"]


def test_folder_without_class_folders_has_no_labels(tmp_path: Path) -> None:
    found = open_data(str(folder_with(tmp_path, "a.png", "b.png"))).evaluation
    assert found.classes is None
    assert found.labels() is None


def test_sample_is_seeded_and_without_leaves_the_rest(tmp_path: Path) -> None:
    whole = open_data(str(folder_with(tmp_path, *(f"c/{i}.png" for i in range(9))))).evaluation
    drawn = whole.sample(4, seed=3)
    assert [p.name for p in drawn.pictures] == [p.name for p in whole.sample(4, seed=3).pictures]
    assert [p.name for p in drawn.pictures] != [p.name for p in whole.sample(4, seed=4).pictures]
    rest = whole.without(frozenset(p.sha256 for p in drawn.pictures))
    assert len(rest) == 5
    assert not {p.name for p in rest.pictures} & {p.name for p in drawn.pictures}


def test_inputs_come_one_at_a_time(tmp_path: Path) -> None:
    found = list(open_data(str(folder_with(tmp_path, "c/a.png", "c/b.png"))).evaluation.inputs(SPEC))
    assert [x.shape for x in found] == [(1, 8, 8, 3), (1, 8, 8, 3)]
    assert found[1][0, 0, 0].tolist() == [1, 2, 3]


def test_npz_gives_images_and_labels(tmp_path: Path) -> None:
    images = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)
    np.savez(tmp_path / "a.npz", images=images, labels=np.array([4, 2]))
    found = open_data(str(tmp_path / "a.npz")).evaluation
    labels = found.labels()
    assert labels is not None
    assert labels.tolist() == [4, 2]
    np.testing.assert_array_equal(found.pictures[1].read(SPEC), images[1])


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No pictures in .*: wanted class/\*\.jpg"):
        open_data(str(tmp_path))


def test_missing_data_is_refused() -> None:
    with pytest.raises(InputError, match="No data at '/nowhere'"):
        open_data("/nowhere")


def test_broken_jpeg_is_named(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "c/a.jpg")
    whole = (folder / "c/a.jpg").read_bytes()
    (folder / "c/a.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"The picture .*c/a\.jpg cannot be decoded"):
        list(open_data(str(folder)).evaluation.inputs(SPEC))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": np.zeros(1)}, "no array `images` .found: pictures"),
        ({"images": np.zeros((2, 8, 8, 3))}, "must be uint8 .*Received: float64"),
        ({"images": np.zeros((8, 8, 3), np.uint8)}, r"Received: uint8 \(8, 8, 3\)"),
        (
            {"images": np.full((2, 8, 8, 3), 255.0)},
            r"must be uint8 of shape .*Received: float64 \(2, 8, 8, 3\)",
        ),
        (
            {"images": np.linspace(0, 1, 384, dtype=np.float32).reshape(2, 8, 8, 3)},
            r"Received: float32 with all values in 0…1. Save numpy.rint\(images \* 255\)",
        ),
        (
            {"images": np.arange(384, dtype=np.uint8).reshape(2, 8, 8, 3) % 2},
            "uint8 from 0 to 255. Received: 0 and 1 only",
        ),
        ({"images": np.zeros((0, 8, 8, 3), np.uint8)}, "none of them 0"),
        ({"images": np.zeros((5, 0, 8, 3), np.uint8)}, "none of them 0"),
        (
            {"images": np.zeros((2, 8, 8, 3), np.uint8), "labels": np.array([-1, 1])},
            "must be class indices from 0. Received: -1 to 1",
        ),
        (
            {"images": np.zeros((2, 8, 8, 3), np.uint8), "labels": np.array([0, 2**63], np.uint64)},
            "must be class indices",
        ),
        ({"images": np.zeros((2, 8, 8, 3), np.uint8), "labels": np.zeros(3, int)}, r"of shape \(2,\)"),
    ],
)
def test_npz_of_another_form_is_refused(tmp_path: Path, arrays: dict[str, object], message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        open_data(str(tmp_path / "a.npz"))


@pytest.mark.parametrize("kind", ["truncated", "empty", "bare array"])
def test_npz_that_is_no_archive_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(b"" if kind == "empty" else b"PK\x03\x04 truncated")
    if kind == "bare array":
        with path.open("wb") as stream:
            np.save(stream, np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(InputError, match=r"cannot be read as \.npz"):
        open_data(str(path))


def test_folder_with_a_name_like_a_picture_is_passed_over(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "c/a.png")
    (folder / "c" / "b.png").mkdir()
    assert [p.name for p in open_data(str(folder)).evaluation.pictures] == ["c/a.png"]


def test_dangling_link_is_named(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "c/a.png")
    (folder / "c" / "b.png").symlink_to("nowhere.png")
    with pytest.raises(InputError, match=r"The picture .*c/b\.png cannot be read"):
        open_data(str(folder))


def test_picture_of_an_absurd_size_is_named(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "c/a.png")
    Image.new("1", (20_000, 20_000)).save(folder / "c" / "a.png")
    with pytest.raises(InputError, match=r"c/a\.png cannot be decoded"):
        list(open_data(str(folder)).evaluation.inputs(SPEC))


def test_digits_are_those_that_scikit_learn_loads() -> None:
    from sklearn.datasets import load_digits

    train, held_out = digits()
    found = load_digits()
    assert len(train) + len(held_out) == len(found.target)
    labels = np.concatenate([part.labels() for part in (train, held_out)])
    names = [int(p.name) for part in (train, held_out) for p in part.pictures]
    assert np.array_equal(labels, found.target[names])
    as_read = held_out.pictures[0].read(Preprocessing(PreprocessMode.NONE, 32, 32))
    small = found.images[int(held_out.pictures[0].name)]
    middles = as_read[2::4, 2::4, 0].astype(float) / 255 * 16  # bilinear, so close to the pixel's own value
    assert np.corrcoef(middles.ravel(), small.ravel())[0, 1] > 0.95
