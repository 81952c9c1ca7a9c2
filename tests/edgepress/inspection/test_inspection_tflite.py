import random
from pathlib import Path

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


def test_a_file_without_signature_names_its_tensors(digits_folder: Path, tmp_path: Path) -> None:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    content = (digits_folder / "tflite-fp32.tflite").read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    model.signatureDefs = []
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    path = tmp_path / "bare.tflite"
    path.write_bytes(bytes(builder.Output()))
    found = inspect_tflite(path)
    assert found.parameters == inspect_tflite(digits_folder / "tflite-fp32.tflite").parameters
    assert [spec.shape for spec in found.inputs] == [(1, 32, 32, 3)]
