"""Golden inputs and outputs: pictures, what the model makes of them, and by how much a device may differ."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.artifact import Device, Runtime
from edgepress.dataset import Dataset
from edgepress.errors import ProofError
from edgepress.preprocessing import Preprocessing
from edgepress.runners.runner import runner_for

REAL_PICTURES = 4
_FLOAT_SHARE = 1e-4
_QUANTIZATION_SHARE = 0.25
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Golden:
    """What a device must reproduce.

    Attributes:
        pictures: (N, height, width, 3) uint8 RGB, already of the model's size.
        logits: (N, classes) float32, as computed here.
        tolerance: Largest absolute difference of a logit that is allowed.
        rule: Where the tolerance comes from, in words.
    """

    pictures: NDArray[np.uint8]
    logits: NDArray[np.float32]
    tolerance: float
    rule: str


def golden_of(
    path: Path, baseline: Path, runtime: Runtime, preprocessing: Preprocessing, real: Dataset | None
) -> Golden:
    """Run the model on drawn patterns and on a few real pictures.

    Another CPU of the same kind sums in another order. A float model may differ by 1e-4 of the spread of its
    logits. In an integer model a sum that lies between two steps can be rounded the other way, and such a
    step is carried on; it may differ by a quarter of what the quantization itself has moved the logits.

    Args:
        path: The model that is bundled.
        baseline: Its FP32 version; the same path for FP32 itself.
        runtime: What runs them.
        preprocessing: From picture to input.
        real: Pictures, of which the first few are taken; None for none.

    Raises:
        ProofError: The model does not give finite logits, or not twice the same within the tolerance.
    """
    pictures = np.concatenate([_patterns(preprocessing), *_read(real, preprocessing)])
    inputs = preprocessing.normalize(pictures)
    logits = _logits(path, runtime, inputs, threads=1)
    spread = float(np.ptp(logits))
    tolerance, rule = _FLOAT_SHARE * spread, f"{_FLOAT_SHARE:g} of the spread of the logits"
    if path != baseline:
        moved = float(np.abs(logits - _logits(baseline, runtime, inputs, threads=1)).max())
        if _QUANTIZATION_SHARE * moved > tolerance:
            tolerance = _QUANTIZATION_SHARE * moved
            rule = f"{_QUANTIZATION_SHARE:g} of the largest difference from FP32"
    difference = float(np.abs(logits - _logits(path, runtime, inputs, threads=2)).max())
    if not np.isfinite(logits).all() or difference > tolerance:
        raise ProofError(
            f"{path.name}: wanted finite logits that depend on the number of threads by at most "
            f"{tolerance:.3g}, got a difference of {difference:.3g}. Bundle another --variant."
        )
    return Golden(pictures, logits, tolerance, rule)


def _patterns(preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Black, white, one colour, two gradients and noise: what no photo shows."""
    shape = (preprocessing.height, preprocessing.width, 3)
    rows = np.linspace(0, 255, shape[0])[:, np.newaxis, np.newaxis]
    columns = np.linspace(0, 255, shape[1])[np.newaxis, :, np.newaxis]
    patterns = (
        np.zeros(shape),
        np.full(shape, 255),
        np.broadcast_to((200, 40, 90), shape),
        np.broadcast_to(rows, shape),
        np.broadcast_to(columns, shape) * (1.0, 0.6, 0.2),
        np.random.default_rng(0).integers(0, 256, shape),
    )
    return np.stack([np.rint(pattern).astype(np.uint8) for pattern in patterns])


def _read(real: Dataset | None, preprocessing: Preprocessing) -> list[NDArray[np.uint8]]:
    if real is None:
        return []
    return [picture.read(preprocessing)[np.newaxis] for picture in real.pictures[:REAL_PICTURES]]


def _logits(path: Path, runtime: Runtime, inputs: NDArray[np.float32], threads: int) -> NDArray[np.float32]:
    with runner_for(runtime, Device.CPU)(path, threads) as runner:
        return np.concatenate([runner.infer(one[np.newaxis]) for one in inputs])


def npz_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """An `.npz` file that depends on the arrays alone: `numpy.savez` writes the time into it."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
            information = zipfile.ZipInfo(f"{name}.npy", _ZIP_DATE)
            information.external_attr = 0o644 << 16
            archive.writestr(information, member.getvalue())
    return content.getvalue()
