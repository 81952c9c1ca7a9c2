"""Whether a version that disagrees with FP32 would agree with it on differently preprocessed pictures.

The pictures of a row and of its baseline are preprocessed alike, as the manifest declares. A file that
expects something else (converted elsewhere, or with a preprocessing inside) looks like a version that lost
its accuracy; the remedy is another one.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgepress.dataset import Dataset
from edgepress.metrics import logit_snr_db
from edgepress.preprocessing import Preprocessing, PreprocessMode

Floats = NDArray[np.float32]

_POOR_DB = 15.0  # no sound version was seen below 20 dB
_CLEARLY_BETTER_DB = 6.0
_PICTURES = 16


class Infer(Protocol):
    """Runs the version in question."""

    def __call__(self, images: Floats) -> Floats:
        """(N, height, width, 3) → (N, classes) logits."""


def preprocessing_doubt(
    pictures: Dataset, declared: Preprocessing, reference: Floats, infer: Infer, snr_db: float | None
) -> str | None:
    """Another preprocessing with which the logits fit the reference's far better, in words; else None.

    Args:
        pictures: N evaluated pictures.
        declared: What they got.
        reference: (N, classes) logits of FP32.
        infer: Runs the version.
        snr_db: Of the version's logits against the reference's. Above 15 dB nothing is tried.
    """
    if snr_db is None or snr_db > _POOR_DB:
        return None
    few = pictures.take(range(min(_PICTURES, len(pictures))))
    wanted = reference[: len(few)]
    raw = np.stack([picture.read(declared) for picture in few.pictures])
    found = [(logit_snr_db(wanted, infer(images)), name) for name, images in _others(raw, declared)]
    best_db, name = max(found)
    own_db = logit_snr_db(wanted, infer(declared.normalize(raw)))
    if best_db < max(own_db, 0.0) + _CLEARLY_BETTER_DB:
        return None
    return (
        f"its logits fit FP32's at {best_db:.0f} dB if it gets {name}, and at {own_db:.0f} dB with "
        f"`{declared.mode.value}`, which the manifest declares: it expects another preprocessing"
    )


def _others(raw: NDArray[np.uint8], declared: Preprocessing) -> Iterator[tuple[str, Floats]]:
    """Inputs by every other mode, and by every mode with red and blue exchanged."""
    for mode in PreprocessMode:
        images = replace(declared, mode=mode).normalize(raw)
        if mode is not declared.mode:
            yield f"`{mode.value}`", images
        yield f"`{mode.value}` with red and blue exchanged", np.ascontiguousarray(images[..., ::-1])
