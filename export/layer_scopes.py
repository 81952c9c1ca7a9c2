"""Which layer a converted operation belongs to: by TensorFlow's name for it, which a converter keeps."""

import contextlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

# TensorFlow makes a scope unique with a number, after which "conv_1" is the second call of "conv" or the
# first one of "conv_1". A mark at its end tells them apart.
_MARK = "."
_SCOPE = re.compile(r"(?P<layer>.+)\.(_\d+)?")


@contextlib.contextmanager
def marked_layers(network: "keras.Model") -> Iterator[None]:
    """While it is open, the scopes of a network's layers can be told apart (see `layer_of`)."""
    layers = list(network._flatten_layers(include_self=False))
    names = [layer.name for layer in layers]
    try:
        for layer, name in zip(layers, names, strict=True):
            layer.name = name + _MARK
        yield
    finally:
        for layer, name in zip(layers, names, strict=True):
            layer.name = name


def layer_of(node_name: str) -> str:
    """Path of the layer in a name such as "inner./fc1._1/MatMul"; empty outside of layers."""
    return "/".join(part["layer"] for part in _scopes(node_name))


def call_of(node_name: str) -> str:
    """The same with TensorFlow's numbers, which tell one call of a layer from another."""
    return "/".join(part[0] for part in _scopes(node_name))


def _scopes(node_name: str) -> list[re.Match[str]]:
    found = (_SCOPE.fullmatch(part) for part in node_name.split("/")[:-1])
    return [part for part in found if part]
