"""DATA: the pictures that calibrate and that evaluate, never the same one for both.

`digits` (scikit-learn's handwritten digits), an image folder (`class/*.jpg`), or an `.npz` with `images`
(uint8, NHWC, RGB) and optional `labels`. The pictures of a folder are read one at a time: memory does
not grow with their number. An `.npz` is in memory as a whole.
"""

import hashlib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.decoding import picture_of
from edgepress.errors import InputError, MissingRuntimeError
from edgepress.files import sha256_of_file, sha256_of_json
from edgepress.interface import PLAIN, Interface
from edgepress.preprocessing import Preprocessing

DIGITS = "digits"
DIGITS_HELD_OUT = 599
_DIGITS_SIDE = 32
_LARGEST_LABEL = 10**6
_DIGITS_SEED = 0
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})

Cropper = Callable[[Preprocessing], NDArray[np.uint8]]


@dataclass(frozen=True)
class Picture:
    """One picture of a dataset.

    Attributes:
        name: File name relative to the folder, or the index in the array.
        label: Index into the dataset's classes, or None.
        sha256: Of the file's bytes or of the array's bytes: the identity that keeps calibration and
            evaluation apart.
        read: Gives (height, width, 3) uint8 RGB, cropped to a model's input.
    """

    name: str
    label: int | None
    sha256: str
    read: Cropper


@dataclass(frozen=True)
class Dataset:
    """An ordered set of pictures.

    Attributes:
        source: What the user wrote, e.g. "digits" or a folder.
        pictures: In a stable order.
        classes: Class names, or None where the data has none.
    """

    source: str
    pictures: tuple[Picture, ...]
    classes: tuple[str, ...] | None

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the identities and labels of all pictures, in order."""
        return sha256_of_json([(p.sha256, p.label) for p in self.pictures])

    def labels(self) -> NDArray[np.int64] | None:
        """(N,) int64 labels, or None unless every picture has one."""
        found = [p.label for p in self.pictures if p.label is not None]
        return np.asarray(found, np.int64) if found and len(found) == len(self) else None

    def take(self, indices: Sequence[int]) -> "Dataset":
        """The pictures of these indices, in this order."""
        return replace(self, pictures=tuple(self.pictures[i] for i in indices))

    def sample(self, count: int, seed: int) -> "Dataset":
        """`count` pictures (all, if there are fewer), drawn without replacement, in drawing order."""
        order = np.random.default_rng(seed).permutation(len(self))
        return self.take([int(i) for i in order[:count]])

    def without(self, identities: frozenset[str]) -> "Dataset":
        """All pictures whose SHA-256 is not among `identities`."""
        return replace(self, pictures=tuple(p for p in self.pictures if p.sha256 not in identities))

    def only(self, identities: frozenset[str]) -> "Dataset":
        """The pictures whose SHA-256 is among `identities`."""
        return replace(self, pictures=tuple(p for p in self.pictures if p.sha256 in identities))

    def inputs(self, preprocessing: Preprocessing, interface: Interface = PLAIN) -> Iterator[NDArray[Any]]:
        """An artifact's inputs, one picture at a time: (1, height, width, 3) float32 by default.

        Raises:
            InputError: A picture cannot be decoded.
        """
        for picture in self.pictures:
            yield interface.feed(picture.read(preprocessing)[np.newaxis], preprocessing)


@dataclass(frozen=True)
class Pools:
    """DATA as the two stages see it.

    Attributes:
        calibration: What `optimize` may draw from.
        evaluation: What `benchmark` evaluates, after leaving out what calibration drew.
    """

    calibration: Dataset
    evaluation: Dataset


def open_data(data: str) -> Pools:
    """Open DATA: "digits", an image folder or an `.npz` file.

    For an image folder and an `.npz` both pools are the whole set; for the digits they are the training
    two thirds and the held-out third, on which `vgg16-digits` was not trained.

    Raises:
        InputError: No such file or folder, no picture in it, or an `.npz` of another form.
    """
    if data == DIGITS:
        train, held_out = digits()
        return Pools(train, held_out)
    path = Path(data)
    if path.is_dir():
        found = _folder(path)
    elif path.suffix == ".npz" and path.is_file():
        found = _npz(path)
    else:
        raise InputError(
            f"No data at {data!r}. Give `digits`, an image folder (class/*.jpg) or an .npz file "
            "with `images`."
        )
    return Pools(found, found)


def drawn_from(data: str, count: int, seed: int) -> Dataset:
    """At most `count` evaluation pictures of DATA, as `Dataset.sample` draws them; no other file is read.

    Raises:
        InputError: See `open_data`.
    """
    if not Path(data).is_dir() or data == DIGITS:
        return open_data(data).evaluation.sample(count, seed)

    def draw(files: list[Path]) -> list[Path]:
        order = np.random.default_rng(seed).permutation(len(files))
        return [files[int(i)] for i in order[:count]]

    return _folder(Path(data), draw)


def _folder(folder: Path, draw: Callable[[list[Path]], list[Path]] = list) -> Dataset:
    """Pictures of `folder`/class/*; a folder without class folders gives pictures without labels.

    Args:
        folder: Its files are listed.
        draw: Chooses among them. Only what it gives is read.
    """
    files = sorted(p for p in folder.glob("*/*") if _is_picture(p))
    classes: tuple[str, ...] | None = tuple(sorted({p.parent.name for p in files}))
    if not files:
        files = sorted(p for p in folder.glob("*") if _is_picture(p))
        classes = None
    if not files:
        raise InputError(
            f"No pictures in {folder}: wanted class/*.jpg (or .jpeg, .png, .bmp, .webp). Check the folder."
        )
    index = {name: i for i, name in enumerate(classes or ())}
    pictures = tuple(
        Picture(
            p.relative_to(folder).as_posix(),
            index.get(p.parent.name) if classes else None,
            _sha256_of_picture(p),
            _file_reader(p),
        )
        for p in draw(files)
    )
    return Dataset(str(folder), pictures, classes)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and not path.is_dir()


def _sha256_of_picture(path: Path) -> str:
    try:
        return sha256_of_file(path)
    except OSError as error:
        raise InputError(f"The picture {path} cannot be read ({error}). Remove it or replace it.") from error


def _file_reader(path: Path) -> Cropper:
    def read(preprocessing: Preprocessing) -> NDArray[np.uint8]:
        _pillow()
        try:
            return preprocessing.crop(picture_of(path, preprocessing.least_size))
        except ValueError as error:
            raise InputError(
                f"The picture {path} cannot be decoded ({error}). Remove it or replace it."
            ) from error

    return read


def _npz(path: Path) -> Dataset:
    try:
        with zipfile.ZipFile(path):  # np.load also takes a bare array, which has no names
            pass
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read as .npz ({error}). Write it with numpy.savez.") from error
    if "images" not in arrays:
        raise InputError(
            f"{path} has no array `images` (found: {', '.join(sorted(arrays)) or 'none'}). "
            "Save it with numpy.savez(path, images=…, labels=…)."
        )
    images, labels = arrays["images"], arrays.get("labels")
    _require_pixels(path, images)
    if labels is not None and (labels.shape != images.shape[:1] or labels.dtype.kind not in "iu"):
        raise InputError(
            f"{path}: `labels` must be integers of shape ({len(images)},). "
            f"Received: {labels.dtype} {labels.shape}. Convert it."
        )
    if labels is not None and (labels.min() < 0 or labels.max() > _LARGEST_LABEL):
        raise InputError(
            f"{path}: `labels` must be class indices from 0. Received: {labels.min()} to {labels.max()}. "
            "Number the classes, or leave `labels` out."
        )
    return _from_arrays(str(path), images, labels, None)


def _require_pixels(path: Path, images: NDArray[Any]) -> None:
    if images.dtype.kind == "f" and images.size and images.min() >= 0 and images.max() <= 1:
        raise InputError(
            f"{path}: `images` must be uint8 from 0 to 255. Received: {images.dtype} with all values in 0…1. "
            "Save numpy.rint(images * 255).astype(numpy.uint8) instead."
        )
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not images.size:
        raise InputError(
            f"{path}: `images` must be uint8 of shape (N, height, width, 3), RGB, none of them 0. "
            f"Received: {images.dtype} {images.shape}. Convert it."
        )
    if images.max() == 1:
        raise InputError(
            f"{path}: `images` must be uint8 from 0 to 255. Received: 0 and 1 only, as fractions become in "
            "uint8. Save numpy.rint(images * 255).astype(numpy.uint8) of the fractions instead."
        )


def _from_arrays(
    source: str,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64] | None,
    classes: tuple[str, ...] | None,
) -> Dataset:
    pictures = tuple(
        Picture(
            str(i),
            int(labels[i]) if labels is not None else None,
            hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest(),
            _array_reader(image),
        )
        for i, image in enumerate(images)
    )
    return Dataset(source, pictures, classes)


def _array_reader(image: NDArray[np.uint8]) -> Cropper:
    def read(preprocessing: Preprocessing) -> NDArray[np.uint8]:
        if image.shape[:2] == (preprocessing.height, preprocessing.width):
            return image  # as `crop` would give it; a device need not have pillow for this
        return preprocessing.crop(_pillow().fromarray(image))

    return read


@lru_cache(maxsize=1)
def digits() -> tuple[Dataset, Dataset]:
    """scikit-learn's 1,797 handwritten digits as (1198 training, 599 held-out) RGB pictures, 32×32.

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI (1998), as shipped
    with scikit-learn: 8×8 pixels of 0…16, here scaled to 0…255 and enlarged bilinearly.
    """
    pillow = _pillow()
    table = np.loadtxt(_digits_file(), delimiter=",", dtype=np.uint8)
    values, labels = table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)
    small = np.round(values * (255 / 16)).astype(np.uint8)
    large = [
        np.asarray(pillow.fromarray(image).resize((_DIGITS_SIDE, _DIGITS_SIDE), resample=2).convert("RGB"))
        for image in small
    ]
    classes = tuple(str(i) for i in range(10))
    whole = _from_arrays(DIGITS, np.stack(large), labels, classes)
    order = np.random.default_rng(_DIGITS_SEED).permutation(len(whole))
    held_out = whole.take([int(i) for i in order[:DIGITS_HELD_OUT]])
    return whole.take([int(i) for i in order[DIGITS_HELD_OUT:]]), held_out


def _digits_file() -> Path:
    """The table inside scikit-learn. Its own loader gives the same, but takes two seconds to import."""
    found = find_spec("sklearn")
    if found is None or not found.submodule_search_locations:
        raise MissingRuntimeError("scikit-learn", "data")
    return Path(found.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingRuntimeError("pillow", "data") from error
    return Image
