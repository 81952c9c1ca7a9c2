"""The weighted layers of a network as equalization and bias correction see them, in any format."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


class FeatureOrder(Enum):
    """How a Flatten has put the values of a map into a row."""

    CHANNEL_BY_CHANNEL = "NCHW"
    POSITION_BY_POSITION = "NHWC"


@dataclass(frozen=True)
class Layer:
    """A convolution or matrix product.

    Attributes:
        kernel: (groups, outputs of a group, inputs of a group, positions): a view of the weights; what is
            written to it is in the network. Those of a dense layer behind a Flatten are the positions of each
            channel.
        bias: (outputs,), a view likewise; None where the layer has none.
        reads: Name of its activation input.
        order: Of the features that a dense layer behind a Flatten reads.
    """

    kernel: Array
    bias: Array | None
    reads: str
    order: FeatureOrder = FeatureOrder.CHANNEL_BY_CHANNEL

    @property
    def outputs(self) -> int:
        """Number of output channels."""
        return int(self.kernel.shape[0] * self.kernel.shape[1])

    @property
    def inputs(self) -> int:
        """Number of input channels."""
        return int(self.kernel.shape[0] * self.kernel.shape[2])


@dataclass(frozen=True)
class Link:
    """Two layers with nothing between them that a positive factor of a channel could not pass.

    That is Relu, pooling, Flatten: f(s · x) = s · f(x) for s > 0, channel by channel.
    """

    first: str
    second: str


@dataclass(frozen=True)
class Network:
    """The weighted layers of one file.

    Attributes:
        layers: By name, in graph order.
        links: In graph order; a layer is the first of at most one, and the second of at most one.
    """

    layers: Mapping[str, Layer]
    links: tuple[Link, ...]
