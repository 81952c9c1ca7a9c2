import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgepress.errors import InputError
from edgepress.inspection.inspection_tflite import inspect_tflite


@pytest.fixture
def whole(digits_optimized: Path) -> bytes:
    """A file whose weights come last."""
    return (digits_optimized / "tflite-static_wi8_ai8.tflite").read_bytes()


@pytest.mark.parametrize("share", [0.001, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_file_that_was_cut_off_is_refused(whole: bytes, tmp_path: Path, share: float) -> None:
    path = tmp_path / "cut.tflite"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match=r"cut\.tflite is truncated"):
        inspect_tflite(path)


def test_a_file_without_its_last_byte_of_weights_is_truncated(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cut.tflite"
    path.write_bytes(whole[:-1])
    with pytest.raises(InputError, match=r"is truncated: wanted weights up to byte \d+, it has \d+"):
        inspect_tflite(path)


def test_random_bytes_in_its_tables_never_end_in_another_error(whole: bytes, tmp_path: Path) -> None:
    """Whatever stands there, a file is either read or refused in one line."""
    path, draws, refused = tmp_path / "odd.tflite", random.Random(3), 0  # noqa: S311  # no secret
    for _ in range(40):
        content = bytearray(whole)
        for _ in range(draws.choice((1, 20, 400))):
            content[draws.randrange(8, 20_000)] = draws.randrange(256)
        path.write_bytes(content)
        try:
            assert inspect_tflite(path).parameters >= 0
        except InputError:
            refused += 1
    assert 0 < refused < 40


def test_a_header_and_nothing_behind_it_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "head.tflite"
    path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(3))
    with pytest.raises(InputError, match=r"head\.tflite is truncated or damaged: .* Copy or export it again"):
        inspect_tflite(path)


def changed(source: Path, path: Path, change: Callable[[Any], None]) -> Path:
    """The file with something else in its tables."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    content = source.read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    change(model)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def weight_of(model: Any, layer: int) -> Any:
    """Tensor of the weights of the so-manieth convolution."""
    graph = model.subgraphs[0]
    code = next(i for i, code in enumerate(model.operatorCodes) if code.builtinCode == 3)  # CONV_2D
    convolutions = [operator for operator in graph.operators if operator.opcodeIndex == code]
    return graph.tensors[convolutions[layer].inputs[1]]


def test_a_file_without_signature_names_its_tensors(digits_folder: Path, tmp_path: Path) -> None:
    source = digits_folder / "tflite-fp32.tflite"
    found = inspect_tflite(
        changed(source, tmp_path / "bare.tflite", lambda model: model.signatureDefs.clear())
    )
    assert found.parameters == inspect_tflite(source).parameters
    assert [spec.shape for spec in found.inputs] == [(1, 32, 32, 3)]


def _without_operators(model: Any) -> None:
    model.subgraphs[0].operators = []


def _negative_size(model: Any) -> None:
    weight_of(model, 2).shape = [-1, *weight_of(model, 2).shape[1:]]


def _other_size(model: Any) -> None:
    weight_of(model, 2).shape = [5, *weight_of(model, 2).shape[1:]]


def _tensor_that_is_not_there(model: Any) -> None:
    model.subgraphs[0].operators[3].inputs = [9999, 9999, 9999]


def _buffer_that_is_not_there(model: Any) -> None:
    weight_of(model, 2).buffer = 9999


def _infinite_scale(model: Any) -> None:
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    quantization = schema.QuantizationParametersT()
    quantization.scale, quantization.zeroPoint = [float("inf")], [0]
    graph.tensors[graph.inputs[0]].quantization = quantization


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without_operators, "holds no TFLite graph: wanted operators, got none"),
        (_negative_size, r"is truncated or damaged: .*\(a tensor of \(-1, "),
        (_other_size, r"is truncated or damaged: .* takes \d+ bytes, \d+ are stored"),
        (_tensor_that_is_not_there, r"is truncated or damaged: .*\(tensor 9999 of \d+\)"),
        (_buffer_that_is_not_there, r"is truncated or damaged: .*\(buffer 9999 of \d+\)"),
        (_infinite_scale, r"is truncated or damaged: .* a scale of inf"),
    ],
)
def test_tables_that_contradict_each_other_are_refused(
    digits_folder: Path, tmp_path: Path, damage: Callable[[Any], None], message: str
) -> None:
    path = changed(digits_folder / "tflite-fp32.tflite", tmp_path / "odd.tflite", damage)
    with pytest.raises(InputError, match=message):
        inspect_tflite(path)


def test_a_shared_weight_counts_once(digits_folder: Path, tmp_path: Path) -> None:
    source = digits_folder / "tflite-fp32.tflite"

    def share(model: Any) -> None:
        weight_of(model, -1).buffer = weight_of(model, -2).buffer  # block5_conv3 and block5_conv2: one shape

    before, after = inspect_tflite(source), inspect_tflite(changed(source, tmp_path / "s.tflite", share))
    (lost,) = [
        (old, new)
        for old, new in zip(before.layers, after.layers, strict=True)
        if old.parameters and not new.parameters
    ]
    assert (lost[1].macs, lost[1].weight_bytes) == (lost[0].macs, 0)
    assert after.parameters == before.parameters - lost[0].parameters - lost[0].biases


def test_values_that_belong_to_no_layer_are_counted_apart(digits_folder: Path, tmp_path: Path) -> None:
    source = digits_folder / "tflite-fp32.tflite"
    assert inspect_tflite(source).unlisted == 0

    def orphan(model: Any) -> None:
        from ai_edge_litert import schema_py_generated as schema

        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = (
            b"slope",
            list(weight_of(model, 0).shape),
            weight_of(model, 0).buffer,
        )
        model.subgraphs[0].tensors.append(tensor)

    assert inspect_tflite(changed(source, tmp_path / "o.tflite", orphan)).unlisted == 9 * 3 * 16


def test_a_bias_in_fp16_counts_as_it_is_stored(digits_folder: Path, tmp_path: Path) -> None:
    """The converter puts a DEQUANTIZE before each tensor in FP16, biases too where it stores them so."""
    source = digits_folder / "tflite-fp32.tflite"

    def store_in_fp16(model: Any) -> None:
        from ai_edge_litert import schema_py_generated as schema

        graph = model.subgraphs[0]
        bias = next(op.inputs[2] for op in graph.operators if len(op.inputs) == 3)
        values, half, maker, code = (
            schema.BufferT(),
            schema.TensorT(),
            schema.OperatorT(),
            schema.OperatorCodeT(),
        )
        values.data = [0] * (2 * int(graph.tensors[bias].shape[0]))
        half.name, half.type, half.shape = b"half", schema.TensorType.FLOAT16, graph.tensors[bias].shape
        half.buffer, graph.tensors[bias].buffer = len(model.buffers), 0
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
        maker.opcodeIndex, maker.inputs, maker.outputs = (
            len(model.operatorCodes),
            [len(graph.tensors)],
            [int(bias)],
        )
        model.buffers.append(values)
        model.operatorCodes.append(code)
        graph.tensors.append(half)
        graph.operators.insert(0, maker)

    before, after = (
        inspect_tflite(source),
        inspect_tflite(changed(source, tmp_path / "h.tflite", store_in_fp16)),
    )
    assert after.parameters == before.parameters
    assert after.weight_bytes == before.weight_bytes - 2 * after.layers[0].biases
