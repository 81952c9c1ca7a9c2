"""Golden inputs and outputs: pictures, what the model makes of them, and by how much a device may differ."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.executions import Execution, Ways
from deploy.tolerance import Deviation, Tolerance, tolerance_of
from edgepress.dataset import Dataset
from edgepress.errors import ProofError
from edgepress.interface import Activation, Interface
from edgepress.preprocessing import Preprocessing

REAL_PICTURES = 4
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Form:
    """How a bundled file, or its FP32 version, is run.

    Attributes:
        preprocessing: From picture to input.
        interface: Of both files.
        activation: Of the model.
        ways: How they may be run.
    """

    preprocessing: Preprocessing
    interface: Interface
    activation: Activation
    ways: Ways

    def logits(self, execution: Execution, path: Path, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, classes) logits of (N, height, width, 3) uint8 RGB pictures."""
        inputs = self.interface.feed(pictures, self.preprocessing)
        scores = self.ways.run(execution, path, inputs, self.interface)
        return self.interface.logits(scores, self.activation)


@dataclass(frozen=True)
class Golden:
    """What a device must reproduce.

    Attributes:
        pictures: (N, height, width, 3) uint8 RGB, already of the model's size.
        logits: (N, classes) float32, as computed here.
        tolerance: What a device may differ by.
        execution: How they were computed here.
        executions: What each other legitimate way of running the model differs by here, by its name.
    """

    pictures: NDArray[np.uint8]
    logits: NDArray[np.float32]
    tolerance: Tolerance
    execution: str
    executions: Mapping[str, Deviation]


def golden_of(path: Path, baseline: Path, form: Form, real: Dataset | None) -> Golden:
    """Run the model, in each way in which it may rightly be run, on drawn patterns and a few real pictures.

    Args:
        path: The file that is bundled, or that its plans were built from.
        baseline: Its FP32 version; the same path for FP32 itself.
        form: From picture to input, and from output to logits.
        real: Pictures, of which the first few are taken; None for none.

    Raises:
        InputError: The runtime cannot load one of the files.
        ProofError: The model does not give finite logits, or the same for every picture.
    """
    pictures = np.concatenate([_patterns(form.preprocessing), *_read(real, form.preprocessing)])
    ways = form.ways
    logits = form.logits(ways.golden, path, pictures)
    if not np.isfinite(logits).all() or not np.ptp(logits, axis=0).any():
        raise ProofError(
            f"{path.name}: wanted finite logits that depend on the picture, got {logits.min():.3g} to "
            f"{logits.max():.3g}, for {len(logits)} pictures. Bundle another --variant."
        )
    executions = {
        execution.name: Deviation.between(form.logits(execution, path, pictures), logits)
        for execution in ways.others
    }
    if not all(np.isfinite(deviation.largest) for deviation in executions.values()):
        raise ProofError(f"{path.name}: not all executions give finite logits. Bundle another --variant.")
    moved = None
    if path != baseline:
        moved = Deviation.between(form.logits(ways.golden, baseline, pictures), logits)
    tolerance = tolerance_of(logits, tuple(executions.values()), moved, ways.moved_share)
    return Golden(pictures, logits, tolerance, ways.golden.name, executions)


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


def npz_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """An `.npz` file that depends on the arrays alone: `numpy.savez` writes the time into it."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
            information = zipfile.ZipInfo(f"{name}.npy", _ZIP_DATE)
            information.compress_type = zipfile.ZIP_DEFLATED
            information.external_attr = 0o644 << 16
            archive.writestr(information, member.getvalue())
    return content.getvalue()
