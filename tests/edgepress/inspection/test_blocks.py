from collections.abc import Sequence

import pytest

from edgepress.artifact import Precision
from edgepress.inspection.blocks import block_name, blocks_of
from edgepress.inspection.layer import Inspection, Layer
from edgepress.inspection.plot import _colours


def layer(name: str, kind: str = "Conv2D") -> Layer:
    return Layer(name, 10, 100, Precision.FP32, Precision.FP32, kind, (8, 8, 4), 2)


def inspection(layers: Sequence[Layer]) -> Inspection:
    return Inspection(tuple(layers), 0, 0, (), ())


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("block1_conv1", "block1"),  # VGG16
        ("vgg16/block1_conv1/Relu;vgg16/block1_conv1/Conv2D", "block1"),  # in TFLite
        ("conv2_block1_1_conv", "conv2"),  # ResNet50: the stage, not the first block of every stage
        ("block14_sepconv2_bn", "block14"),  # Xception
        ("block_16_expand", "block_16"),  # MobileNetV2
        ("block5a_dwconv", "block5"),  # EfficientNet
        ("conv2d_17", "other"),  # numbers the layers of a model that names no blocks
        ("conv1", "other"),
        ("my_block1_thing", "other"),
    ],
)
def test_block_name_follows_the_networks_own_names(name: str, block: str) -> None:
    assert block_name(layer(name)) == block


def test_block_name_of_a_dense_layer() -> None:
    assert block_name(layer("fc1", "Dense")) == "dense"


def test_blocks_of_sums_layers_that_are_not_neighbours() -> None:
    found = blocks_of(inspection([layer("block1_a"), layer("conv2d"), layer("block1_b")]))
    assert [(block.name, block.layers, block.parameters, block.macs) for block in found] == [
        ("block1", 2, 24, 200),
        ("other", 1, 12, 100),
    ]


def test_plot_gives_each_layer_the_colour_of_its_block() -> None:
    colours = _colours(inspection([layer("block1_a"), layer("conv2d"), layer("block1_b"), layer("block2_a")]))
    assert colours[0] == colours[2]
    assert len(set(colours)) == 3
