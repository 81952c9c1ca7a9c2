from collections.abc import Sequence

import pytest

from edgepress.artifact import Precision
from edgepress.inspection.blocks import block_names, blocks_of, pairs_of
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
        ("conv1/Conv2D", "other"),  # the layer conv1 in TFLite
        ("my_block1_thing", "my_block1"),
        ("convnext_tiny_stage_2_block_0_depthwise_conv", "convnext_tiny_stage_2"),
        ("expanded_conv_3_project", "expanded_conv_3"),  # MobileNetV3
        ("/layer2/layer2.0/conv1/Conv", "layer2"),  # PyTorch's ResNets in ONNX
    ],
)
def test_block_name_follows_the_networks_own_names(name: str, block: str) -> None:
    assert block_names(inspection([layer(name)])) == (block,)


def test_block_names_of_layers_without_a_number_of_their_own() -> None:
    layers = [layer("conv1"), layer("conv1_bn", "BatchNormalization"), layer("fc1", "Dense"), layer("conv9")]
    assert block_names(inspection(layers)) == ("conv1", "conv1", "dense", "other")


def test_pairs_of_keeps_every_layer_of_a_name_that_occurs_twice() -> None:
    """As in two nested models, or in ONNX, whose names need not be unique."""
    one, other = inspection([layer("a"), layer("a")]), inspection([layer("a"), layer("a"), layer("a")])
    assert [(bool(pair.one), bool(pair.other)) for pair in pairs_of(one, other)] == [(True, True)] * 2 + [
        (False, True)
    ]


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
