"""Types of stored numbers, by the names that ONNX, TFLite and Keras have for them."""

import re
from dataclasses import dataclass

from edgepress.artifact import Precision

_WITHOUT_DIGITS = {"FLOAT": 32, "DOUBLE": 64, "BOOL": 8}
_PRECISIONS = {
    **dict.fromkeys(("FLOAT", "FLOAT32"), Precision.FP32),
    **dict.fromkeys(("FLOAT16", "BFLOAT16"), Precision.FP16),
    **dict.fromkeys(("INT8", "UINT8"), Precision.INT8),
}
_BITS_OF_A_BYTE = 8


@dataclass(frozen=True)
class NumberType:
    """A type of stored numbers.

    Attributes:
        name: As the format calls it, in capitals: "FLOAT", "FLOAT32", "INT4".
    """

    name: str

    @property
    def precision(self) -> Precision:
        """The nearest of edgepress' precisions; FP32 where none is near."""
        return _PRECISIONS.get(self.name, Precision.FP32)

    @property
    def odd_name(self) -> str:
        """Its name where `precision` is not the same type; empty otherwise."""
        exact = {"FLOAT", "FLOAT32", "FLOAT16", "INT8", "UINT8"}
        return "" if self.name in exact else self.name.lower()

    @property
    def is_float(self) -> bool:
        """Whether its values are floating-point numbers."""
        return "FLOAT" in self.name or self.name == "DOUBLE"

    def size_bytes(self, values: int) -> int:
        """Size of so many values, packed where one has less than a byte."""
        digits = re.search(r"\d+", self.name)  # FLOAT8E4M3FN has 8 bits, FLOAT4E2M1 has 4
        bits = int(digits.group()) if digits else _WITHOUT_DIGITS.get(self.name, 0)
        return -(-values * bits // _BITS_OF_A_BYTE)
