"""Model repositories and the client against the real Triton Inference Server, as far as a package brings it.

`nvidia-pytriton` has the server itself, its HTTP side and its Python backend. ONNX Runtime's backend is a
fake in Python (tests/fakes/fake_triton_onnxruntime.py) with a real session; TensorRT's is not there.
"""

import importlib
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from deploy.triton import repository as triton_repository
from deploy.triton.config import (
    DynamicBatching,
    InstanceGroup,
    Serving,
    TritonModel,
    config_text,
    triton_model_of,
)
from deploy.triton.repository import CONFIG, REPOSITORY, manifest_entry, model_path, repository_files
from edgepress.artifact import TensorSpec
from tests.deploy.triton_variants import artifact, variants

PACKAGE = "nvidia-pytriton==0.7.0"
VERSION = "2.51.0"  # of the Triton in it
PATIENCE_S = 90
FAKE_BACKEND = Path(__file__).parents[1] / "fakes" / "fake_triton_onnxruntime.py"

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(
        (sys.platform, platform.machine()) != ("linux", "x86_64"),
        reason="the package with Triton is for Linux on x86-64",
    ),
]


@dataclass(frozen=True)
class Triton:
    """A server that can be started.

    Attributes:
        program: The server.
        backends: Its Python backend, and the fake of ONNX Runtime's.
        libraries: Folders of the libraries that they need.
    """

    program: Path
    backends: Path
    libraries: tuple[Path, ...]


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Triton:
    folder = tmp_path_factory.mktemp("triton")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    options = ["--retries", "1", "--only-binary", ":all:", "--dest", str(folder)]
    done = subprocess.run(
        [*command, *options, PACKAGE], capture_output=True, text=True, timeout=600, check=False
    )
    if "(from versions: none)" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(folder)
    wheel.unlink()
    inside, own = folder / "pytriton" / "tritonserver", Path(sysconfig.get_config_var("LIBDIR"))
    stub = inside / "python_backend_stubs" / f"3.{sys.version_info.minor}" / "triton_python_backend_stub"
    if not stub.is_file() or not (own / sysconfig.get_config_var("LDLIBRARY")).is_file():
        pytest.skip(f"Triton's Python backend cannot use this Python {platform.python_version()}")
    backends = inside / "backends"
    shutil.copy(stub, backends / "python")
    (backends / "onnxruntime").mkdir()
    shutil.copyfile(FAKE_BACKEND, backends / "onnxruntime" / "model.py")
    for program in (inside / "bin" / "tritonserver", backends / "python" / stub.name):
        program.chmod(0o755)
    return Triton(inside / "bin" / "tritonserver", backends, (own, folder / "nvidia_pytriton.libs"))


def answer_of(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(url, data, timeout=30) as answer:  # noqa: S310  # our own server
        return json.loads(answer.read() or "null")


def unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def is_up(url: str) -> bool:
    try:
        answer_of(f"{url}/v2/health/live")
    except OSError:
        return False
    return True


@contextmanager
def running(triton: Triton, repository: Path, *options: str) -> Iterator[str]:
    """The server's address, until the block ends."""
    port, log = unused_port(), repository.parent / "triton.log"
    command = [str(triton.program), f"--model-repository={repository}", f"--http-port={port}"]
    command += ["--http-address=127.0.0.1", "--allow-grpc=false", "--allow-metrics=false", *options]
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": os.pathsep.join(map(str, triton.libraries)),
        "EDGEPRESS_TEST_PATH": os.pathsep.join(path for path in sys.path if path),
    }
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE_S
    with (
        log.open("wb") as sink,
        subprocess.Popen(command, env=environment, stdout=sink, stderr=sink) as process,
    ):
        try:
            while not is_up(url):
                assert process.poll() is None, log.read_text(errors="replace")[-3000:]
                assert time.monotonic() < deadline, log.read_text(errors="replace")[-3000:]
                time.sleep(0.1)
            yield url
        finally:
            process.terminate()


def save_model(path: Path, *, batch: int | None = None, is_rgb: bool = False) -> None:
    """Logits of 4×4 pictures, as drawn, and the largest of each picture."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        helper.make_node("ReduceMax", ["logits"], ["largest"], axes=[1], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "drawn",
        [
            helper.make_tensor_value_info(
                "images", TensorProto.UINT8 if is_rgb else TensorProto.FLOAT, [batch, 4, 4, 3]
            )
        ],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 3]),
            helper.make_tensor_value_info("largest", TensorProto.FLOAT, [batch]),
        ],
        [
            numpy_helper.from_array(
                np.random.default_rng(0).normal(size=(48, 3)).astype(np.float32), "weights"
            )
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


LABELS = ("cat", "dog", "crème\tbrûlée")
BATCHED = Serving(8, (InstanceGroup(count=2),), DynamicBatching((4, 8), 100), threads=1, warm_up=(1, 8))


def model_of(name: str, *, batch: int | None = None, dtype: str = "float32") -> TritonModel:
    """As `save_model` makes it."""
    outputs = TensorSpec("logits", (batch, 3), "float32"), TensorSpec("largest", (batch,), "float32")
    one = artifact(inputs=(TensorSpec("images", (batch, 4, 4, 3), dtype),), outputs=outputs)
    serving = replace(BATCHED, dynamic_batching=None, warm_up=(1,)) if batch else BATCHED
    return triton_model_of(one, name, serving, "labels.txt")


@dataclass(frozen=True)
class Served:
    """A running server, and the files of its models by name."""

    url: str
    files: Mapping[str, Path]


@pytest.fixture(scope="module")
def served(triton: Triton, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("bundle")
    files = {name: folder / f"{name}.onnx" for name in ("free", "two", "rgb")}
    save_model(files["free"])
    save_model(files["two"], batch=2)
    save_model(files["rgb"], is_rgb=True)
    models = [model_of("free"), model_of("two", batch=2), model_of("rgb", dtype="uint8")]
    for model in models:
        for name, content in repository_files(files[model.name], model, LABELS).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    with running(triton, folder / REPOSITORY, f"--backend-directory={triton.backends}") as url:
        yield Served(url, files)


@pytest.fixture
def client(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """backend.py as it lies in a bundle, told of the server."""
    runtime = Path(triton_repository.__file__).parents[1] / "runtime"
    shutil.copyfile(runtime / "triton_backend.py", tmp_path / "backend.py")
    shutil.copyfile(runtime / "bundle.py", tmp_path / "bundle.py")
    monkeypatch.setenv("EDGEPRESS_TRITON_URL", served.url)
    before: dict[str, Any] = {
        name: sys.modules.pop(name) for name in ("backend", "bundle") if name in sys.modules
    }
    with mock.patch.object(sys, "path", [str(tmp_path), *sys.path]):
        module = importlib.import_module("backend")
    yield module
    for name in ("backend", "bundle"):
        sys.modules.pop(name, None)
    sys.modules.update(before)


def manifest_of(model: TritonModel, batch: int | None, dtype: str) -> Any:
    outputs = [("logits", [batch, 3]), ("largest", [batch])]
    return {
        "triton": dict(manifest_entry(model)),
        "model": {
            "file": model_path(model),
            "inputs": [{"name": "images", "shape": [batch, 4, 4, 3], "dtype": dtype}],
            "outputs": [{"name": name, "shape": shape, "dtype": "float32"} for name, shape in outputs],
        },
    }


@pytest.mark.parametrize(
    ("name", "batch", "dtype", "count"),
    [("free", None, "float32", 21), ("two", 2, "float32", 4), ("rgb", None, "uint8", 9)],
)
def test_the_client_gets_the_models_answers(
    served: Served, client: Any, name: str, batch: int | None, dtype: str, count: int
) -> None:
    import onnxruntime

    inputs = np.random.default_rng(1).integers(0, 256, (count, 4, 4, 3)).astype(dtype)
    session = client.open_session(manifest_of(model_of(name, batch=batch, dtype=dtype), batch, dtype), Path())
    assert (
        session.where == f"Triton {VERSION} at {served.url}, model {name} version 1 (onnxruntime_onnx), ready"
    )
    found = session.run(inputs)
    session.close()
    runtime = onnxruntime.InferenceSession(str(served.files[name]), providers=["CPUExecutionProvider"])
    step = batch or count
    wanted = [runtime.run(["logits"], {"images": inputs[i : i + step]})[0] for i in range(0, count, step)]
    np.testing.assert_allclose(found, np.concatenate(wanted), rtol=1e-5, atol=1e-3)


def test_the_server_refuses_what_the_client_refuses(served: Served, client: Any) -> None:
    manifest = manifest_of(model_of("free"), None, "float32")
    manifest["triton"]["model"] = "other"
    with pytest.raises(client.Refusal, match=r"\(404: Request for unknown model: 'other' is not found\)"):
        client.open_session(manifest, Path())
    manifest = manifest_of(model_of("rgb"), None, "float32")
    with pytest.raises(client.Refusal, match=r"wanted inputs images FP32 .*, got images UINT8"):
        client.open_session(manifest, Path())


def test_labels_are_found(served: Served) -> None:
    body = {
        "inputs": [{"name": "images", "shape": [1, 4, 4, 3], "datatype": "FP32", "data": [1.0] * 48}],
        "outputs": [{"name": "logits", "parameters": {"classification": 3}}],
    }
    (output,) = answer_of(f"{served.url}/v2/models/free/infer", body)["outputs"]
    assert {text.split(":", 2)[2] for text in output["data"]} == set(LABELS)


def test_the_server_read_what_was_written(served: Served) -> None:
    config = answer_of(f"{served.url}/v2/models/free/versions/1/config")
    batching = config["dynamic_batching"]
    assert (batching["preferred_batch_size"], batching["max_queue_delay_microseconds"]) == ([4, 8], 100)
    assert [(group["kind"], group["count"]) for group in config["instance_group"]] == [("KIND_CPU", 2)]
    assert config["output"][1]["reshape"] == {"shape": []}
    assert [sample["batch_size"] for sample in config["model_warmup"]] == [1, 8]
    assert answer_of(f"{served.url}/v2/models/two/versions/1/config")["max_batch_size"] == 0


def states_of(triton: Triton, folder: Path, texts: Mapping[str, str]) -> Mapping[str, str]:
    """What a server without any backend says of models, by name: it reads and checks each configuration."""
    for name, text in texts.items():
        (folder / REPOSITORY / name / "1").mkdir(parents=True)
        (folder / REPOSITORY / name / CONFIG).write_text(text)
        for file in ("model.onnx", "model.plan"):
            (folder / REPOSITORY / name / "1" / file).touch()
    (folder / "none").mkdir()
    options = f"--backend-directory={folder / 'none'}", "--exit-on-error=false"
    with running(triton, folder / REPOSITORY, *options) as url:
        index = answer_of(f"{url}/v2/repository/index", {})
    return {entry["name"]: entry.get("reason", "") for entry in index}


def test_every_variant_is_a_configuration_for_triton(triton: Triton, tmp_path: Path) -> None:
    models = {f"variant-{i}": model for i, model in enumerate(variants().values())}
    texts = {name: config_text(replace(model, name=name)) for name, model in models.items()}
    found = states_of(triton, tmp_path, texts)
    for name, model in models.items():
        assert f"unable to find backend library for backend '{model.backend.title}'" in found[name], texts[
            name
        ]


CHANGES: Mapping[str, Callable[[str], str]] = {
    "unknown-field": lambda text: text.replace("max_batch_size", "largest_batch_size"),
    "misspelt-enum": lambda text: text.replace("TYPE_FP32", "TYPE_FLOAT"),
    "other-name": lambda text: text.replace('name: "other-name"', 'name: "another"'),
    "batch-too-large": lambda text: text.replace("preferred_batch_size: [4, 16]", "preferred_batch_size: 17"),
}


def test_wrong_configurations_are_refused_by_triton(triton: Triton, tmp_path: Path) -> None:
    texts = {name: config_text(replace(variants()["batching"], name=name)) for name in (*CHANGES, "right")}
    changed = {name: CHANGES[name](text) if name in CHANGES else text for name, text in texts.items()}
    assert all(changed[name] != texts[name] for name in CHANGES)
    found = states_of(triton, tmp_path, changed)
    assert {name for name, reason in found.items() if reason} == {"right"}, (
        "the others have no version at all"
    )
    assert "unable to find backend library" in found["right"]
    log = (tmp_path / "triton.log").read_text()
    for reason in (
        'has no field named "largest_batch_size"',
        'Unknown enumeration value of "TYPE_FLOAT"',
        "dynamic batching preferred size must be <= max batch size for batch-too-large",
        "unexpected directory name 'other-name' for model 'another'",
    ):
        assert reason in log, log[-4000:]
