"""What Triton is told of an artifact, and that a wrong configuration does not get past the schema."""

from dataclasses import replace
from typing import Any

import pytest

from deploy.triton.config import (
    Backend,
    DynamicBatching,
    InstanceGroup,
    InstanceKind,
    Serving,
    TritonModel,
    config_text,
    name_from,
    require_name,
    triton_model_of,
)
from deploy.triton.protobuf_text import Message, Word
from deploy.triton.schema import ENUMS, MESSAGES, ROOT, SCHEMA_VERSION, checked
from edgepress.artifact import Format, Runtime, TensorSpec
from edgepress.errors import InputError, ProofError
from tests.deploy.triton_variants import BATCHING, HOSTILE, artifact, plan, variants

PLAIN = """\
# Written by edgepress. Triton's guide, Model Configuration, says what else can be set here.
name: "small"
backend: "onnxruntime"
default_model_filename: "model.onnx"
max_batch_size: 16
input { name: "images" data_type: TYPE_FP32 format: FORMAT_NHWC dims: [8, 8, 3] }
output { name: "logits" data_type: TYPE_FP32 dims: 3 label_filename: "labels.txt" }
instance_group { kind: KIND_CPU count: 1 }
dynamic_batching { preferred_batch_size: [4, 16] max_queue_delay_microseconds: 250 }
version_policy {
  specific { versions: 1 }
}
parameters {
  key: "edgepress_sha256"
  value { string_value: "5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed" }
}
parameters {
  key: "intra_op_thread_count"
  value { string_value: "2" }
}
model_warmup {
  name: "zeros-16"
  batch_size: 16
  inputs {
    key: "images"
    value { data_type: TYPE_FP32 dims: [8, 8, 3] zero_data: true }
  }
}
"""


def fields_of(message: Message, *names: str) -> list[Any]:
    """The values of a field, below other fields."""
    name, *rest = names
    found: list[Any] = [value for each, value in message.fields if each == name]
    return [one for value in found for one in fields_of(value, *rest)] if rest else found


def config_of(model: TritonModel) -> Message:
    return checked(config_text(model))


def test_text_is_this_one() -> None:
    model = triton_model_of(artifact(), "small", replace(BATCHING, warm_up=(16,)), "labels.txt")
    assert config_text(model) == PLAIN


@pytest.mark.parametrize("name", variants())
def test_equal_models_give_equal_texts(name: str) -> None:
    text = config_text(variants()[name])
    assert text == config_text(variants()[name])
    assert text.isascii()
    assert text.endswith("\n")
    assert max(map(len, text.splitlines())) <= 110


def test_free_batch_is_tritons_own() -> None:
    config = config_of(variants()["plain"])
    assert fields_of(config, "max_batch_size") == [8]
    assert fields_of(config, "input", "dims") == [8, 8, 3]
    assert fields_of(config, "output", "dims") == [3]
    assert fields_of(config, "input", "format") == [Word("FORMAT_NHWC")]


@pytest.mark.parametrize(("name", "batch"), [("fixed batch", 1), ("plan", 4)])
def test_fixed_batch_is_a_dimension_and_triton_makes_none(name: str, batch: int) -> None:
    config = config_of(variants()[name])
    assert fields_of(config, "max_batch_size") == [0]
    assert fields_of(config, "input", "dims") == [batch, 8, 8, 3]
    assert fields_of(config, "output", "dims") == [batch, 3]
    assert fields_of(config, "input", "format") == [], "Triton wants three dims with a format"
    assert fields_of(config, "model_warmup", "inputs", "value", "dims") == [batch, 8, 8, 3]


def test_batch_is_fixed_where_one_output_has_none() -> None:
    model = triton_model_of(artifact(outputs=(TensorSpec("logits", (3,), "float32"),)), "small")
    assert model.max_batch_size == 0
    assert model.inputs[0].dims == (-1, 8, 8, 3)
    assert model.outputs[0].dims == (3,)


def test_output_without_other_dimensions_is_reshaped() -> None:
    model = variants()["several outputs"]
    assert (model.outputs[1].dims, model.outputs[1].reshape) == ((1,), ())
    assert fields_of(config_of(model), "output", "reshape") == [Message()]


def test_free_sides_are_wildcards_and_ones_in_the_warm_up() -> None:
    config = config_of(variants()["free sides"])
    assert fields_of(config, "input", "dims") == [-1, -1, 3]
    assert fields_of(config, "model_warmup", "inputs", "value", "dims") == [1, 1, 3]


def test_pixels_are_bytes() -> None:
    config = config_of(variants()["rgb"])
    assert fields_of(config, "input", "data_type") == [Word("TYPE_UINT8")]
    assert fields_of(config, "input", "format") == [Word("FORMAT_NCHW")]
    assert fields_of(config, "input", "dims") == [3, 8, 8]


def test_backend_by_the_artifact() -> None:
    onnx, engine = (config_of(variants()[name]) for name in ("plain", "plan"))
    assert [fields_of(c, "backend") for c in (onnx, engine)] == [["onnxruntime"], ["tensorrt"]]
    names = [fields_of(c, "default_model_filename") for c in (onnx, engine)]
    assert names == [["model.onnx"], ["model.plan"]]
    assert fields_of(onnx, "parameters", "key") == ["edgepress_sha256", "intra_op_thread_count"]
    assert fields_of(engine, "parameters", "key") == ["edgepress_sha256"], "threads are ONNX Runtime's"
    assert fields_of(engine, "instance_group", "gpus") == [0, 1]


def test_hostile_name_comes_back() -> None:
    config = config_of(variants()["hostile names"])
    assert (
        fields_of(config, "input", "name") == fields_of(config, "model_warmup", "inputs", "key") == [HOSTILE]
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"format": Format.TFLITE, "runtimes": (Runtime.LITERT,)},
            "Triton has no backend for onnx-fp32: wanted an ONNX file or a plan of TensorRT, got tflite for "
            "litert. Bundle another --variant.",
        ),
        (
            {"format": Format.ENGINE, "runtimes": (Runtime.TENSORRT_RTX,)},
            "got engine for tensorrt-rtx. Bundle another",
        ),
        (
            {"inputs": (TensorSpec("images", (None, 3), "complex64"),)},
            "Triton has no type for 'complex64' of 'images': wanted one of bool, uint8, ",
        ),
        (
            {"inputs": (TensorSpec("images", (None, 0, 8, 3), "float32"),)},
            "small: 'images' has dims (0, 8, 3), and Triton wants sizes of 1 or more, -1 where free. Export",
        ),
        (
            {"inputs": (TensorSpec("im\ud800", (None, 8, 8, 3), "float32"),)},
            "is no Unicode text, which a configuration of Triton wants. Use another name.",
        ),
    ],
)
def test_artifact_that_triton_cannot_serve(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        config_text(triton_model_of(artifact(**changes), "small"))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("serving", "message"),
    [
        (
            Serving(max_batch_size=0),
            "small: wanted a max_batch_size of 1 or more, since this artifact takes any batch, got 0. Choose",
        ),
        (
            Serving(max_batch_size=4, dynamic_batching=DynamicBatching((8,))),
            "small: preferred_sizes wants batches of 1 to 4, got 8. Choose another.",
        ),
        (Serving(dynamic_batching=DynamicBatching((0,))), "preferred_sizes wants batches of 1 to 8, got 0."),
        (
            Serving(dynamic_batching=DynamicBatching(max_queue_delay_us=-1)),
            "max_queue_delay_us wants 0 µs or more, got -1.",
        ),
        (Serving(warm_up=(9,)), "small: warm_up wants batches of 1 to 8, got 9. Choose another."),
        (Serving(instance_groups=()), "small: wanted one instance or more in each group. Give a count of 1"),
        (Serving(instance_groups=(InstanceGroup(count=0),)), "wanted one instance or more in each group."),
        (
            Serving(instance_groups=(InstanceGroup(InstanceKind.CPU, gpus=(0,)),)),
            "small: instances on the CPU have no GPUs, got (0,). Leave them out.",
        ),
        (
            Serving(threads=-1),
            "wanted 0 threads or more and versions from 1, got -1 threads and versions (1,)",
        ),
        (
            Serving(versions=()),
            "wanted 0 threads or more and versions from 1, got 0 threads and versions ().",
        ),
        (Serving(versions=(0,)), "got 0 threads and versions (0,)."),
    ],
)
def test_what_triton_refuses_is_refused_here(serving: Serving, message: str) -> None:
    with pytest.raises(InputError) as caught:
        triton_model_of(artifact(), "small", serving)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("serving", "message"),
    [
        (
            Serving(dynamic_batching=DynamicBatching(), instance_groups=(InstanceGroup(InstanceKind.GPU),)),
            "small: dynamic batching needs a free batch, and this artifact's is fixed. Leave dynamic",
        ),
        (Serving(), "small: a TensorRT plan runs on a GPU, got KIND_CPU. Use KIND_GPU."),
        (
            Serving(warm_up=(4,), instance_groups=(InstanceGroup(InstanceKind.GPU),)),
            "warm_up wants batches of 1 to 1, got 4.",
        ),
    ],
)
def test_what_does_not_fit_a_plan_with_a_fixed_batch(serving: Serving, message: str) -> None:
    with pytest.raises(InputError) as caught:
        triton_model_of(plan(), "small", serving)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["vgg16", "VGG16_int8.v2", "_", "3", "a-b", "a" * 100])
def test_names_of_folders(name: str) -> None:
    require_name(name)
    assert name_from(name) == name


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("", "model"),
        ("..", "model"),
        (".hidden", "hidden"),
        ("-rf", "rf"),
        ("a/b", "a_b"),
        ("../../etc", "_.._etc"),
        ("my model", "my_model"),
        ("naïve\n", "na_ve_"),
        ("a" * 101, "a" * 100),
    ],
)
def test_name_that_is_none_is_refused_with_a_nearer_one(name: str, nearest: str) -> None:
    with pytest.raises(InputError) as caught:
        triton_model_of(artifact(), name)
    assert "cannot be the name of a model in Triton: wanted 1 to 100 letters" in str(caught.value)
    assert str(caught.value).endswith(f"Use {nearest!r}, say.")
    require_name(name_from(name))


WRONG = [
    ('nam: "small"', "nam", "one of name, backend, default_model_filename, max_batch_size, ", "nam"),
    ('input { name: "a" dim: 3 }', "input.dim", "one of name, data_type, format, dims, reshape", "dim"),
    ("input { data_type: TYPE_FLOAT }", "input.data_type", "one of TYPE_INVALID, TYPE_BOOL, ", "TYPE_FLOAT"),
    ('input { data_type: "TYPE_FP32" }', "input.data_type", "one of TYPE_INVALID, ", "'TYPE_FP32'"),
    ("instance_group { kind: CPU }", "instance_group.kind", "one of KIND_AUTO, KIND_GPU, ", "CPU"),
    ("name: small", "name", "a string", "small"),
    ("max_batch_size: true", "max_batch_size", "a number of type int32", "true"),
    ('max_batch_size: "8"', "max_batch_size", "a number of type int32", "'8'"),
    ("max_batch_size: 2147483648", "max_batch_size", "a number of type int32", "2147483648"),
    (
        "dynamic_batching { max_queue_delay_microseconds: -1 }",
        "dynamic_batching.max_queue_delay_microseconds",
        "a number of type uint64",
        "-1",
    ),
    ('name: "a" name: "b"', "name", "one value of name", "another one"),
    (
        "dynamic_batching { } dynamic_batching { }",
        "dynamic_batching",
        "one value of scheduling_choice",
        "anoth",
    ),
    ("name { }", "name", "a string", "a message"),
    ("version_policy: 1", "version_policy", "a message ModelVersionPolicy", "1"),
    (
        'model_warmup { inputs { key: "a" value { zero_data: yes } } }',
        "model_warmup.inputs.value.zero_data",
        "true or false",
        "yes",
    ),
]


@pytest.mark.parametrize(("text", "where", "wanted", "got"), WRONG, ids=[text for text, *_ in WRONG])
def test_text_that_is_not_by_the_schema_is_refused(text: str, where: str, wanted: str, got: str) -> None:
    with pytest.raises(ProofError) as caught:
        checked(text)
    message = str(caught.value)
    start = f"config.pbtxt: {where} is not by Triton's schema ({SCHEMA_VERSION}): wanted {wanted}"
    assert message.startswith(start)
    assert f", got {got}" in message
    assert message.endswith("Nothing was written.")


def test_what_is_written_is_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    model = variants()["plain"]
    assert fields_of(config_of(model), "backend") == ["onnxruntime"]
    monkeypatch.setattr(Backend, "title", property(lambda self: Word("onnxruntime")))
    with pytest.raises(
        ProofError, match="config.pbtxt: backend is not by .*: wanted a string, got onnxruntime"
    ):
        config_text(model)


def test_number_that_triton_cannot_hold_is_no_config() -> None:
    with pytest.raises(ProofError, match="max_batch_size is not by .*: wanted a number of type int32"):
        config_text(triton_model_of(artifact(), "small", Serving(max_batch_size=1 << 31)))


def test_nothing_in_our_part_is_out_of_reach() -> None:
    reached, left = set(), [ROOT]
    while left:
        name = left.pop()
        reached.add(name)
        kinds = {str(field.type) for field in MESSAGES.get(name, {}).values()}
        left += sorted((kinds & {*MESSAGES, *ENUMS}) - reached)
    assert reached == {*MESSAGES, *ENUMS}
