"""Which pictures are evaluated: those of DATA that neither trained nor calibrated; and their labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.dataset import DIGITS, Dataset, open_data
from edgepress.errors import InputError
from edgepress.manifest import Manifest, ModelCard

Labels = NDArray[np.int64]

_DIGITS_MODEL = "vgg16-digits"


@dataclass(frozen=True)
class Evaluation:
    """The pictures to evaluate, and how many of DATA were left out because they trained or calibrated."""

    pictures: Dataset
    left_out: int


def data_for(model: str, data: str | None) -> str:
    """DATA as asked for, or the default of the embedded model.

    Raises:
        InputError: There is no default for this model.
    """
    if data is not None:
        return data
    if model == _DIGITS_MODEL:
        return DIGITS
    raise InputError(
        f"Which pictures shall {model} be evaluated on? "
        "Name them with --data: digits, an image folder or an .npz file."
    )


def evaluation_of(
    manifest: Manifest,
    data: str,
    limit: int | None,
    seed: int,
    calibrations: tuple[Mapping[str, Any], ...] = (),
) -> Evaluation:
    """Choose the pictures.

    Args:
        manifest: Each calibrated artifact names, in its provenance, the pictures to leave out. All of them
            count, also where artifacts were calibrated at different times. The pictures that the model card
            says it was trained on are left out too, whatever folder they are in.
        data: DATA.
        limit: At most so many pictures, drawn with `seed`.
        seed: Of the draw.
        calibrations: More of what calibrated, as in an artifact's provenance: `source` and `pictures`.

    Raises:
        InputError: DATA cannot be opened, nothing is left of it, or it is another set than one that
            calibrated and shares pictures with it.
    """
    pool = open_data(data).evaluation
    known = _calibrations(manifest, calibrations)
    for source, identities in known:
        shared = len(pool) - len(pool.without(identities))
        if shared and not _same_data(data, source):
            raise InputError(
                f"{shared} pictures of {data} also calibrated an INT8 version (from {source}): accuracy on "
                "them proves nothing. Remove them, or evaluate on the data that calibrated, of which the "
                "used ones are left out."
            )
    used = frozenset(identity for _, identities in known for identity in identities)
    pictures = pool.without(used | frozenset(manifest.model.trained_on))
    if not len(pictures):
        raise InputError(
            f"All {len(pool)} pictures of {data} were used for training or calibration: none is left to "
            "evaluate. Add pictures, or calibrate with fewer (optimize --samples)."
        )
    left_out = len(pool) - len(pictures)
    return Evaluation(pictures if limit is None else pictures.sample(limit, seed), left_out)


def _calibrations(
    manifest: Manifest, more: tuple[Mapping[str, Any], ...]
) -> tuple[tuple[str, frozenset[str]], ...]:
    """DATA and SHA-256 of the pictures behind each calibrated artifact."""
    found = [a for a in manifest.artifacts if "calibration" in a.provenance]
    try:
        values = [*(artifact.provenance["calibration"] for artifact in found), *more]
        return tuple((value["source"], frozenset(value["pictures"])) for value in values)
    except (KeyError, TypeError) as error:
        raise InputError(
            f"The manifest in {manifest.folder} does not name the pictures that calibrated ({error!r}). "
            "Remove it, export and optimize again."
        ) from error


def _same_data(one: str, other: str) -> bool:
    return one == other or Path(one).absolute().resolve() == Path(other).absolute().resolve()


def labels_for(model: ModelCard, pictures: Dataset) -> tuple[Labels | None, str | None]:
    """(N,) class indices in the order of the model's logits, or None and the reason.

    Classes are matched by name where model and data both name them, so a folder with some of the model's
    classes, in any order, counts. Without names on either side the numbers must agree.
    """
    labels, classes = pictures.labels(), pictures.classes
    if labels is None:
        return None, "no top-1: the pictures have no labels"
    if classes is not None and model.labels is not None:
        places = {name: i for i, name in enumerate(model.labels)}
        if all(name in places for name in classes):
            return np.asarray([places[name] for name in classes], np.int64)[labels], None
        stranger = next(name for name in classes if name not in places)
        return None, f"no top-1: the data's class {stranger!r} is none of the model's {len(places)} classes"
    count = len(classes) if classes is not None else int(labels.max()) + 1
    if count > model.class_count or (classes is not None and count != model.class_count):
        return None, f"no top-1: the data has {count} classes, the model {model.class_count}"
    return labels, None
