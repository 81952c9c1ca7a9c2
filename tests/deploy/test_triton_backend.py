"""The client of Triton in a bundle, against a fake server with a real ONNX Runtime session behind it."""

import importlib
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from numpy.typing import NDArray

from deploy.triton import repository as triton_repository
from tests.fakes.fake_triton import FakeTriton, Fault, serving, unused_url

RUNTIME = Path(triton_repository.__file__).parents[1] / "runtime"
SHA256 = "5eed" * 16


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """backend.py as it lies in a bundle, imported from there."""
    folder = tmp_path_factory.mktemp("bundle")
    shutil.copyfile(RUNTIME / "triton_backend.py", folder / "backend.py")
    shutil.copyfile(RUNTIME / "bundle.py", folder / "bundle.py")
    names = ("backend", "bundle")
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    with mock.patch.object(sys, "path", [str(folder), *sys.path]):
        module = importlib.import_module("backend")
    yield module
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(before)


def save_model(path: Path, *, batch: int | None = None, is_rgb: bool = False) -> None:
    """Logits of 4×4 pictures, as drawn."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).normal(size=(48, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
    ]
    kind = TensorProto.UINT8 if is_rgb else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "drawn",
        [helper.make_tensor_value_info("images", kind, [batch, 4, 4, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def manifest_of(batch: int | None = None, dtype: str = "float32") -> Any:
    return {
        "triton": {"model": "small", "version": 1, "sha256": SHA256},
        "model": {
            "file": "model_repository/small/1/model.onnx",
            "inputs": [{"name": "images", "shape": [batch, 4, 4, 3], "dtype": dtype, "quantization": None}],
            "outputs": [{"name": "logits", "shape": [batch, 3], "dtype": "float32", "quantization": None}],
        },
    }


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    save_model(path)
    return path


@pytest.fixture
def fake(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTriton]:
    """A server that is right; the test may give it a fault."""
    with serving(FakeTriton(model_file, parameters={"edgepress_sha256": SHA256})) as one:
        monkeypatch.setenv("EDGEPRESS_TRITON_URL", one.url)
        yield one


def drawn(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(size=(count, 4, 4, 3)).astype(np.float32)


Open = Callable[..., Any]


@pytest.fixture
def opened(backend: Any) -> Iterator[Open]:
    """Opens sessions that are closed after the test."""
    sessions = []

    def open_one(manifest: Any = None) -> Any:
        session = backend.open_session(manifest or manifest_of(), Path("/bundles/small"))
        sessions.append(session)
        return session

    yield open_one
    for session in sessions:
        session.close()


@pytest.mark.parametrize(("count", "batches"), [(1, [1]), (8, [8]), (21, [8, 8, 5])])
def test_answers_are_the_models_and_large_batches_are_split(
    fake: FakeTriton, opened: Open, count: int, batches: list[int]
) -> None:
    inputs = drawn(count)
    found = opened().run(inputs)
    assert found.dtype == np.float32
    assert fake.batches == batches
    wanted = [fake.session.run(["logits"], {"images": one[np.newaxis]})[0][0] for one in inputs]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_where_says_what_runs_it(fake: FakeTriton, opened: Open, backend: Any) -> None:
    session = opened()
    assert session.where == f"Triton 2.51.0 at {fake.url}, model small version 1 (onnxruntime_onnx), ready"
    assert backend.versions() == {"numpy": np.__version__}


def test_inputs_need_not_lie_together(fake: FakeTriton, opened: Open) -> None:
    inputs = drawn(6)
    session = opened()
    np.testing.assert_array_equal(session.run(inputs[::2]), session.run(inputs[::2].copy()))


def test_pixels_go_as_bytes(tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(tmp_path / "rgb.onnx", is_rgb=True)
    pictures = np.random.default_rng(2).integers(0, 256, (3, 4, 4, 3), np.uint8)
    with serving(FakeTriton(tmp_path / "rgb.onnx", parameters={"edgepress_sha256": SHA256})) as one:
        monkeypatch.setenv("EDGEPRESS_TRITON_URL", one.url)
        found = opened(manifest_of(dtype="uint8")).run(pictures)
        np.testing.assert_allclose(found, one.session.run(["logits"], {"images": pictures})[0], rtol=1e-5)


def test_fixed_batch_goes_in_whole_blocks(
    tmp_path: Path, opened: Open, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(tmp_path / "two.onnx", batch=2)
    fake = FakeTriton(tmp_path / "two.onnx", max_batch_size=0, parameters={"edgepress_sha256": SHA256})
    with serving(fake):
        monkeypatch.setenv("EDGEPRESS_TRITON_URL", fake.url)
        session = opened(manifest_of(batch=2))
        assert session.run(drawn(4)).shape == (4, 3)
        assert fake.batches == [2, 2]
        wanted = r"small takes float32 of shape \(2, 4, 4, 3\), got float32 \(3, 4, 4, 3\)\. Prepare"
        with pytest.raises(backend.Refusal, match=wanted):
            session.run(drawn(3))


def test_without_a_server_the_command_that_starts_one_is_told(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = unused_url()
    monkeypatch.setenv("EDGEPRESS_TRITON_URL", url)
    with pytest.raises(backend.CouldNotRun) as caught:
        backend.open_session(manifest_of(), Path("/my bundles/small"))
    text = str(caught.value)
    assert text.startswith(f"no Triton answers at {url} (")
    assert text.endswith(
        "). Run: docker run --rm -p 127.0.0.1:8000:8000 -v '/my bundles/small/model_repository:/models:ro' "
        f"{backend.IMAGE} tritonserver --model-repository=/models"
    )


def test_the_image_is_that_of_serve_sh(backend: Any) -> None:
    assert backend.IMAGE == triton_repository.IMAGE


def test_default_address_is_tritons(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEPRESS_TRITON_URL", raising=False)
    asked = []

    def refuse(server: Any) -> None:
        asked.append(server.url)
        raise backend.CouldNotRun("not here")

    monkeypatch.setattr(backend._Server, "_connect", refuse)
    with pytest.raises(backend.CouldNotRun):
        backend.open_session(manifest_of(), Path())
    assert asked == ["http://localhost:8000"]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://somewhere", "is 'ftp://somewhere', wanted an address such as http://localhost:8000"),
        ("http://:8000", "is 'http://:8000', wanted an address such as http://localhost:8000"),
        ("http://here:eight", r"is 'http://here:eight': Port could not be cast .* Give e\.g\. http://local"),
    ],
)
def test_wrong_address_is_refused(
    backend: Any, monkeypatch: pytest.MonkeyPatch, url: str, message: str
) -> None:
    monkeypatch.setenv("EDGEPRESS_TRITON_URL", url)
    with pytest.raises(backend.Refusal, match=message):
        backend.open_session(manifest_of(), Path())


def test_address_without_a_scheme_and_with_a_path(
    fake: FakeTriton, opened: Open, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEPRESS_TRITON_URL", fake.url.removeprefix("http://"))
    assert opened().run(drawn(1)).shape == (1, 3)
    monkeypatch.setenv("EDGEPRESS_TRITON_URL", f"{fake.url}/v2/models/of/others/")
    with pytest.raises(backend.Refusal, match="/of/others refuses the server \\(404: Request for unknown"):
        opened()


def test_not_ready(fake: FakeTriton, opened: Open, backend: Any) -> None:
    fake.fault = Fault.NOT_READY
    wanted = "is not ready, and nor is its model small version 1. Wait, or read the server's log."
    with pytest.raises(backend.CouldNotRun, match=wanted):
        opened()
    fake.fault = Fault.SERVER_NOT_READY  # by another model that failed
    assert opened().run(drawn(1)).shape == (1, 3)


def tensor(name: str = "images", datatype: str = "FP32", shape: tuple[int, ...] = (-1, 4, 4, 3)) -> Any:
    return {"name": name, "datatype": datatype, "shape": list(shape)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"inputs": [tensor(name="pictures")]},
            r"wanted inputs images FP32 \[-1, 4, 4, 3\], got pictures FP32",
        ),
        ({"inputs": [tensor(datatype="UINT8")]}, r"wanted inputs images FP32 .*, got images UINT8 \[-1"),
        ({"inputs": [tensor(shape=(-1, 3, 4, 4))]}, r"got images FP32 \[-1, 3, 4, 4\]\. Serve model_repos"),
        ({"inputs": [tensor(), tensor("mask")]}, r"got images FP32 .*, mask FP32"),
        (
            {"outputs": [tensor("logits", shape=(-1, 4))]},
            r"outputs logits FP32 \[-1, 3\], got logits FP32 \[-1, 4",
        ),
        ({"platform": "tensorrt_plan"}, "wanted small by onnxruntime, got tensorrt_plan"),
        ({"versions": ["2"]}, r"wanted small version 1, got small version \['2'\]"),
        ({"name": "other"}, "wanted small version 1, got other version"),
        ({"inputs": None}, r"says too little of small \(TypeError"),
        ({"inputs": [{"name": "images"}]}, r"says too little of small \(KeyError\('datatype'\)"),
    ],
)
def test_another_model_is_refused(
    fake: FakeTriton, opened: Open, backend: Any, changes: Any, message: str
) -> None:
    fake.metadata = changes
    with pytest.raises(backend.Refusal, match=message):
        opened()


def test_unknown_model_is_refused(fake: FakeTriton, opened: Open, backend: Any) -> None:
    fake.name = "another"
    message = r"refuses the model small version 1 \(404: Request for unknown model: 'small' is not found\)"
    with pytest.raises(backend.Refusal, match=message):
        opened()


def test_same_model_with_other_weights_is_refused(fake: FakeTriton, opened: Open, backend: Any) -> None:
    fake.parameters = {"edgepress_sha256": "0ld" * 20}
    message = r"wanted small of SHA-256 5eed5eed5eed…, got 0ld0ld0ld0ld…\. Serve model_repository of this"
    with pytest.raises(backend.Refusal, match=message):
        opened()
    fake.parameters = {}
    with pytest.raises(backend.Refusal, match="has no 'edgepress_sha256' in the configuration of small"):
        opened()


@pytest.mark.parametrize(
    ("about", "message"),
    [
        (
            {"name": "mlserver", "extensions": []},
            "is 'mlserver' without the extension binary_tensor_data and model_configuration, wanted Triton "
            "Inference Server. Name one with EDGEPRESS_TRITON_URL.",
        ),
        ({"extensions": None}, "is 'triton' without the extension binary_tensor_data and"),
    ],
)
def test_another_kind_of_server_is_refused(
    fake: FakeTriton, opened: Open, backend: Any, about: Any, message: str
) -> None:
    fake.about = about
    with pytest.raises(backend.Refusal, match=message):
        opened()


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        (Fault.ERROR_500, "Refusal", r"refuses infer \(500: out of memory\)\. Read the server's log\."),
        (Fault.GARBAGE_500, "Refusal", r"refuses infer \(500: <h1>Oops</h1>\)\. Read"),
        (Fault.NO_JSON, "Refusal", r"The server's answer cannot be read \(JSONDecodeError"),
        (Fault.JSON_LIST, "Refusal", r"The server's answer cannot be read \(TypeError"),
        (
            Fault.SHORT_TENSOR,
            "Refusal",
            r"wanted \('logits', 'FP32', \(2, 3\)\) in 24 bytes, got \('logits', 'FP32', \(2, 3\)\) in 20\.",
        ),
        (Fault.OTHER_OUTPUT, "Refusal", r"wanted \('logits', .* got \('other', 'FP32', \(2, 3\)\) in 24\."),
        (Fault.OTHER_SHAPE, "Refusal", r"got \('logits', 'FP32', \(3, 2\)\) in 24\. Read the server's log\."),
        (Fault.HUGE, "Refusal", r"/infer gives more than 1048600 bytes\. Is that Triton\?"),
        (Fault.TRUNCATED, "CouldNotRun", r"gave no whole answer \(.*5 bytes of the answer are missing"),
        (Fault.SLOW, "CouldNotRun", r"gave no whole answer \(timed out\)\. Read the server's log, and try"),
        (Fault.DRIPPING, "CouldNotRun", r"gave no whole answer \(it took more than 0\.3 s\)"),
    ],
    ids=lambda value: value.value if isinstance(value, Fault) else "",
)
def test_wrong_answer_is_no_answer(
    fake: FakeTriton,
    opened: Open,
    backend: Any,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    kind: str,
    message: str,
) -> None:
    monkeypatch.setattr(backend, "PATIENCE_S", 0.3 if fault in {Fault.SLOW, Fault.DRIPPING} else 60.0)
    session = opened()
    fake.fault = fault
    with pytest.raises(getattr(backend, kind), match=message) as caught:
        session.run(drawn(2))
    assert "\n" not in str(caught.value)
    fake.fault = Fault.NONE
    assert session.run(drawn(2)).shape == (2, 3), "the session goes on where the server does"


def test_connection_that_the_server_closed_is_opened_again(fake: FakeTriton, opened: Open) -> None:
    fake.fault = Fault.HANGS_UP
    session = opened()
    for _ in range(3):
        assert session.run(drawn(9)).shape == (9, 3)
    assert fake.batches == [8, 1] * 3


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(Fault.HANGS_UP_AT_ONCE, "Remote end closed connection"), (Fault.NO_HTTP, "220 mail.example ESMTP")],
)
def test_something_else_that_listens_there(
    fake: FakeTriton, opened: Open, backend: Any, fault: Fault, reason: str
) -> None:
    fake.fault = fault
    with pytest.raises(backend.CouldNotRun, match=f"gave no whole answer .{reason}"):
        opened()


def test_server_that_is_gone_meanwhile(
    model_file: Path, opened: Open, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeTriton(model_file, parameters={"edgepress_sha256": SHA256}, fault=Fault.HANGS_UP)
    with serving(fake):
        monkeypatch.setenv("EDGEPRESS_TRITON_URL", fake.url)
        session = opened()
    with pytest.raises(backend.CouldNotRun, match="no Triton answers at .* Run: docker run"):
        session.run(drawn(1))


@pytest.mark.parametrize(
    ("inputs", "got"),
    [
        (np.zeros((1, 4, 4, 3)), r"float64 \(1, 4, 4, 3\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"uint8 \(1, 4, 4, 3\)"),
        (np.zeros((1, 3, 4, 4), np.float32), r"float32 \(1, 3, 4, 4\)"),
        (np.zeros((4, 4, 3), np.float32), r"float32 \(4, 4, 3\)"),
        (np.zeros((0, 4, 4, 3), np.float32), r"float32 \(0, 4, 4, 3\)"),
    ],
)
def test_wrong_inputs_do_not_reach_the_server(
    fake: FakeTriton, opened: Open, backend: Any, inputs: Any, got: str
) -> None:
    session = opened()
    with pytest.raises(backend.Refusal, match=rf"small takes float32 of shape \(N, 4, 4, 3\), got {got}\."):
        session.run(inputs)
    assert fake.batches == []


def test_threads_are_the_servers(backend: Any) -> None:
    with pytest.raises(backend.Refusal, match="config.pbtxt says how many threads there are, got 4. Leave"):
        backend.open_session(manifest_of(), Path(), threads=4)


@pytest.mark.parametrize("without", ["triton", "model"])
def test_manifest_that_lacks_something(backend: Any, without: str) -> None:
    manifest = {key: value for key, value in manifest_of().items() if key != without}
    message = rf"manifest\.json says too little of the server's model \(KeyError\('{without}'\)\)\. Unpack"
    with pytest.raises(backend.Refusal, match=message):
        backend.open_session(manifest, Path())


def test_manifest_with_a_type_that_is_not_spoken(backend: Any) -> None:
    with pytest.raises(backend.Refusal, match=r"KeyError\('float16'\)"):
        backend.open_session(manifest_of(dtype="float16"), Path())


def test_names_are_escaped_in_addresses(backend: Any, model_file: Path) -> None:
    manifest = manifest_of()
    manifest["triton"]["model"] = "a/../b c"
    assert backend._Wanted(manifest, Path()).path == "/v2/models/a%2F..%2Fb%20c/versions/1"
