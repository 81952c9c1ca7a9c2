"""The golden set: pictures with Keras' answers, layer by layer, so that parity needs no Keras afterwards.

Of each layer a sketch is kept: its values at a few drawn positions. That is enough to see where a version
leaves Keras' way, and takes some hundred kilobytes; all activations of full VGG16 would take 60 MB a picture.
"""

import io
import json
import zipfile
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgepress.errors import InputError
from edgepress.files import sha256_of_file, write_bytes
from edgepress.manifest import GOLDEN
from edgepress.metrics import Logits

SKETCHED_VALUES = 256
_NAMES = "names"


class PictureKind(str, Enum):
    """What a golden picture shows."""

    PHOTO = "photo"
    WAVES = "waves"  # drawn: see `golden_pictures.smooth_picture`
    ZEROS = "zeros"
    SATURATED = "saturated"
    SINGLE_COLOUR = "single colour"

    @property
    def has_structure(self) -> bool:
        """Whether the picture is one that a classifier can be asked about; the others are flat."""
        return self in {PictureKind.PHOTO, PictureKind.WAVES}


@dataclass(frozen=True)
class LayerSketch:
    """Some of what one Keras layer gives for every golden picture.

    Attributes:
        name: Of the layer; "outer/inner" inside a nested model.
        merged: Name of the layer before it that exported files may have merged it into, where it is a batch
            normalization; else "".
        shape: Of its output, without the batch, channels last.
        positions: (K,) int64 indices into the flattened output of one picture, ascending.
        values: (N, K) float32.
    """

    name: str
    merged: str
    shape: tuple[int, ...]
    positions: NDArray[np.int64]
    values: NDArray[np.float32]


@dataclass(frozen=True)
class GoldenSet:
    """Pictures and what Keras gives for them.

    Attributes:
        pictures: (N, height, width, 3) uint8 RGB.
        kinds: Of each picture.
        logits: (N, classes).
        layers: In the order in which Keras computes them.
    """

    pictures: NDArray[np.uint8]
    kinds: tuple[PictureKind, ...]
    logits: Logits
    layers: tuple[LayerSketch, ...]

    def of_kind(self, *, structured: bool) -> NDArray[np.intp]:
        """Indices of the pictures that have structure, or of those that have none."""
        return np.flatnonzero([kind.has_structure is structured for kind in self.kinds])

    def save(self, path: Path) -> None:
        """Write it atomically; the same content gives the same bytes."""
        about = {
            "kinds": [kind.value for kind in self.kinds],
            "layers": [{"name": x.name, "merged": x.merged, "shape": x.shape} for x in self.layers],
        }
        arrays = {_NAMES: np.asarray(json.dumps(about)), "pictures": self.pictures, "logits": self.logits}
        for i, layer in enumerate(self.layers):
            arrays |= {f"positions_{i}": layer.positions, f"values_{i}": layer.values}
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)  # type: ignore[arg-type] # numpy's stub takes `allow_pickle` for one
        write_bytes(path, content.getvalue())


def load_golden(folder: Path, sha256: str | None) -> GoldenSet:
    """Read the golden set of a folder.

    Args:
        folder: With a manifest.json.
        sha256: Of the file, as the manifest says; None if it names none.

    Raises:
        InputError: There is none, or it is not the one that the export made.
    """
    path = folder / GOLDEN
    again = (
        "Run the same `edgepress export` again: it makes the golden set anew and keeps what is up to date."
    )
    if sha256 is None or not path.is_file():
        raise InputError(f"{folder} has no {GOLDEN}, so nothing can be compared with Keras. {again}")
    found = sha256_of_file(path)
    if found != sha256:
        raise InputError(
            f"{path} was changed: SHA-256 is {found[:12]}…, the manifest says {sha256[:12]}…. {again}"
        )
    try:
        with np.load(path, allow_pickle=False) as archive:
            about = json.loads(str(archive[_NAMES]))
            layers = tuple(
                LayerSketch(
                    x["name"],
                    x["merged"],
                    tuple(x["shape"]),
                    archive[f"positions_{i}"],
                    archive[f"values_{i}"],
                )
                for i, x in enumerate(about["layers"])
            )
            kinds = tuple(PictureKind(kind) for kind in about["kinds"])
            return GoldenSet(archive["pictures"], kinds, archive["logits"], layers)
    except (KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is no golden set of this version ({error!r}). {again}") from error


def sketched_positions(size: int, seed: int) -> NDArray[np.int64]:
    """Indices of at most 256 of `size` values, drawn without replacement, ascending."""
    generator = np.random.default_rng(seed)
    return np.sort(generator.choice(size, min(size, SKETCHED_VALUES), replace=False)).astype(np.int64)
