import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest

from export import onnx_file as module
from export.onnx_file import write_onnx, write_onnx_folder
from export.onnx_weight import Weight

SIDE = 40


@pytest.fixture
def kernel() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)


def _model(*names: str) -> onnx.ModelProto:
    """The sum of the initializers of these names and the input."""
    last = "images"
    nodes = []
    for i, name in enumerate(names):
        nodes.append(onnx.helper.make_node("Add", [last, name], [f"sum_{i}"]))
        last = f"sum_{i}"
    shape = [None, SIDE]
    values = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, shape) for n in ("images", last)]
    graph = onnx.helper.make_graph(nodes, "g", values[:1], values[1:])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def test_a_streamed_file_is_what_protobuf_reads(tmp_path: Path, kernel: np.ndarray) -> None:
    weights = {
        "kernel": Weight.of(kernel),
        "turned": Weight.of(kernel).transposed((1, 0)),
        "scalar": Weight.of(np.ones((), np.float32)),
        "whole": Weight.of(np.asarray([-1, 7], np.int64)),
        "none": Weight.of(np.zeros((0, 3), np.float32)),
    }
    model = _model("kernel", "turned")
    write_onnx(tmp_path / "m.onnx", model, weights)
    assert not model.graph.initializer
    read = onnx.load(tmp_path / "m.onnx")
    found = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in read.graph.initializer}
    assert list(found) == list(weights)
    for name, weight in weights.items():
        np.testing.assert_array_equal(found[name], weight.value(), strict=True)
    del read.graph.initializer[:]
    assert read == model


def test_lengths_beyond_one_byte_are_written_as_protobuf_reads_them() -> None:
    assert [module._varint(n).hex() for n in (0, 127, 128, 300, 2**31)] == [
        "00", "7f", "8001", "ac02", "8080808008"
    ]  # fmt: skip


@pytest.mark.parametrize("chunk_bytes", [1, 160, 1000, 1 << 20])
def test_a_view_of_any_order_is_written_in_small_pieces(
    chunk_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK_BYTES", chunk_bytes)
    values = np.arange(3 * 4 * 5 * 6, dtype=np.float32).reshape(3, 4, 5, 6)
    for axes in ((3, 2, 0, 1), (0, 3, 1, 2), (1, 0, 2, 3), (0, 1, 2, 3)):
        view = values.transpose(axes)
        pieces = list(module._pieces(view))
        assert b"".join(np.ascontiguousarray(piece).tobytes() for piece in pieces) == view.tobytes()
        copied = [piece.nbytes for piece in pieces if not piece.flags.c_contiguous]
        assert all(size <= max(chunk_bytes, 4) for size in copied)


def test_writing_copies_no_large_weight(tmp_path: Path) -> None:
    """Of 64 MB in NHWC's order, written in NCHW's, at most a few megabytes are in memory twice."""
    rows = np.ones((16 * 16 * 64, 1024), np.float32)
    flat = Weight.of(rows).reshaped((16, 16, 64, 1024)).transposed((2, 0, 1, 3)).reshaped(rows.shape)
    model = _model("kernel")
    tracemalloc.start()
    write_onnx(tmp_path / "m.onnx", model, {"kernel": flat})
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "m.onnx").stat().st_size > rows.nbytes
    assert peak_bytes < 2.5 * module._CHUNK_BYTES < rows.nbytes / 6


def test_a_folder_holds_large_weights_beside_the_graph(tmp_path: Path, kernel: np.ndarray) -> None:
    import onnxruntime

    vector = kernel[0]
    weights = {
        "kernel": Weight.of(kernel),
        "turned": Weight.of(kernel).transposed((1, 0)),
        "vector": Weight.of(vector),
    }
    folder = tmp_path / "folder"
    write_onnx_folder(folder, _model(*weights), weights)
    assert sorted(path.name for path in folder.iterdir()) == ["model.onnx", "model.onnx.data"]
    onnx.checker.check_model(str(folder / "model.onnx"), full_check=True)
    places = [
        {entry.key: entry.value for entry in tensor.external_data}
        for tensor in onnx.load(folder / "model.onnx", load_external_data=False).graph.initializer
    ]
    assert places == [
        {"location": "model.onnx.data", "offset": "0", "length": "6400"},
        {"location": "model.onnx.data", "offset": "8192", "length": "6400"},
        {},  # small
    ]
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    zeros = np.zeros((SIDE, SIDE), np.float32)
    np.testing.assert_allclose(
        session.run(None, {"images": zeros})[0], kernel + kernel.T + vector, rtol=0, atol=1e-6
    )


def test_a_weight_that_is_not_what_was_announced_is_no_silent_damage(tmp_path: Path) -> None:
    other = Weight((3,), np.dtype(np.float32), lambda: np.zeros(4, np.float32))
    with pytest.raises(ValueError, match="wanted 3 values of float32, got 4 of float32"):
        write_onnx(tmp_path / "m.onnx", _model(), {"w": other})
