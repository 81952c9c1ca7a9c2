"""What is done with the positions of a feature map. No numpy here: the command line knows the choices."""

from enum import Enum


class Pooling(str, Enum):
    """What is done with the positions of the last feature map before the head of a training."""

    AVERAGE = "average"  # the mean of each channel: few weights, the usual choice for few pictures
    MAX = "max"
    FLATTEN = "flatten"  # all of them, as in VGG16 itself


class PositionPooling(str, Enum):
    """What is done with the positions of a layer whose features are written."""

    NONE = "none"
    AVERAGE = "average"
    MAX = "max"
