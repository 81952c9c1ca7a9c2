"""kill -9 at any moment: the manifest never says what is not so, and the next run completes the job."""

import multiprocessing
import os
import random
import shutil
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest

from edgepress.files import sha256_of_path
from edgepress.manifest import MANIFEST, Manifest
from optimize.calibration import CalibrationTable

pytestmark = pytest.mark.long

TRIES = 100
SEED = 20261123
IDS = {
    *("saved_model-fp32", "onnx-fp32", "tflite-fp32", "onnx-wf16_af16", "tensorrt-static_wi8_ai8"),
    *("tflite-wf16_af32", "tflite-static_wi8_ai8", "onnx-static_wi8_ai8"),
}


def run_job(job: str, overrides: tuple[str, ...], killed_after: int) -> None:
    """What a child process does: the command itself. The frameworks are imported already.

    Args:
        job: The job file.
        overrides: For --set.
        killed_after: The process kills itself right after so many files took their places; 0 for never.
    """
    from edgepress.cli.main import main

    replace, done = os.replace, 0

    def replace_and_die(source: str, target: str) -> None:
        nonlocal done
        replace(source, target)
        done += 1
        if done == killed_after:
            os.kill(os.getpid(), signal.SIGKILL)

    if killed_after:
        os.replace = replace_and_die  # type: ignore[assignment]
    handle = os.open(f"{job}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 2)
    os.dup2(handle, 1)
    sets = (word for override in overrides for word in ("--set", override))
    os._exit(main(["run", job, *sets, "--until", "optimize"]))


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job on a small classifier, of which there are two: one.keras and other.keras."""
    import keras

    folder = tmp_path
    for seed, name in enumerate(("one", "other")):
        keras.utils.set_random_seed(seed)
        layers = keras.layers
        stack = (layers.Conv2D(8, 3, activation="relu"), layers.GlobalAveragePooling2D(), layers.Dense(3))
        keras.Sequential([keras.Input((16, 16, 3)), *stack]).save(folder / f"{name}.keras")
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    np.savez(folder / "data.npz", images=images)
    path = folder / "job.toml"
    path.write_text(
        f'model = "{folder}/one.keras"\ndata = "{folder}/data.npz"\nout = "{folder}/out"\n'
        '[export]\npreprocess = "tf"\n[optimize]\ntarget = "linux-arm64"\n'  # no engines: quicker
    )
    return path


def start(job: Path, model: str, *overrides: str, killed_after: int = 0) -> BaseProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "ai_edge_litert", "tensorrt_rtx"]
    )
    sets = (f"model={job.parent / model}.keras", *overrides)
    process = context.Process(target=run_job, args=(str(job), sets, killed_after))
    process.start()
    return process


def check_manifest(folder: Path) -> int:
    """Everything that the manifest names is there, whole and as described; gives how much that is."""
    if not (folder / MANIFEST).exists():
        return 0
    manifest = Manifest.load(folder)
    for artifact in manifest.artifacts:
        path = manifest.path_of(artifact)
        assert path.exists(), artifact.id
        assert sha256_of_path(path) == artifact.sha256, artifact.id
    CalibrationTable.load(folder)
    return len(manifest.artifacts)


def test_kill_9_at_random_moments_never_leaves_a_wrong_manifest(job: Path) -> None:
    folder = job.parent / "out"
    start(job, "one").join()  # starts the server, and warms the machine's caches
    begin_s = time.monotonic()
    whole = start(job, "other")
    whole.join()
    duration_s = time.monotonic() - begin_s
    assert whole.exitcode == 0, Path(f"{job}.log").read_text()

    moments = random.Random(SEED)  # noqa: S311  # no secret
    found: list[int] = []
    while len(found) < TRIES:
        # The other model than the folder has: what is up to date is done at once.
        process = start(job, "one" if Manifest.load(folder).model.name == "other" else "other")
        process.join(moments.uniform(0, duration_s))
        if process.exitcode is not None:  # it was done before it could be struck
            assert process.exitcode == 0, Path(f"{job}.log").read_text()
            continue
        process.kill()
        process.join()
        found.append(check_manifest(folder))
    assert len(set(found)) > 2  # they struck at different moments

    last = start(job, "one")
    last.join()
    assert last.exitcode == 0, Path(f"{job}.log").read_text()
    check_manifest(folder)
    manifest = Manifest.load(folder)
    assert manifest.model.name == "one"
    assert {artifact.id for artifact in manifest.artifacts} >= IDS
    assert not list(folder.glob(".scratch-*"))


@pytest.mark.parametrize("change", ["model={folder}/other.keras", "optimize.samples=3"])
def test_kill_9_after_any_file_took_its_place_never_leaves_a_wrong_manifest(job: Path, change: str) -> None:
    """Every window between two writes, one after the other, while what was made before is being replaced."""
    folder, before = job.parent / "out", job.parent / "before"
    small = ("export.format=saved_model,onnx", "optimize.recipe=onnx_wf16_af16,tensorrt_static_wi8_ai8")
    start(job, "one", *small).join()
    assert check_manifest(folder) == 4
    folder.rename(before)
    exit_code, killed_after = -signal.SIGKILL, 0
    while exit_code != 0:
        killed_after += 1
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(before, folder)
        overrides = (*small, change.format(folder=job.parent))
        process = start(job, "one", *overrides, killed_after=killed_after)
        process.join()
        check_manifest(folder)
        exit_code = process.exitcode or 0
        assert exit_code in {0, -signal.SIGKILL}, Path(f"{job}.log").read_text()
    assert killed_after > 6
    assert check_manifest(folder) == 4
