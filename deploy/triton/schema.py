"""The part of Triton's model configuration that a bundle uses, and the check of a text against it.

Source: message `ModelConfig` of `protobuf/model_config.proto` in triton-inference-server/common, as it is in
`tritonclient` 2.73.0. The package itself cannot be a dependency: it wants an older protobuf than the rest of
edgepress. `tests/deploy/test_triton_schema.py` compares every line here with the real descriptor.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from deploy.triton.protobuf_text import FALSE, TRUE, Message, Value, Word, message_of
from edgepress.errors import ProofError

SCHEMA_VERSION = "2.73.0"
ROOT = "ModelConfig"


class Scalar(Enum):
    """Types that hold no other fields; the value is protobuf's name."""

    STRING = "string"
    BOOL = "bool"
    INT32 = "int32"
    INT64 = "int64"
    UINT32 = "uint32"
    UINT64 = "uint64"


@dataclass(frozen=True)
class Field:
    """One field of a message.

    Attributes:
        type: A scalar, or the name of an enumeration in `ENUMS` or of a message in `MESSAGES`.
        repeated: Whether it may stand there several times.
        oneof: Name of the group of which only one field may be set; None for others.
    """

    type: "Scalar | str"
    repeated: bool = False
    oneof: "str | None" = None


def _many(kind: "Scalar | str") -> Field:
    return Field(kind, repeated=True)


def _entry(value: "Scalar | str") -> Mapping[str, Field]:
    """A map's entry, which is what a map is in the text format."""
    return {"key": Field(Scalar.STRING), "value": Field(value)}


ENUMS: Mapping[str, tuple[str, ...]] = {
    "DataType": (
        *("TYPE_INVALID", "TYPE_BOOL", "TYPE_UINT8", "TYPE_UINT16", "TYPE_UINT32", "TYPE_UINT64"),
        *("TYPE_INT8", "TYPE_INT16", "TYPE_INT32", "TYPE_INT64", "TYPE_FP16", "TYPE_FP32", "TYPE_FP64"),
        *("TYPE_STRING", "TYPE_BF16"),
    ),
    "ModelInput.Format": ("FORMAT_NONE", "FORMAT_NHWC", "FORMAT_NCHW"),
    "ModelInstanceGroup.Kind": ("KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"),
}
"""All members of each enumeration, in the order of their numbers, which begin with 0."""

MESSAGES: Mapping[str, Mapping[str, Field]] = {
    ROOT: {
        "name": Field(Scalar.STRING),
        "backend": Field(Scalar.STRING),
        "default_model_filename": Field(Scalar.STRING),
        "max_batch_size": Field(Scalar.INT32),
        "version_policy": Field("ModelVersionPolicy"),
        "input": _many("ModelInput"),
        "output": _many("ModelOutput"),
        "instance_group": _many("ModelInstanceGroup"),
        "dynamic_batching": Field("ModelDynamicBatching", oneof="scheduling_choice"),
        "parameters": _many("ModelConfig.ParametersEntry"),
        "model_warmup": _many("ModelWarmup"),
    },
    "ModelVersionPolicy": {"specific": Field("ModelVersionPolicy.Specific", oneof="policy_choice")},
    "ModelVersionPolicy.Specific": {"versions": _many(Scalar.INT64)},
    "ModelInput": {
        "name": Field(Scalar.STRING),
        "data_type": Field("DataType"),
        "format": Field("ModelInput.Format"),
        "dims": _many(Scalar.INT64),
        "reshape": Field("ModelTensorReshape"),
    },
    "ModelOutput": {
        "name": Field(Scalar.STRING),
        "data_type": Field("DataType"),
        "dims": _many(Scalar.INT64),
        "reshape": Field("ModelTensorReshape"),
        "label_filename": Field(Scalar.STRING),
    },
    "ModelTensorReshape": {"shape": _many(Scalar.INT64)},
    "ModelInstanceGroup": {
        "kind": Field("ModelInstanceGroup.Kind"),
        "count": Field(Scalar.INT32),
        "gpus": _many(Scalar.INT32),
    },
    "ModelDynamicBatching": {
        "preferred_batch_size": _many(Scalar.INT32),
        "max_queue_delay_microseconds": Field(Scalar.UINT64),
    },
    "ModelConfig.ParametersEntry": _entry("ModelParameter"),
    "ModelParameter": {"string_value": Field(Scalar.STRING)},
    "ModelWarmup": {
        "name": Field(Scalar.STRING),
        "batch_size": Field(Scalar.UINT32),
        "inputs": _many("ModelWarmup.InputsEntry"),
    },
    "ModelWarmup.InputsEntry": _entry("ModelWarmup.Input"),
    "ModelWarmup.Input": {
        "data_type": Field("DataType"),
        "dims": _many(Scalar.INT64),
        "zero_data": Field(Scalar.BOOL, oneof="input_data_type"),
    },
}

_RANGES = {
    Scalar.INT32: range(-(1 << 31), 1 << 31),
    Scalar.INT64: range(-(1 << 63), 1 << 63),
    Scalar.UINT32: range(1 << 32),
    Scalar.UINT64: range(1 << 64),
}


def checked(text: str) -> Message:
    """A config.pbtxt, read back.

    Raises:
        ProofError: It is no protobuf text, or not by the schema: an unknown field, a value of another type or
            out of its range, an unknown member of an enumeration, or a field that is set twice.
    """
    message = message_of(text)
    _require(message, ROOT, "")
    return message


def _require(message: Message, kind: str, place: str) -> None:
    fields = MESSAGES[kind]
    taken: set[str] = set()
    for name, value in message.fields:
        where = f"{place}{name}"
        if (field := fields.get(name)) is None:
            raise _refusal(where, f"one of {', '.join(fields)}", name)
        slot = field.oneof or name
        if slot in taken and not field.repeated:
            raise _refusal(where, f"one value of {slot}", "another one")
        taken.add(slot)
        _require_value(value, field.type, where)


def _require_value(value: Value, kind: "Scalar | str", where: str) -> None:
    if isinstance(kind, str) and kind in MESSAGES:
        if not isinstance(value, Message):
            raise _refusal(where, f"a message {kind}", _shown(value))
        return _require(value, kind, f"{where}.")
    if isinstance(kind, str):
        is_right, wanted = isinstance(value, Word) and value.name in ENUMS[kind], f"one of {_names(kind)}"
    elif kind is Scalar.STRING:
        is_right, wanted = isinstance(value, str), "a string"
    elif kind is Scalar.BOOL:
        is_right, wanted = value in {TRUE, FALSE}, "true or false"
    else:
        is_right, wanted = type(value) is int and value in _RANGES[kind], f"a number of type {kind.value}"
    if not is_right:
        raise _refusal(where, wanted, _shown(value))
    return None


def _names(kind: str) -> str:
    return ", ".join(ENUMS[kind])


def _shown(value: Value) -> str:
    if isinstance(value, Message):
        return "a message"
    return value.name if isinstance(value, Word) else repr(value)


def _refusal(where: str, wanted: str, got: str) -> ProofError:
    return ProofError(
        f"config.pbtxt: {where} is not by Triton's schema ({SCHEMA_VERSION}): wanted {wanted}, got {got}. "
        "Nothing was written."
    )
