"""One picture through a written file, against Keras' own logits. A file that fails is not kept."""

import logging
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgepress.artifact import Device, Runtime
from edgepress.metrics import Logits
from edgepress.parity import FP32_SNR_FLOOR_DB, Parity, require_parity
from edgepress.preprocessing import Preprocessing
from edgepress.runners.runner import runner_for

logger = logging.getLogger(__name__)

_WAVES = 6
_GRANTED_ULPS = 16


def smooth_picture(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """A (height, width, 3) uint8 RGB picture of seeded smooth waves: structure at several scales.

    Noise or a constant would leave most channels of a network equal everywhere, and so hide a wrong
    order of rows, columns or channels.
    """
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    picture = np.zeros((height, width, 3))
    for channel in range(3):
        for _ in range(_WAVES):
            along_rows, along_columns, phase = generator.uniform(-8, 8, 3)
            picture[..., channel] += np.sin(along_rows * rows + along_columns * columns + phase)
    low, high = picture.min(), picture.max()
    scaled: NDArray[np.uint8] = np.round((picture - low) / (high - low) * 255).astype(np.uint8)
    return scaled


def smoke_input(preprocessing: Preprocessing, seed: int) -> NDArray[np.float32]:
    """The smooth picture as a model's input: (1, height, width, 3) float32."""
    picture = smooth_picture(preprocessing.height, preprocessing.width, seed)
    return preprocessing.normalize(picture[np.newaxis])


def floor_db(reference: Logits) -> float:
    """The SNR that a file must reach, in dB, judged by the logits of the network that it was made of.

    100 dB; less only where the logits' own rounding does not leave that much: where the classes hardly differ
    from each other beside what they have in common (a network that knows nothing yet), FP32 sums in another
    order cannot agree better. 16 units in the last place of the largest logit are granted.

    Args:
        reference: (N, classes).
    """
    spread = reference.astype(np.float64) - reference.mean(axis=1, keepdims=True)
    granted = _GRANTED_ULPS * float(np.finfo(np.float32).eps) * float(np.abs(reference).max())
    signal = float(np.sqrt(np.mean(np.square(spread))))
    if not (granted > 0 and signal > 0):
        return FP32_SNR_FLOOR_DB
    return min(FP32_SNR_FLOOR_DB, 20 * math.log10(signal / granted))


def smoke_check(path: Path, runtime: Runtime, images: NDArray[np.float32], reference: Logits) -> Parity:
    """Run a written file on the CPU and compare its logits with Keras'.

    Args:
        path: File or SavedModel folder.
        runtime: The library that runs it.
        images: (N, height, width, 3) float32, preprocessed.
        reference: Keras' logits for them, (N, classes).

    Raises:
        ProofError: The logits differ by more than floating-point noise.
    """
    with runner_for(runtime, Device.CPU)(path, 0) as runner:
        logits = runner.infer(images)
    return require_parity(reference, logits, path.name, floor_db(reference))
