"""What goes into an artifact and what comes out of it: a contract apart from what the network computes.

numpy is imported where it is used, as in `edgepress.preprocessing`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgepress.preprocessing import Preprocessing


class Layout(str, Enum):
    """Order of the axes of the input."""

    NHWC = "nhwc"
    NCHW = "nchw"


class Pixels(str, Enum):
    """What the input holds."""

    PREPROCESSED = "preprocessed"  # float32, by the model card's preprocessing
    RGB = "rgb"  # uint8 0…255 as decoded: the preprocessing is inside


class Scores(str, Enum):
    """What the first output holds. Its value is the output's name."""

    LOGITS = "logits"
    PROBABILITIES = "probabilities"


class Activation(str, Enum):
    """What turns logits into probabilities."""

    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"
    NONE = "none"


@dataclass(frozen=True)
class Interface:
    """The form of one artifact's input and first output.

    Attributes:
        layout: Order of the input's axes.
        pixels: What the input holds.
        scores: What the first output holds.
        batch: Number of pictures that the input holds; None where it is free.
    """

    layout: Layout = Layout.NHWC
    pixels: Pixels = Pixels.PREPROCESSED
    scores: Scores = Scores.LOGITS
    batch: int | None = None

    @property
    def dtype(self) -> str:
        """Name of the dtype of the input's numbers."""
        return "uint8" if self.pixels is Pixels.RGB else "float32"

    def input_shape(self, height: int, width: int) -> tuple[int | None, ...]:
        """Shape of the input; None stands for a free batch."""
        if self.layout is Layout.NCHW:
            return (self.batch, 3, height, width)
        return (self.batch, height, width, 3)

    def to_json(self) -> dict[str, Any]:
        """As written to the manifest."""
        return {
            "layout": self.layout.value,
            "pixels": self.pixels.value,
            "scores": self.scores.value,
            "batch": self.batch,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Interface:
        """The inverse of `to_json`.

        Raises:
            ValueError: A field is missing, unknown, or of another kind.
        """
        batch = value.get("batch")
        if set(value) != set(PLAIN.to_json()) or not (batch is None or (type(batch) is int and batch > 0)):
            raise ValueError(f"interface: wanted {', '.join(PLAIN.to_json())}, got {dict(value)}")
        return cls(Layout(value["layout"]), Pixels(value["pixels"]), Scores(value["scores"]), batch)

    def feed(self, pictures: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[Any]:
        """(N, height, width, 3) uint8 RGB → the artifact's input for them, C-contiguous."""
        return self.arranged(pictures if self.pixels is Pixels.RGB else preprocessing.normalize(pictures))

    def arranged(self, values: NDArray[Any]) -> NDArray[Any]:
        """(N, height, width, 3) in the input's order of axes, C-contiguous."""
        import numpy as np

        return np.ascontiguousarray(values.transpose(0, 3, 1, 2) if self.layout is Layout.NCHW else values)

    def filled(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """At most as many inputs as a fixed batch has, the last one repeated until there are so many."""
        if self.batch is None or len(inputs) == self.batch:
            return inputs
        import numpy as np

        return inputs[np.minimum(np.arange(self.batch), len(inputs) - 1)]

    def run(self, infer: Callable[[NDArray[Any]], NDArray[Any]], inputs: NDArray[Any]) -> NDArray[Any]:
        """The first output for any number of inputs, in blocks of the fixed batch where there is one.

        Args:
            infer: Runs the artifact on as many inputs as it takes.
            inputs: As `feed` makes them.
        """
        if self.batch is None:
            return infer(inputs)
        import numpy as np

        blocks = [inputs[start : start + self.batch] for start in range(0, len(inputs), self.batch)]
        return np.concatenate([infer(self.filled(block))[: len(block)] for block in blocks])

    def logits(self, scores: NDArray[np.float32], activation: Activation) -> NDArray[np.float32]:
        """(N, classes) of the first output → logits, by which versions are judged.

        The logarithm undoes a softmax up to a constant for each picture, which measures of logits do not see;
        the logit function undoes a sigmoid. A probability that float32 cannot tell from 0 or 1 becomes the
        nearest one that it can.
        """
        if self.scores is Scores.LOGITS or activation is Activation.NONE:
            return scores
        import numpy as np

        limits = np.finfo(np.float32)
        if activation is Activation.SOFTMAX:
            return np.asarray(np.log(np.maximum(scores, limits.tiny)), np.float32)
        exact = np.clip(scores.astype(np.float64), limits.tiny, 1 - limits.epsneg)
        return np.asarray(np.log(exact) - np.log1p(-exact), np.float32)


PLAIN = Interface()
"""Preprocessed NHWC float32 in, logits out, any batch."""
