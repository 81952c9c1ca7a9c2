"""The LiteRT backend of a bundle: right numbers, honest words, one line where something is wrong."""

import ast
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

import deploy.runtime
from edgepress.manifest import Manifest
from edgepress.runners.litert_runner import on_cpu
from tests.deploy.linear_tflite import INPUT, OUTPUT, SIDE, Linear, save_linear

RUNTIME = Path(deploy.runtime.__file__).parent
MODULES = ("bundle", "litert_backend")


@pytest.fixture
def backend() -> Iterator[Any]:
    """The module beside bundle.py, as in a bundle."""
    for name in MODULES:
        sys.modules.pop(name, None)
    with mock.patch.object(sys, "path", [str(RUNTIME), *sys.path]):
        yield importlib.import_module("litert_backend")
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def linear(tmp_path: Path) -> Linear:
    """A file of float32. The test may change it."""
    return save_linear(tmp_path / "model.tflite")


def opened(backend: Any, linear: Linear, **names: str) -> Any:
    return backend.open_session(linear.manifest(**names), linear.path.parent)


def drawn(count: int, linear: Linear | None = None) -> Any:
    pixels = np.random.default_rng(1).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
    return pixels if linear is not None and linear.pixels else (pixels / 127.5 - 1).astype(np.float32)


@pytest.mark.parametrize("form", [{}, {"pixels": True}, {"batch": 2}, {"features": True}, {"behind": True}])
@pytest.mark.parametrize("count", [1, 5])
def test_scores_are_those_of_the_network(backend: Any, tmp_path: Path, form: Any, count: int) -> None:
    linear = save_linear(tmp_path / "model.tflite", **form)
    inputs = drawn(count, linear)
    scores = opened(backend, linear).run(inputs)
    assert (scores.dtype, scores.shape) == (np.float32, (count, 3))
    np.testing.assert_allclose(scores, linear.logits(inputs), rtol=1e-5, atol=1e-5)


def test_integers_are_quantized_and_dequantized(backend: Any, tmp_path: Path) -> None:
    linear = save_linear(tmp_path / "model.tflite", integers=True)
    beyond = np.full((1, SIDE, SIDE, 3), 2, np.float32)  # twice what the file can store: clipped
    inputs = np.concatenate([drawn(4), beyond, -beyond])
    scores = opened(backend, linear).run(inputs)
    stored = np.clip(np.rint(inputs / np.float32(INPUT.scale)), -128, 127)
    steps = scores / OUTPUT.scale + OUTPUT.zero_point
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)
    wanted = linear.logits(stored * INPUT.scale)
    lowest, highest = ((limit - OUTPUT.zero_point) * OUTPUT.scale for limit in (-128, 127))
    assert np.abs(scores - wanted.clip(lowest, highest)).max() < 0.51 * OUTPUT.scale + 1e-3


def test_a_file_without_a_signature_goes_by_its_tensors(backend: Any, tmp_path: Path) -> None:
    linear = save_linear(tmp_path / "model.tflite", signature=False)
    inputs = drawn(2)
    scores = opened(backend, linear, name="serving_images:0", output="scores").run(inputs)
    np.testing.assert_allclose(scores, linear.logits(inputs), atol=1e-5)


@pytest.mark.parametrize("artifact_id", ["tflite-fp32", "tflite-wf16_af32", "tflite-static_wi8_ai8"])
def test_digits_are_answered_as_by_the_runner(backend: Any, digits_optimized: Path, artifact_id: str) -> None:
    manifest = Manifest.load(digits_optimized)
    artifact = manifest.get(artifact_id)
    model = {
        "file": artifact.path,
        "inputs": [{"name": artifact.inputs[0].name}],
        "outputs": [{"name": artifact.outputs[0].name}],
    }
    pictures = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    inputs = manifest.model.preprocessing.normalize(pictures)
    session = backend.open_session({"model": model}, digits_optimized, 1)
    with on_cpu(manifest.path_of(artifact), 1) as runner:
        assert np.array_equal(session.run(inputs), runner.infer(inputs))
    assert session.where == "LiteRT on the CPU (XNNPACK delegate, 1 partitions)"
    session.close()
    with pytest.raises(backend.Refusal, match=r"^The session is closed\. Open another one\.$"):
        session.run(inputs)


def test_where_says_what_litert_tells(backend: Any, linear: Linear, monkeypatch: pytest.MonkeyPatch) -> None:
    from ai_edge_litert import interpreter as litert

    plain = partial(
        litert.Interpreter,
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    with monkeypatch.context() as changed:
        changed.setattr(litert, "Interpreter", plain)
        assert opened(backend, linear).where == "LiteRT on the CPU (its own kernels, no delegate)"
    monkeypatch.delattr(litert.Interpreter, "_get_ops_details")
    assert opened(backend, linear).where == "LiteRT on the CPU (with which kernels, it does not tell)"


def test_threads_are_those_that_were_asked_for(
    backend: Any, linear: Linear, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ai_edge_litert import interpreter as litert

    asked = []

    class Interpreter(litert.Interpreter):  # type: ignore[misc]
        def __init__(self, num_threads: int, **more: Any) -> None:
            asked.append(num_threads)
            super().__init__(num_threads=num_threads, **more)

    monkeypatch.setattr(litert, "Interpreter", Interpreter)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3, 5}, raising=False)
    backend.open_session(linear.manifest(), linear.path.parent)
    backend.open_session(linear.manifest(), linear.path.parent, 2)
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    backend.open_session(linear.manifest(), linear.path.parent, 0)
    assert asked == [3, 2, 4]


def test_versions_are_those_that_are_installed(backend: Any) -> None:
    from importlib.metadata import version

    found = backend.versions()
    assert found == {"ai-edge-litert": version("ai-edge-litert"), "numpy": np.__version__}


@pytest.mark.parametrize("package", ["ai_edge_litert", "numpy"])
def test_a_missing_package_is_no_fault_of_the_bundle(
    backend: Any, linear: Linear, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.setitem(sys.modules, name, None)
    for ask in (backend.versions, lambda: opened(backend, linear)):
        with pytest.raises(
            backend.CouldNotRun, match=rf"{package}.*\. Run: pip install -r requirements\.txt$"
        ):
            ask()


def test_a_package_without_a_version_is_told(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    def unknown(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", unknown)
    with pytest.raises(
        backend.CouldNotRun, match=r"^the version of ai-edge-litert is not known\. Run: pip install"
    ):
        backend.versions()


@pytest.mark.parametrize(
    "content",
    [None, b"", b"no model", b"\x10\0\0\0TFL3" + bytes(64)],
    ids=["gone", "empty", "text", "damaged"],
)
def test_a_file_that_litert_cannot_load_is_refused(
    backend: Any, linear: Linear, content: bytes | None
) -> None:
    linear.path.unlink()
    if content is not None:
        linear.path.write_bytes(content)
    with pytest.raises(
        backend.Refusal, match=r"(?s)^LiteRT cannot load model\.tflite: .+ Unpack the bundle aga"
    ):
        opened(backend, linear)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            {"name": "pictures"},
            "manifest.json names the input 'pictures', and model.tflite has images. Unpack",
        ),
        (
            {"output": "scores"},
            "manifest.json names the output 'scores', and model.tflite has features, logits. ",
        ),
    ],
)
def test_a_manifest_of_another_model_is_refused(
    backend: Any, tmp_path: Path, names: "dict[str, str]", message: str
) -> None:
    linear = save_linear(tmp_path / "model.tflite", features=True)
    with pytest.raises(backend.Refusal, match=f"^{message}"):
        opened(backend, linear, **names)


@pytest.mark.parametrize(
    ("inputs", "found"),
    [
        (np.zeros((2, 5, 4, 3), np.float32), r"float32 \(2, 5, 4, 3\)"),
        (np.zeros((4, 4, 3), np.float32), r"float32 \(4, 4, 3\)"),
        (np.zeros((0, 4, 4, 3), np.float32), r"float32 \(0, 4, 4, 3\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"uint8 \(1, 4, 4, 3\)"),
        (np.zeros((1, 4, 4, 3), np.float64), r"float64 \(1, 4, 4, 3\)"),
    ],
)
@pytest.mark.parametrize("integers", [False, True])
def test_inputs_that_do_not_fit_are_refused(
    backend: Any, tmp_path: Path, inputs: Any, found: str, integers: bool
) -> None:
    session = opened(backend, save_linear(tmp_path / "model.tflite", integers=integers))
    message = rf"^model\.tflite takes float32 \(N, 4, 4, 3\), got {found}\. Unpack the bundle again\.$"
    with pytest.raises(backend.Refusal, match=message):
        session.run(inputs)


def test_a_file_that_cannot_be_run_is_refused(
    backend: Any, linear: Linear, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ai_edge_litert import interpreter as litert

    def fail(interpreter: Any) -> None:
        raise RuntimeError("node 0 failed to invoke")

    session = opened(backend, linear)
    monkeypatch.setattr(litert.Interpreter, "invoke", fail)
    with pytest.raises(
        backend.Refusal, match=r"^LiteRT cannot run model\.tflite: node 0 failed to invoke\. Unpack"
    ):
        session.run(drawn(1))


def test_nothing_but_the_script_speaks_on_stderr(linear: Linear) -> None:
    code = (
        "import sys, os, pathlib, numpy\n"
        f"sys.path.insert(0, {str(RUNTIME)!r})\n"
        "import litert_backend\n"
        f"manifest, folder = {linear.manifest()!r}, pathlib.Path({str(linear.path.parent)!r})\n"
        "session = litert_backend.open_session(manifest, folder)\n"
        "session.run(numpy.zeros((1, 4, 4, 3), numpy.float32))\n"
        "assert 'XNNPACK' in session.where\n"
        "if sys.argv[1:]:\n"
        "    os.close(2)\n"
        "    litert_backend.open_session(manifest, folder)\n"
        "else:\n"
        "    print('infer: ours', file=sys.stderr)\n"
    )
    for arguments, said in (((), "infer: ours\n"), (("closed",), "")):
        done = subprocess.run(
            [sys.executable, "-I", "-B", "-c", code, *arguments], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, said)


def test_it_needs_python_3_10_and_nothing_of_edgepress() -> None:
    tree = ast.parse((RUNTIME / "litert_backend.py").read_text(encoding="utf-8"), feature_version=(3, 10))
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    found |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    foreign = {name.split(".")[0] for name in found} - set(sys.stdlib_module_names)
    assert foreign == {"bundle", "deploy", "numpy", "ai_edge_litert"}  # deploy only as a package
