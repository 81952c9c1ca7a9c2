"""The model repository, file by file."""

import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.triton.config import InstanceGroup, InstanceKind, Serving, config_text, triton_model_of
from deploy.triton.repository import (
    IMAGE,
    manifest_entry,
    model_path,
    repository_files,
    serve_script,
    server_steps,
)
from edgepress.errors import InputError
from tests.deploy.triton_variants import artifact, plan, variants

GPU = Serving(instance_groups=(InstanceGroup(InstanceKind.GPU),))


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "onnx-fp32.onnx"
    path.write_bytes(b"onnx")
    return path


def test_files_lie_where_triton_looks(model_file: Path) -> None:
    model = variants()["labels"]
    files = repository_files(model_file, model, ("cat", "dog", "crème\tbrûlée"))
    assert dict(files) == {
        "model_repository/small/1/model.onnx": model_file,
        "model_repository/small/config.pbtxt": config_text(model).encode(),
        "model_repository/small/labels.txt": "cat\ndog\ncrème\tbrûlée\n".encode(),
        "serve.sh": serve_script(model).encode(),
    }
    assert list(files) == sorted(files)
    assert model_path(model) == "model_repository/small/1/model.onnx"
    assert manifest_entry(model) == {"model": "small", "version": 1, "sha256": artifact().sha256}


def test_without_labels_and_with_several_versions(model_file: Path) -> None:
    model = variants()["several versions"]
    files = repository_files(model_file, model)
    assert list(files) == [
        "model_repository/small/1/model.onnx",
        "model_repository/small/3/model.onnx",
        "model_repository/small/config.pbtxt",
        "serve.sh",
    ]
    assert model_path(model) == "model_repository/small/3/model.onnx"
    assert manifest_entry(model)["version"] == 3, "the newest"


def test_model_in_several_files_is_a_folder_of_that_name(tmp_path: Path) -> None:
    folder = tmp_path / "onnx-fp32"
    folder.mkdir()
    for name in ("model.onnx", "model.onnx.data"):
        (folder / name).write_bytes(name.encode())
    files = repository_files(folder, variants()["plain"])
    assert files["model_repository/small/1/model.onnx/model.onnx"] == folder / "model.onnx"
    assert files["model_repository/small/1/model.onnx/model.onnx.data"] == folder / "model.onnx.data"


def test_plan_has_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / "engine.plan"
    path.write_bytes(b"plan")
    assert repository_files(path, variants()["plan"])["model_repository/small-plan/1/model.plan"] == path


@pytest.mark.parametrize(
    ("labels", "label_file", "message"),
    [
        (
            ("a", "b"),
            "labels.txt",
            "small: wanted 3 labels, one for each score, got 2. Export the model with",
        ),
        (("a", "b\nc", "d"), "labels.txt", r"The label 'b\nc' has a line break. Export the model with other"),
        (
            None,
            "labels.txt",
            "wanted labels exactly where the model names a file of them, got none for labels",
        ),
        (("a", "b", "c"), None, "got 3 for no file. Give both, or none."),
    ],
)
def test_labels_that_do_not_fit(
    model_file: Path, labels: tuple[str, ...] | None, label_file: str | None, message: str
) -> None:
    model = triton_model_of(artifact(), "small", label_file=label_file)
    with pytest.raises(InputError) as caught:
        repository_files(model_file, model, labels)
    assert message in str(caught.value)


def test_artifact_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="small: wanted an ONNX file or a folder of one at .*x, got none. Export"
    ):
        repository_files(tmp_path / "x", variants()["plain"])
    with pytest.raises(
        InputError, match="small-plan: wanted a plan at .*, got none. Export or optimize again."
    ):
        repository_files(tmp_path, variants()["plan"])


@pytest.mark.parametrize(("image", "started"), [("", IMAGE), ("other/triton:1", "other/triton:1")])
def test_serve_script_starts_docker_in_the_bundle(tmp_path: Path, image: str, started: str) -> None:
    """With a docker that only says what it was asked for."""
    bundle, tools = tmp_path / "my bundle", tmp_path / "tools"
    bundle.mkdir()
    tools.mkdir()
    (bundle / "serve.sh").write_text(serve_script(variants()["plain"]))
    (tools / "docker").write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    (tools / "docker").chmod(0o755)
    environment = {"PATH": f"{tools}:/usr/bin:/bin", **({"TRITON_IMAGE": image} if image else {})}
    shell = shutil.which("sh")
    assert shell is not None
    done = subprocess.run(
        [shell, str(bundle / "serve.sh")],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        *("run", "--rm", "-p", "127.0.0.1:8000:8000", "-v", f"{bundle}/model_repository:/models:ro"),
        *(started, "tritonserver", "--model-repository=/models"),
    ]


def test_gpus_are_given_where_instances_run_on_them() -> None:
    assert "--gpus" not in serve_script(variants()["plain"])
    assert "docker run --rm --gpus all -p" in serve_script(triton_model_of(plan(), "small", GPU))


def test_what_the_person_is_told() -> None:
    model = variants()["plain"]
    (step,) = server_steps(model)
    assert step == "sh serve.sh                       # in another terminal: Triton with the model small"
    script = serve_script(model)
    for word in (IMAGE, "TRITON_IMAGE", "EDGEPRESS_TRITON_URL", "docker", "--model-repository=", "small"):
        assert word in script
