"""Feature vectors of any layer, as an `.npz` for whatever else learns from them."""

import io
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgepress.dataset import Dataset, Pools, open_data
from edgepress.errors import InputError, unknown_choice
from edgepress.files import atomic_path, make_folder, require_disk
from edgepress.models.keras_import import import_keras
from edgepress.models.source import ModelChoice, resolve
from edgepress.models.vgg16 import Style
from edgepress.models.weights import fingerprint_of
from edgepress.preprocessing import Preprocessing, PreprocessMode
from edgepress.progress import Progress, silent
from train.pooling import PositionPooling
from train.vectors import vectors_of

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class FeaturesRequest:
    """What `edgepress features` is asked for.

    Attributes:
        model: "vgg16", "vgg16-digits" or a `.keras` file.
        data: DATA; labels are passed on where there are some.
        out: The `.npz` file.
        cache: Folder for trained weights.
        layer: Name of the layer; None for the last one before the classifier's own.
        pooling: Over the positions of its output.
        weights: As for `edgepress export`.
        preprocess: As for `edgepress export`.
        seed: Of random weights.
    """

    model: str
    data: str
    out: Path
    cache: Path
    layer: str | None = None
    pooling: PositionPooling = PositionPooling.NONE
    weights: str | None = None
    preprocess: PreprocessMode | None = None
    seed: int = 0


@dataclass(frozen=True)
class Features:
    """What was written.

    Attributes:
        path: The `.npz` file.
        layer: Name of the layer.
        shape: Of the array `features`.
    """

    path: Path
    layer: str
    shape: tuple[int, ...]


def write_features(request: FeaturesRequest, progress: Progress = silent) -> Features:
    """Write what a layer makes of each picture.

    The file has the arrays `features` (N, …) float32, `names` (N), `layer`, `fingerprint` (SHA-256 over the
    model's weights), and, where the data has them, `labels` (N) int64 and `classes`. Memory does not grow
    with the number of pictures.

    Args:
        request: What to do.
        progress: Told "features" per picture.

    Raises:
        InputError: Bad input, no layer of that name, or too little disk. An existing file stays as it is.
    """
    if request.out.suffix != ".npz":
        raise InputError(f"--out wants a name that ends in .npz. Received: {request.out}.")
    choice = ModelChoice(
        request.model, request.weights, Style.FUNCTIONAL, request.preprocess, request.seed, request.cache
    )
    source = resolve(choice)
    pictures = _all(open_data(request.data))
    model = source.load(progress).model
    layer, network = _network(model, request.layer, request.pooling)
    shape = (len(pictures), *(int(size) for size in network.outputs[0].shape[1:]))
    make_folder(request.out.parent)
    require_disk(request.out.parent, 8 * int(np.prod(shape)), f"Writing features of shape {shape}")
    _, height, width, _ = model.inputs[0].shape
    preprocessing = Preprocessing(source.mode, height, width)
    more: dict[str, NDArray[Any]] = {
        "names": np.asarray([picture.name for picture in pictures.pictures]),
        "layer": np.asarray(layer),
        "fingerprint": np.asarray(fingerprint_of(model)),
    }
    if (labels := pictures.labels()) is not None:
        more["labels"] = labels
    if pictures.classes is not None:
        more["classes"] = np.asarray(pictures.classes)
    with atomic_path(request.out) as temporary:
        _write(temporary, network, pictures, preprocessing, shape, more, progress)
    return Features(request.out, layer, shape)


def _all(pools: Pools) -> Dataset:
    """Every picture once: the two pools are the same one, or share none (the digits)."""
    one, other = pools.calibration, pools.evaluation
    return one if one is other else replace(one, pictures=(*one.pictures, *other.pictures))


def _network(model: "keras.Model", name: str | None, pooling: PositionPooling) -> tuple[str, "keras.Model"]:
    """The part of the model up to a layer, with the pooling; and the layer's name."""
    keras = import_keras()
    names = [layer.name for layer in model.layers]
    if name is None:
        name = names[-2]
    elif name not in names:
        raise unknown_choice("layer", name, names)
    values = model.get_layer(name).output
    if pooling is not PositionPooling.NONE:
        if len(values.shape) != 4:
            raise InputError(
                f"--pooling {pooling.value} is for layers with positions, and {name} gives "
                f"{tuple(values.shape[1:])}. Leave --pooling out."
            )
        average = pooling is PositionPooling.AVERAGE
        values = (keras.layers.GlobalAveragePooling2D if average else keras.layers.GlobalMaxPooling2D)()(
            values
        )
    return name, keras.Model(model.inputs[0], values)


def _write(
    path: Path,
    network: "keras.Model",
    pictures: Dataset,
    preprocessing: Preprocessing,
    shape: tuple[int, ...],
    more: dict[str, NDArray[Any]],
    progress: Progress,
) -> None:
    """Stream the vectors into the member features.npy of the zip file, and add the small arrays."""
    views = [(picture, 0) for picture in pictures.pictures]
    progress("features", 0, len(views))
    batches = vectors_of(
        network, views, preprocessing, 0, lambda done: progress("features", done, len(views))
    )
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
        with archive.open("features.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_2_0(member, header)
            for vectors in batches:
                member.write(np.ascontiguousarray(vectors, "<f4").tobytes())
        for name, array in more.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array, allow_pickle=False)
            archive.writestr(f"{name}.npy", content.getvalue())
