"""Our part of Triton's schema against the published one: the descriptor that `tritonclient` ships.

The package cannot be installed beside the rest, so its wheel is fetched and one module of it is loaded.
"""

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from deploy.triton.config import config_text
from deploy.triton.protobuf_text import Message, Word
from deploy.triton.schema import ENUMS, MESSAGES, SCHEMA_VERSION, Field, Scalar, checked
from edgepress.errors import ProofError
from tests.deploy.triton_variants import variants

pytestmark = pytest.mark.network

MODULE = "tritonclient/grpc/model_config_pb2.py"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The generated code of model_config.proto. protobuf 7 runs what protobuf 6 generated."""
    folder = tmp_path_factory.mktemp("tritonclient")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    options = ["--retries", "1", "--only-binary", ":all:", "--dest", str(folder)]
    done = subprocess.run(
        [*command, *options, f"tritonclient=={SCHEMA_VERSION}"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if "(from versions: none)" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        path = Path(content.extract(MODULE, folder))
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def message_named(published: ModuleType, name: str) -> Any:
    return published.DESCRIPTOR.pool.FindMessageTypeByName(f"inference.{name}")


def enum_named(published: ModuleType, name: str) -> Any:
    return published.DESCRIPTOR.pool.FindEnumTypeByName(f"inference.{name}")


def as_ours(field: Any) -> Field:
    """A field of the descriptor, as our schema would have it."""
    kinds = {getattr(field, f"TYPE_{kind.name}"): kind for kind in Scalar}
    inner = field.message_type or field.enum_type
    kind = kinds[field.type] if inner is None else inner.full_name.removeprefix("inference.")
    oneof = None if field.containing_oneof is None else field.containing_oneof.name
    return Field(kind, repeated=field.is_repeated, oneof=oneof)


@pytest.mark.parametrize("name", MESSAGES)
def test_message_is_the_published_one(published: ModuleType, name: str) -> None:
    there = message_named(published, name).fields_by_name
    assert {field: as_ours(there[field]) for field in MESSAGES[name]} == MESSAGES[name]


@pytest.mark.parametrize("name", ENUMS)
def test_enumeration_is_the_published_one(published: ModuleType, name: str) -> None:
    values = [(value.name, value.number) for value in enum_named(published, name).values]
    assert values == [(member, number) for number, member in enumerate(ENUMS[name])]


def as_message(value: Any) -> Message:
    """A parsed ModelConfig, as our reader would have it: what is set, by the numbers of the fields."""
    fields: list[tuple[str, Any]] = []
    for field, found in value.ListFields():
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        if is_map:
            entries = [(key, found[key]) for key in sorted(found)]
            fields += [(field.name, Message((("key", key), ("value", as_message(v))))) for key, v in entries]
            continue
        for each in found if field.is_repeated else [found]:
            if field.message_type is not None:
                fields.append((field.name, as_message(each)))
            elif field.enum_type is not None:
                fields.append((field.name, Word(field.enum_type.values_by_number[each].name)))
            else:
                fields.append((field.name, Word("true") if each is True else each))
    return Message(tuple(fields))


def in_order(message: Message) -> Message:
    """The same without the order of different fields, and without zeros, which protobuf does not keep."""
    fields = [
        (name, in_order(value) if isinstance(value, Message) else value)
        for name, value in message.fields
        if value != 0 and value != Word("KIND_AUTO")
    ]
    return Message(tuple(sorted(fields, key=lambda field: field[0])))


@pytest.mark.parametrize("name", variants())
def test_every_config_is_what_protobuf_reads(published: ModuleType, name: str) -> None:
    from google.protobuf import text_format  # type: ignore[import-untyped]

    text = config_text(variants()[name])
    parsed = text_format.Parse(text, published.ModelConfig())
    assert parsed.name == variants()[name].name
    assert in_order(as_message(parsed)) == in_order(checked(text))


WRONG = [
    'nam: "small"',
    'input { name: "a" dim: 3 }',
    "input { data_type: TYPE_FLOAT }",
    'input { data_type: "TYPE_FLOAT" }',
    "instance_group { kind: CPU }",
    "name: small",
    "max_batch_size: true",
    "max_batch_size: 2147483648",
    "dynamic_batching { max_queue_delay_microseconds: -1 }",
    'name: "a" name: "b"',
    "name { }",
    "version_policy: 1",
    'model_warmup { inputs { key: "a" value { zero_data: yes } } }',
    'name: "a',
    "input {",
    "input [ { } { } ]",
    "max_batch_size: 1x",
]


@pytest.mark.parametrize("text", WRONG)
def test_wrong_config_is_refused_by_both(published: ModuleType, text: str) -> None:
    from google.protobuf import text_format

    with pytest.raises(text_format.ParseError):
        text_format.Parse(text, published.ModelConfig())
    with pytest.raises(ProofError):
        checked(text)
