"""docs/vgg16.md and its picture, written from the block table: `python -m edgepress.inspection.vgg16_page DOCS`.

Every figure on the page is computed here; what was published elsewhere stands there with its source.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from edgepress.artifact import Precision
from edgepress.files import write_bytes
from edgepress.inspection.blocks import blocks_of
from edgepress.inspection.inspection_keras import inspect_keras
from edgepress.inspection.inspection_vgg16 import inspect_architecture
from edgepress.inspection.layer import Inspection, Layer
from edgepress.inspection.plot import write_plot
from edgepress.models.keras_import import import_keras
from edgepress.models.vgg16 import VGG16

PAGE = "vgg16.md"
PICTURE = "vgg16.svg"
# Krizhevsky et al. 2012, section 3.5: (outputs, kernel side, inputs of a group, side of the result).
_ALEXNET_CONVOLUTIONS = (
    (96, 11, 3, 55),
    (256, 5, 48, 27),
    (384, 3, 256, 13),
    (384, 3, 192, 13),
    (256, 3, 192, 13),
)
# Multiplications of a 2×2 tile of results: 4 × 9 directly, (2 + 3 - 1)² by F(2×2, 3×3).
_WINOGRAD = 4 * 9 / (2 + 3 - 1) ** 2
_ALEXNET_DENSE = ((4096, 9216), (4096, 4096), (1000, 4096))


@dataclass(frozen=True)
class Peer:
    """Another network of the ImageNet contest.

    Attributes:
        name: With its year.
        parameters: Counted.
        macs: Counted, for one picture.
        side_pixels: Of its input.
        top1: Published, in percent.
        source: Of that figure.
    """

    name: str
    parameters: int
    macs: int
    side_pixels: int
    top1: float
    source: str


def alexnet() -> tuple[int, int]:
    """Parameters and multiply-accumulates of AlexNet with its two groups, counted from its table."""
    convolutions = [(o * k * k * i, o, side * side) for o, k, i, side in _ALEXNET_CONVOLUTIONS]
    dense = [(o * i, o, 1) for o, i in _ALEXNET_DENSE]
    layers = [*convolutions, *dense]
    return sum(w + b for w, b, _ in layers), sum(w * places for w, _, places in layers)


@cache
def peers() -> tuple[Peer, ...]:
    """The networks that VGG16 is compared with. Two of them are built by Keras, without weights, and counted."""
    applications = import_keras().applications
    resnet = inspect_keras(applications.ResNet50(weights=None))
    inception = inspect_keras(applications.InceptionV3(weights=None))
    vgg16, table = inspect_architecture(VGG16), "keras.io/api/applications"
    return (
        Peer("AlexNet (2012)", *alexnet(), 227, 59.3, "Krizhevsky et al. 2012, table 2, one network"),
        Peer("**VGG16** (2014)", vgg16.parameters, vgg16.macs, 224, 71.3, table),
        Peer("ResNet50 (2015)", resnet.parameters, resnet.macs, 224, 74.9, table),
        Peer("InceptionV3 (2015)", inception.parameters, inception.macs, 299, 77.9, table),
    )


def page() -> str:
    """The text of docs/vgg16.md."""
    found = inspect_architecture(VGG16)
    fc1 = next(layer for layer in found.layers if layer.name == "fc1")
    dense = next(block for block in blocks_of(found) if block.name == "dense")
    widest = max(found.layers, key=_elements)
    three, seven = 3 * 9, 49
    stride = 2 ** len(VGG16.blocks)
    last = VGG16.side_pixels // stride
    return f"""# VGG16

*This page is written by `edgepress/inspection/vgg16_page.py` from the block table in `edgepress/models/vgg16.py`. Every count on
it is computed.*

VGG16 is configuration D of Simonyan and Zisserman, *Very Deep Convolutional Networks for Large-Scale Image Recognition*
([arXiv 1409.1556](https://arxiv.org/abs/1409.1556), table 1): thirteen convolutions and three dense layers with weights, nothing
but 3×3 convolutions with stride 1, ReLU, and 2×2 maximum pooling after each block. It has **{found.parameters:,} parameters** and
takes **{found.macs / 1e9:.2f} G multiply-accumulates** for one picture of 224×224.

![Size of each layer's result, its parameters and its multiply-accumulates]({PICTURE})

## Block by block

{_table(("block", "convolutions", "result", "receptive field", "parameters", "share", "MACs", "share"), _blocks(found))}

Each block halves the side and, from block 2 to block 4, doubles the channels. So up to block 4 a convolution in the middle of one block
costs what one in the middle of the next costs: a quarter of the positions, four times the weights. In block 5 it costs a quarter of that.

## Why small filters, and why depth

- **Receptive field.** Two 3×3 convolutions in a row see 5×5, three see 7×7 (section 2.3 of the paper); the
  table above follows it through the network.
- **Fewer parameters.** With C channels, three 3×3 layers have {three} C² weights and one 7×7 layer has {seven} C²: {seven / three - 1:.0%} more for the same
  field of view.
- **More decisions.** Three ReLUs instead of one make the function more discriminative (section 2.3). In the paper's own comparison
  (section 4.1) a shallower net with 5×5 filters had a top-1 error 7 % higher than its 3×3 counterpart, on one centre crop.
- **Depth helped up to 16 to 19 layers**, where the error levelled off (section 4.1, table 3). Training took care: the deep nets
  started from layers of a trained shallow one (section 3.1). Today He et al. 2015
  ([arXiv 1502.01852](https://arxiv.org/abs/1502.01852)) give the draw that edgepress uses for random weights.

## Where everything sits

{_table(("layer", "result", "parameters", "share", "MACs", "share"), _layers(found))}

- **Parameters: in the dense layers**, {dense.parameters / found.parameters:.1%} of them, and {(fc1.parameters + fc1.biases) / found.parameters:.1%} in `fc1` alone.
- **Work: in the convolutions**, {1 - dense.macs / found.macs:.1%} of all multiply-accumulates.
- **Bytes**: {_bytes(found)} (biases in INT32, scales not counted).
- **Largest result**: `{widest.name}`, {_shape(widest)} values, {4 * _elements(widest) / 1e6:.1f} MB in FP32; a runtime that reuses memory needs two of that
  size at once, {8 * _elements(widest) / 1e6:.1f} MB.

## Beside others

{_table(("network", "parameters", "MACs", "input", "top-1 % (published)", "source"), _peers())}

AlexNet is counted with its two groups, as published; a single tower has more. Its first result of 55×55 takes an input of
227×227, where the paper says 224×224. ResNet50 and InceptionV3 are built by Keras and
counted, normalization included. Published accuracies are not measured here and were not obtained in one way.

## Strengths

- One kind of convolution throughout, 3×3 with stride 1: the case that Winograd's algorithm computes with {_WINOGRAD:.2f} times fewer
  multiplications (Lavin and Gray 2015, [arXiv 1509.09308](https://arxiv.org/abs/1509.09308), section 4.1).
- No branches, no normalization: nothing to fold, and a chain of ReLU and max-pooling through which
  scales can be moved from layer to layer (Nagel et al. 2019, [arXiv 1906.04721](https://arxiv.org/abs/1906.04721)).
- Its features transfer well (appendix B of the paper); its convolutions are a common start for small data sets (`edgepress train`).

## Limits

- Size: {found.weight_bytes / 1e6:.0f} MB in FP32 for a network that {_better_and_smaller()}. A new head on pooled
  features drops the dense layers, and {dense.parameters / found.parameters:.0%} of the parameters with them.
- Work: {found.macs / 1e9:.1f} G multiply-accumulates a picture. INT8 makes each operand four times smaller than FP32; pruning whole channels
  leaves fewer of them, most in {_heaviest(found, 2)}.
- The flatten before `fc1` ties the network to a last result of {last}×{last}: pictures of {last * stride} to {last * stride + stride - 1} pixels a side.
"""


def _bytes(found: Inspection) -> str:
    weights = sum(layer.parameters for layer in found.layers)
    biases = sum(layer.biases for layer in found.layers)
    sizes = ((Precision.FP32, 4, 4), (Precision.FP16, 2, 2), (Precision.INT8, 1, 4))  # INT32 beside INT8
    return ", ".join(f"{(weights * w + biases * b) / 1e6:.0f} MB in {p.value.upper()}" for p, w, b in sizes)


def _heaviest(found: Inspection, count: int) -> str:
    """The blocks with the most MACs and their share of all, in words."""
    blocks = sorted(blocks_of(found), key=lambda block: -block.macs)[:count]
    numbers = " and ".join(sorted(block.name.removeprefix("block") for block in blocks))
    return f"blocks {numbers}, which do {sum(block.macs for block in blocks) / found.macs:.0%} of it"


def _blocks(found: Inspection) -> Iterable[tuple[str, ...]]:
    field, stride, side = 1, 1, VGG16.side_pixels
    for number, (block, total) in enumerate(zip(VGG16.blocks, blocks_of(found), strict=False), start=1):
        field += 2 * stride * block.convolutions  # each 3×3 adds one step on either side
        field += stride  # the pooling adds one step
        stride, side = 2 * stride, side // 2
        yield (
            str(number),
            f"{block.convolutions} × {block.channels}",
            f"{side}×{side}×{block.channels}",
            f"{field}×{field}",
            *_amounts(total.parameters, total.macs, found),
        )
    dense = blocks_of(found)[-1]
    yield ("dense", "4096, 4096, 1000", "1000", "all", *_amounts(dense.parameters, dense.macs, found))


def _layers(found: Inspection) -> Iterable[tuple[str, ...]]:
    for layer in found.layers:
        yield (layer.name, _shape(layer), *_amounts(layer.parameters + layer.biases, layer.macs, found))


def _peers() -> Iterable[tuple[str, ...]]:
    for peer in peers():
        side = f"{peer.side_pixels}×{peer.side_pixels}"
        yield (
            peer.name,
            f"{peer.parameters:,}",
            f"{peer.macs / 1e9:.2f} G",
            side,
            f"{peer.top1:.1f}",
            peer.source,
        )


def _better_and_smaller() -> str:
    vgg16, resnet = (next(p for p in peers() if name in p.name) for name in ("VGG16", "ResNet50"))
    fewer = vgg16.parameters / resnet.parameters
    return f"ResNet50 beats ({resnet.top1:.1f} % against {vgg16.top1:.1f} %) with {fewer:.1f} times fewer parameters"


def _amounts(parameters: int, macs: int, found: Inspection) -> tuple[str, str, str, str]:
    return (
        f"{parameters:,}",
        f"{parameters / found.parameters:.1%}",
        f"{macs / 1e6:,.0f} M",
        f"{macs / found.macs:.1%}",
    )


def _shape(layer: Layer) -> str:
    return "×".join(str(size) for size in layer.output_shape)


def _elements(layer: Layer) -> int:
    product = 1
    for size in layer.output_shape:
        product *= size or 1
    return product


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table; columns of figures to the right."""
    rule = ("---", "---", *("---:" for _ in head[2:]))
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))


def write_page(docs: Path) -> None:
    """Write the page and its picture into a folder."""
    write_plot(docs / PICTURE, VGG16.name, inspect_architecture(VGG16))
    write_bytes(docs / PAGE, page().encode())


if __name__ == "__main__":
    write_page(Path(sys.argv[1]))
