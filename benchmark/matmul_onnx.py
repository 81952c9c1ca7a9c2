"""One matrix product as an ONNX file, written without the onnx package, which need not be on a device.

Protocol Buffers' encoding (protobuf.dev/programming-guides/encoding) of the messages of onnx.proto: a field
is its number and wire type, then a varint (type 0), or a length and as many bytes (type 2).
"""

from enum import Enum

import numpy as np
from numpy.typing import NDArray

_IR_VERSION, _OPSET = 8, 13
_VARINT, _BYTES = 0, 2
_ELEMENT_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6}  # TensorProto.DataType


class Product(Enum):
    """An operator of ONNX, and the numpy names of what it multiplies and of what comes out."""

    FP32 = ("MatMul", "float32", "float32", "float32")
    INT8 = ("MatMulInteger", "uint8", "int8", "int32")


def matmul_model(product: Product, weights: NDArray[np.generic]) -> bytes:
    """The product of any (m, k) input "a" with weights, as the bytes of an ONNX file.

    Args:
        product: The operator.
        weights: (k, n), "b", of the operator's second type. A constant of the graph, as weights of a network
            are, so that the runtime can bring it into its own order ahead.
    """
    operator, a_type, _, c_type = product.value
    rows, columns = weights.shape
    node = _field(1, b"a") + _field(1, b"b") + _field(2, b"c") + _field(4, operator.encode())
    tensor = (
        b"".join(_field(1, side) for side in (rows, columns))
        + _field(2, _ELEMENT_TYPES[weights.dtype.name])
        + _field(8, b"b")
        + _field(9, weights.tobytes())
    )
    graph = (
        _field(1, node)
        + _field(2, b"product")
        + _field(5, tensor)
        + _field(11, _value("a", a_type, rows))
        + _field(12, _value("c", c_type, columns))
    )
    return _field(1, _IR_VERSION) + _field(7, graph) + _field(8, _field(2, _OPSET))


def _value(name: str, dtype: str, columns: int) -> bytes:
    """A ValueInfoProto of the shape ("m", columns): "m" may be any number."""
    shape = _field(1, _field(2, b"m")) + _field(1, _field(1, columns))
    tensor_type = _field(1, _ELEMENT_TYPES[dtype]) + _field(2, shape)
    return _field(1, name.encode()) + _field(2, _field(1, tensor_type))


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value)
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth says that more follow."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
