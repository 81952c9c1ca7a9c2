from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgepress.errors import InputError
from edgepress.inspection.tflite_graph import tflite_model
from export.tflite_file import builtin_name, write_tflite

SHAPE = (1000, 2600)  # 10.4 MB: more than two blocks


def _sum_model() -> Any:
    """`images` (1000, 2600) + buffer 1 → `logits`."""
    from ai_edge_litert import schema_py_generated as schema

    def tensor(name: bytes, buffer: int = 0) -> Any:
        return schema.TensorT(shape=np.asarray(SHAPE, np.int32), name=name, buffer=buffer)

    add = schema.OperatorT(inputs=[0, 1], outputs=[2], builtinOptionsType=schema.BuiltinOptions.AddOptions)
    add.builtinOptions = schema.AddOptionsT()
    graph = schema.SubGraphT(
        tensors=[tensor(b"images"), tensor(b"values", 1), tensor(b"logits")],
        inputs=[0],
        outputs=[2],
        operators=[add],
    )
    return schema.ModelT(
        version=3,
        operatorCodes=[schema.OperatorCodeT(version=1)],
        subgraphs=[graph],
        buffers=[schema.BufferT(), schema.BufferT(), schema.BufferT(data=np.arange(5, dtype=np.uint8))],
        metadata=[schema.MetadataT(name=b"note", buffer=2)],
    )


def _run(path: Path, values: NDArray[np.float32]) -> NDArray[np.float32]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
    interpreter.invoke()
    return np.asarray(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


def test_write_tflite_puts_each_value_behind_the_graph_in_row_order(tmp_path: Path) -> None:
    path, again = tmp_path / "m.tflite", tmp_path / "again.tflite"
    stored = np.random.default_rng(0).normal(size=SHAPE[::-1]).astype(np.float32)
    model = _sum_model()
    write_tflite(path, model, {1: lambda: stored.T})
    write_tflite(again, model, {1: lambda: stored.T})
    assert path.read_bytes() == again.read_bytes()
    assert np.array_equal(_run(path, np.zeros(SHAPE, np.float32)), stored.T)
    content = path.read_bytes()
    for value in (np.ascontiguousarray(stored.T).tobytes(), bytes(range(5))):
        assert content.index(value) % 16 == 0
    with tflite_model(path) as found:
        found.require_whole(path, len(content))
        assert [name for name, _ in found.operators()] == ["ADD"]
    assert [buffer.data is None for buffer in model.buffers] == [True, True, False]


def test_write_tflite_refuses_what_one_file_cannot_hold(tmp_path: Path) -> None:
    huge = np.broadcast_to(np.float32(0), (2**29,))
    with pytest.raises(
        InputError, match=r"less than 2\.1 GB, and this one would have at least 2\.1 GB\. Leave"
    ):
        write_tflite(tmp_path / "m.tflite", _sum_model(), {1: lambda: huge})


def test_builtin_name_knows_operators_behind_the_old_limit() -> None:
    from ai_edge_litert import schema_py_generated as schema

    gelu = schema.OperatorCodeT(deprecatedBuiltinCode=127, builtinCode=schema.BuiltinOperator.GELU)
    assert builtin_name(gelu) == "GELU"
