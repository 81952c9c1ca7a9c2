"""Bad input, as the user meets it: one clear line on stderr, exit code 2, and nothing half-written."""

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgepress.digests import DIGESTS

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
ROOT = Path(__file__).resolve().parents[1]


def refusal(done: "subprocess.CompletedProcess[str]") -> str:
    """The last line of stderr: all that comes before it are log lines, none of a traceback."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("edgepress: ")
    return last


def content_of(folder: Path) -> dict[str, bytes]:
    """What lies in a folder, but for what is only remembered about it."""
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != DIGESTS)
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models that cannot be pressed, each in a `.keras` file named after what is wrong with it."""
    import keras

    folder = tmp_path_factory.mktemp("models")
    layers = keras.layers

    def save(name: str, shape: tuple[int, ...], *stack: "keras.Layer") -> None:
        head = (layers.Flatten(), layers.Dense(2, activation="softmax"))
        keras.Sequential([keras.Input(shape), *stack, *head]).save(folder / f"{name}.keras")

    class Custom(keras.Layer):  # type: ignore[misc]  # Keras has no types
        def call(self, x: object) -> object:
            return x

    save("good", (8, 8, 3))
    save("rank", (8, 3))
    save("lambda", (8, 8, 3), layers.Lambda(lambda x: x * 2))
    save("custom", (8, 8, 3), Custom())
    whole = (folder / "good.keras").read_bytes()
    (folder / "truncated.keras").write_bytes(whole[: len(whole) // 2])
    (folder / "text.keras").write_text("no model")
    with zipfile.ZipFile(folder / "other.keras", "w") as archive:
        archive.writestr("readme.txt", "another zip")
    return folder


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("missing", (), "No model file at"),
        ("truncated", (), "is no .keras model or is truncated"),
        ("text", (), "is no .keras model or is truncated"),
        ("other", (), "is no .keras model: it lacks config.json"),
        ("lambda", (), "has a Lambda layer, which carries code"),
        ("custom", (), "needs the custom object 'Custom'"),
        ("rank", ("--preprocess", "tf"), "an input of shape (batch, height, width, 3)"),
        ("good", (), "Say it with --preprocess caffe|tf|torch|none."),
        ("good", ("--preprocess", "tf", "--labels", "nowhere.txt"), "nowhere.txt"),
        ("good", ("--preprocess", "tf", "--weights", "random"), "brings its own weights"),
    ],
)
def test_export_refuses_a_model_that_it_cannot_press(
    cli: Cli, models: Path, tmp_path: Path, name: str, options: tuple[str, ...], message: str
) -> None:
    out = tmp_path / "out"
    assert message in refusal(cli("export", models / f"{name}.keras", *options, "--out", out))
    assert not out.exists() or not content_of(out)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """DATA that cannot be read: empty/, broken/, keys.npz."""
    from PIL import Image

    for name in ("empty", "broken/cat"):
        (tmp_path / name).mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(tmp_path / "broken/cat/a.jpg")
    whole = (tmp_path / "broken/cat/a.jpg").read_bytes()
    (tmp_path / "broken/cat/a.jpg").write_bytes(whole[: len(whole) // 2])
    np.savez(tmp_path / "keys.npz", pictures=np.zeros((2, 32, 32, 3), np.uint8))
    return tmp_path


@pytest.mark.parametrize("command", ["optimize", "benchmark"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty", "No pictures in"),
        ("broken", "cannot be decoded"),
        ("keys.npz", "has no array `images`"),
        ("nowhere", "No data at"),
    ],
)
def test_stage_refuses_data_that_it_cannot_read(
    cli: Cli,
    digits_folder: Path,
    copy_of: Callable[[Path], Path],
    data: Path,
    command: str,
    name: str,
    message: str,
) -> None:
    folder = copy_of(digits_folder)
    before = content_of(folder)
    assert message in refusal(cli(command, folder, "--data", data / name))
    assert content_of(folder) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("optimize", "--recipe", "onnx_static_wi8_a8"), "Did you mean 'onnx_static_wi8_a"),
        (("benchmark", "--variant", "onnx-fp23"), "Did you mean 'onnx-fp32'"),
        (("benchmark", "--device", "cuda"), "no CUDA device"),
    ],
)
def test_stage_refuses_what_is_not_there(
    cli: Cli, digits_folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    from edgepress.machine import cuda_device_absence

    if "cuda" in arguments and cuda_device_absence() is None:
        pytest.skip("this machine has a CUDA device")
    command, *options = arguments
    assert message in refusal(cli(command, digits_folder, *options))


def test_manifest_that_is_no_json_is_refused(
    cli: Cli, digits_folder: Path, copy_of: Callable[[Path], Path]
) -> None:
    folder = copy_of(digits_folder)
    (folder / "manifest.json").write_text((folder / "manifest.json").read_text()[:100])
    assert "manifest.json cannot be read" in refusal(cli("optimize", folder))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a file system of so many KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(kib: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("mounting a small tmpfs needs root")
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], capture_output=True, check=False)


def run_without_disk_preflight(cache: Path, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """The command as it goes when the disk fills up after the preflight has found enough of it."""
    code = (
        "import sys, export.stage, optimize.stage\n"
        "export.stage.require_disk = optimize.stage.require_disk = lambda *arguments: None\n"
        "from edgepress.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {"PATH": "", "XDG_CACHE_HOME": str(cache), "HOME": str(cache)}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)


@pytest.mark.parametrize("form", ["saved_model", "onnx", "tflite"])
def test_export_on_a_disk_that_fills_up(
    digits_folder: Path, session_cache: Path, small_disk: Callable[[int], Path], form: str
) -> None:
    disk = small_disk(2000)
    out = disk / "out"
    done = run_without_disk_preflight(session_cache, "export", "vgg16-digits", "--format", form, "--out", out)
    assert "No space left while writing" in refusal(done)
    assert content_of(disk) == {}


def test_export_says_before_it_starts_that_the_disk_is_too_small(
    cli: Cli, digits_folder: Path, small_disk: Callable[[int], Path]
) -> None:
    disk = small_disk(2000)
    assert "GB of disk" in refusal(cli("export", "vgg16-digits", "--out", disk / "out"))
    assert content_of(disk) == {}


@pytest.mark.parametrize(
    "recipe", ["onnx_wf16_af16", "tensorrt_static_wi8_ai8", "tflite_wf16_af32", "engine_wf32_af32"]
)
def test_optimize_on_a_disk_that_fills_up(
    digits_folder: Path, session_cache: Path, small_disk: Callable[[int], Path], recipe: str
) -> None:
    used = sum(len(content) for content in content_of(digits_folder).values())
    folder = small_disk(used // 1024 + 600) / "digits"
    shutil.copytree(digits_folder, folder)
    before = content_of(folder)
    done = run_without_disk_preflight(session_cache, "optimize", folder, "--recipe", recipe)
    assert "No space left while writing" in refusal(done)
    after = content_of(folder)
    after.pop("calibration.json", None)  # whole, and of use to the next try
    assert after == before
    assert json.loads((folder / "manifest.json").read_text())["artifacts"]
