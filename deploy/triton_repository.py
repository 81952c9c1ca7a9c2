"""A model repository for Triton Inference Server: which file lies where, and how the server is started.

Source of the layout: Triton's guide, "Model Repository".
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.triton_config import Backend, InstanceKind, TritonModel, config_text
from edgepress.errors import InputError

REPOSITORY = "model_repository"
LABELS = "labels.txt"
SERVE = "serve.sh"
CONFIG = "config.pbtxt"
IMAGE = "nvcr.io/nvidia/tritonserver:26.06-py3"
"""The image that serve.sh starts; TRITON_IMAGE names another one there."""


def repository_files(
    artifact: Path, model: TritonModel, labels: Sequence[str] | None = None
) -> Mapping[str, str | Path]:
    """Everything that Triton needs to serve one model, and `serve.sh`, which starts it.

    Args:
        artifact: The model file; or the folder of `model.onnx` and its data, which becomes a folder
            `model.onnx`, as Triton wants it.
        model: As Triton is told of it.
        labels: Names of the classes in their order; needed exactly where `model.label_file` is set.

    Returns:
        Path relative to the bundle, with forward slashes → the text of the file, or the file to copy; sorted.

    Raises:
        InputError: There is no such artifact, or the labels do not fit the model.
        ProofError: What was written is not by Triton's schema.
    """
    folder = f"{REPOSITORY}/{model.name}"
    files: dict[str, str | Path] = {SERVE: serve_script(model), f"{folder}/{CONFIG}": config_text(model)}
    for version in model.serving.versions:
        files.update(_model_files(artifact, f"{folder}/{version}/{model.file}", model))
    if (labels is None) != (model.label_file is None):
        found = "none" if labels is None else len(labels)
        raise InputError(
            f"{model.name}: wanted labels exactly where the model names a file of them, got {found} for "
            f"{model.label_file or 'no file'}. Give both, or none."
        )
    if labels is not None and model.label_file is not None:
        files[f"{folder}/{model.label_file}"] = _labels_text(labels, model)
    return dict(sorted(files.items()))


def _model_files(artifact: Path, place: str, model: TritonModel) -> Mapping[str, Path]:
    if artifact.is_file():
        return {place: artifact}
    if not artifact.is_dir() or model.backend is not Backend.ONNXRUNTIME:
        wanted = "a plan" if model.backend is Backend.TENSORRT else "an ONNX file or a folder of one"
        raise InputError(f"{model.name}: wanted {wanted} at {artifact}, got none. Export or optimize again.")
    return {f"{place}/{path.name}": path for path in sorted(artifact.iterdir())}


def _labels_text(labels: Sequence[str], model: TritonModel) -> str:
    """A class a line: Triton reads up to each line feed, and tells classes by the number of the line."""
    for label in labels:
        if "\n" in label:
            raise InputError(f"The label {label!r} has a line break. Export the model with other --labels.")
    classes = model.outputs[0].dims[-1]
    if len(labels) != classes:
        raise InputError(
            f"{model.name}: wanted {classes} labels, one for each score, got {len(labels)}. Export the model "
            "with other --labels."
        )
    return "".join(f"{label}\n" for label in labels)


def server_command(model: TritonModel) -> str:
    """What starts a server with this model, on one line, in the bundle's folder; `$IMAGE` is the image."""
    needs_gpu = any(group.kind is not InstanceKind.CPU for group in model.serving.instance_groups)
    gpus = "--gpus all " if needs_gpu else ""
    return (
        f'docker run --rm {gpus}-p 127.0.0.1:8000:8000 -v "$PWD/{REPOSITORY}:/models:ro" "$IMAGE" '
        "tritonserver --model-repository=/models"
    )


def serve_script(model: TritonModel) -> str:
    """A shell script that starts the server, reachable from this machine alone."""
    return f"""#!/bin/sh
# Serves the model {model.name} with Triton Inference Server, at http://localhost:8000 of this machine.
# TRITON_IMAGE names another image of Triton's. A TensorRT plan needs the one with the TensorRT that built it.
set -eu
cd "$(dirname "$0")"
IMAGE=${{TRITON_IMAGE:-{IMAGE}}}
exec {server_command(model)}
"""


def readme_lines(model: TritonModel) -> str:
    """What README.md says of the server."""
    return f"""    sh serve.sh                       # Triton with the model {model.name}; needs docker
    python verify.py                  # asks the server at http://localhost:8000

`{REPOSITORY}/` is what Triton wants, any other way of starting it included:

    tritonserver --model-repository={REPOSITORY}

EDGEPRESS_TRITON_URL names a server elsewhere. `TRITON_IMAGE=… sh serve.sh` takes another image than
{IMAGE}. `config.pbtxt` says how many instances run where, and
how requests are put together.
"""


def write_repository(folder: Path, files: Mapping[str, str | Path]) -> None:
    """Write what `repository_files` gives into a folder that is there.

    Texts are written as UTF-8 with line feeds, files are copied.
    """
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copyfile(content, path)
        else:
            path.write_text(content, encoding="utf-8", newline="\n")
