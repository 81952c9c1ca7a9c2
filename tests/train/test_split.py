import numpy as np
import pytest

from edgepress.dataset import Dataset, Picture
from edgepress.errors import InputError
from edgepress.preprocessing import Preprocessing
from train.split import split


def nothing(_: Preprocessing) -> "np.typing.NDArray[np.uint8]":
    raise AssertionError("no picture is read")


def data(*pairs: tuple[str, int | None]) -> Dataset:
    pictures = tuple(Picture(f"{i}", label, sha, nothing) for i, (sha, label) in enumerate(pairs))
    return Dataset("photos", pictures, ("cat", "dog"))


def test_split_sets_aside_the_share_of_each_class() -> None:
    pictures = data(*((f"c{i}", 0) for i in range(20)), *((f"d{i}", 1) for i in range(10)))
    found = split(pictures, 0.2, seed=1)
    assert [sum(p.label == label for p in found.validation.pictures) for label in (0, 1)] == [4, 2]
    assert len(found.training) + len(found.validation) == 30
    assert not {p.sha256 for p in found.training.pictures} & {p.sha256 for p in found.validation.pictures}
    assert found == split(pictures, 0.2, seed=1)
    assert found != split(pictures, 0.2, seed=2)


def test_split_keeps_copies_of_a_picture_together() -> None:
    found = split(data(("a", 0), ("a", 0), ("b", 0), ("c", 1), ("d", 1)), 0.5, seed=0)
    parts = [[p.sha256 for p in part.pictures] for part in (found.training, found.validation)]
    assert sorted(part.count("a") for part in parts) == [0, 2]


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_split_leaves_no_part_of_a_class_empty(share: float) -> None:
    found = split(data(("a", 0), ("b", 0), ("c", 1), ("d", 1)), share, seed=0)
    for part in (found.training, found.validation):
        assert {p.label for p in part.pictures} == {0, 1}


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ((("a", 0), ("b", 0), ("c", 1)), "class 'dog' has 1 different pictures, and at least 2 are needed"),
        ((("a", 0), ("a", 0), ("c", 1), ("d", 1)), "class 'cat' has 1 different pictures"),
        ((("a", 0), ("b", 0), ("a", 1), ("d", 1)), "2 is in another class, too"),
        ((("a", None), ("b", 0)), "0 has no label. Put it into a class folder"),
    ],
)
def test_split_refuses(pairs: tuple[tuple[str, int | None], ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        split(data(*pairs), 0.5, seed=0)
