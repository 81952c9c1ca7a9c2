"""A model repository for Triton Inference Server: which file lies where, and how the server is started.

Source of the layout: Triton's guide, "Model Repository".
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.triton.config import MODEL_SHA256, Backend, InstanceKind, TritonModel, config_text
from edgepress.errors import InputError

REPOSITORY = "model_repository"
LABELS = "labels.txt"
SERVE = "serve.sh"
CONFIG = "config.pbtxt"
IMAGE = "nvcr.io/nvidia/tritonserver:26.06-py3"
"""The image that serve.sh starts; TRITON_IMAGE names another one there."""


def repository_files(
    artifact: Path, model: TritonModel, labels: Sequence[str] | None = None
) -> Mapping[str, bytes | Path]:
    """Everything that Triton needs to serve one model, and `serve.sh`, which starts it.

    Args:
        artifact: The model file; or the folder of `model.onnx` and its data, which becomes a folder
            `model.onnx`, as Triton wants it.
        model: As Triton is told of it.
        labels: Names of the classes in their order; needed exactly where `model.label_file` is set.

    Returns:
        Path relative to the bundle, with forward slashes → its content, or the file to copy; sorted.

    Raises:
        InputError: There is no such artifact, or the labels do not fit the model.
        ProofError: What was written is not by Triton's schema.
    """
    folder = f"{REPOSITORY}/{model.name}"
    files: dict[str, bytes | Path] = {
        SERVE: serve_script(model).encode(),
        f"{folder}/{CONFIG}": config_text(model).encode(),
    }
    for version in model.serving.versions:
        files.update(_model_files(artifact, f"{folder}/{version}/{model.file}", model))
    if (labels is None) != (model.label_file is None):
        found = "none" if labels is None else len(labels)
        raise InputError(
            f"{model.name}: wanted labels exactly where the model names a file of them, got {found} for "
            f"{model.label_file or 'no file'}. Give both, or none."
        )
    if labels is not None and model.label_file is not None:
        files[f"{folder}/{model.label_file}"] = _labels_text(labels, model).encode()
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
# Serves the model {model.name} with Triton Inference Server at http://localhost:8000, for this machine alone.
# Needs docker. TRITON_IMAGE names another image of Triton's; a TensorRT plan needs one with the TensorRT
# that built it. Any other Triton does as well: give it --model-repository={REPOSITORY}, and set
# EDGEPRESS_TRITON_URL for verify.py and infer.py to its address. {CONFIG} says how many instances run
# where, and how requests are put together.
set -eu
cd "$(dirname "$0")"
IMAGE=${{TRITON_IMAGE:-{IMAGE}}}
exec {server_command(model)}
"""


def server_steps(model: TritonModel) -> tuple[str, ...]:
    """What a person does before `verify.py`, a line each, for README.md."""
    return (f"sh {SERVE}                       # in another terminal: Triton with the model {model.name}",)


def manifest_entry(model: TritonModel) -> Mapping[str, str | int]:
    """What the bundle's manifest says under "triton": by this, backend.py finds the model and knows it."""
    return {
        "model": model.name,
        "version": max(model.serving.versions),
        "sha256": model.parameters[MODEL_SHA256],
    }


def model_path(model: TritonModel) -> str:
    """Where the model file of the newest version lies in the bundle; a folder, where the artifact is one."""
    return f"{REPOSITORY}/{model.name}/{max(model.serving.versions)}/{model.file}"
