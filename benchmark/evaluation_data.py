"""Which pictures are evaluated: those of DATA that calibration has not seen."""

from dataclasses import dataclass
from pathlib import Path

from edgepress.dataset import DIGITS, Dataset, open_data
from edgepress.errors import InputError
from edgepress.files import read_json

CALIBRATION = "calibration.json"
_DIGITS_MODEL = "vgg16-digits"


@dataclass(frozen=True)
class Evaluation:
    """The pictures to evaluate, and how many of DATA were left out because they calibrated."""

    pictures: Dataset
    left_out: int


@dataclass(frozen=True)
class _Calibration:
    source: str
    identities: frozenset[str]


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


def evaluation_of(folder: Path, data: str, limit: int | None, seed: int) -> Evaluation:
    """Choose the pictures.

    Args:
        folder: Of the manifest; its calibration.json, if there is one, names the pictures to leave out.
        data: DATA.
        limit: At most so many pictures, drawn with `seed`.
        seed: Of the draw.

    Raises:
        InputError: DATA cannot be opened, nothing is left of it, or it is another set than the one that
            calibrated and shares pictures with it.
    """
    pool = open_data(data).evaluation
    used = _calibration(folder)
    pictures = pool.without(used.identities)
    left_out = len(pool) - len(pictures)
    if left_out and not _same_data(data, used.source):
        raise InputError(
            f"{left_out} pictures of {data} also calibrated the INT8 versions (from {used.source}): "
            "accuracy on them proves nothing. Remove them, or evaluate on the data that calibrated, "
            "of which the used ones are left out."
        )
    if not len(pictures):
        raise InputError(
            f"All {len(pool)} pictures of {data} were used for calibration: none is left to evaluate. "
            "Add pictures, or calibrate with fewer (optimize --samples)."
        )
    return Evaluation(pictures if limit is None else pictures.sample(limit, seed), left_out)


def _calibration(folder: Path) -> _Calibration:
    path = folder / CALIBRATION
    if not path.is_file():
        return _Calibration("", frozenset())
    value = read_json(path, "calibration table")
    try:
        return _Calibration(value["source"], frozenset(value["pictures"]))
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{path} does not name the pictures that calibrated ({error!r}). Remove it and optimize again."
        ) from error


def _same_data(one: str, other: str) -> bool:
    return one == other or Path(one).absolute().resolve() == Path(other).absolute().resolve()
