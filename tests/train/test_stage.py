"""The stage on random convolutions at 32×32 and noisy pictures of three colours."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepress.dataset import open_data
from edgepress.errors import InputError
from edgepress.manifest import Manifest
from edgepress.models.keras_file import read_keras_file
from edgepress.models.training_record import MEMBER
from edgepress.preprocessing import PreprocessMode
from train import fit as fit_module
from train import vectors
from train.checkpoint import Checkpoint
from train.history import History
from train.plan import TrainRequest
from train.stage import train_model

RequestFor = Callable[..., TrainRequest]
Cli = Callable[..., "subprocess.CompletedProcess[str]"]
ROOT = Path(__file__).resolve().parents[2]


def history_of(request: TrainRequest) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(request.out.with_name("colours.history.json").read_text())
    return value


def test_train_model_learns_and_leaves_a_file_that_says_what_it_is(train_request: RequestFor) -> None:
    import keras

    request = train_request(epochs=12, batch=4)
    record = train_model(request)
    assert record.validation_accuracy == 1.0
    assert record.labels == ("blue", "green", "red")
    assert record.validation_pictures == 6
    assert len(record.trained_on) == 30
    assert sorted(os.listdir(request.out.parent)) == [
        "colours.curves.svg", "colours.history.json", "colours.keras"
    ]  # fmt: skip
    file = read_keras_file(request.out)
    assert file.record == record
    assert file.preprocess_mode(None) is PreprocessMode.TF
    epochs = history_of(request)["epochs"]
    assert record.best_epoch == 1 + int(np.argmin([epoch["validation_loss"] for epoch in epochs]))

    model = keras.saving.load_model(request.out)
    pictures = open_data(request.data).calibration
    answers = np.concatenate([model(x, training=False) for x in pictures.inputs(record.preprocessing)])
    validation = [i for i, p in enumerate(pictures.pictures) if p.sha256 not in record.trained_on]
    labels = pictures.labels()
    assert labels is not None
    assert np.array_equal(answers.argmax(1)[validation], labels[validation])
    # What the history says, computed again from the file: over all batches, not the last one.
    losses = -np.log(answers[validation, labels[validation]])
    assert epochs[record.best_epoch - 1]["validation_loss"] == pytest.approx(losses.mean(), rel=1e-3)
    hits = [epoch["accuracy"] * 30 for epoch in epochs]
    assert hits == pytest.approx([round(hit) for hit in hits], abs=1e-3)
    assert len({round(hit) for hit in hits}) > 1
    assert {layer.name for layer in model.layers} >= {"block1_conv1", "block5_conv3", "fc1", "predictions"}


def test_train_model_sends_each_picture_through_the_convolutions_once(
    train_request: RequestFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int]] = []
    inputs_of = vectors.inputs_of

    def counted(views: Any, *more: Any) -> Any:
        seen.extend((picture.sha256, number) for picture, number in views)
        return inputs_of(views, *more)

    monkeypatch.setattr(vectors, "inputs_of", counted)
    request = train_request(augment=2)
    train_model(request)
    assert len(seen) == len(set(seen)) == 30 * 3 + 6
    seen.clear()
    other_head = replace(request.head, hidden=8)
    train_model(replace(request, head=other_head, out=request.out.with_name("other.keras")))
    assert seen == []


def test_train_model_fine_tunes_only_the_last_blocks(train_request: RequestFor) -> None:
    import keras

    frozen = train_request(epochs=1)
    tuned = replace(frozen, out=frozen.out.with_name("tuned.keras"), trainable_blocks=1, augment=1)
    train_model(frozen)
    train_model(tuned)
    before, after = (keras.saving.load_model(request.out) for request in (frozen, tuned))
    for layer in before.layers:
        if layer.name.startswith("block") and layer.weights:
            same = np.array_equal(layer.get_weights()[0], after.get_layer(layer.name).get_weights()[0])
            assert same is not layer.name.startswith("block5"), layer.name
    assert all(layer.trainable for layer in after.layers if layer.weights)


def test_train_model_does_nothing_when_all_is_current(
    train_request: RequestFor, caplog: pytest.LogCaptureFixture
) -> None:
    request = train_request(epochs=1)
    first = train_model(request)
    stamp = request.out.stat().st_mtime_ns
    code = (
        "import sys\nfrom pathlib import Path\nfrom train.network import Head\n"
        "from train.plan import TrainRequest\nfrom train.stage import train_model\n"
        f"train_model(TrainRequest({request.data!r}, Path({str(request.out)!r}), Path('cache'), "
        "'vgg16-digits', 'random', Head(hidden=16, dropout=0.25), epochs=1, batch=8, learning_rate=0.01))\n"
        "assert not {'tensorflow', 'keras', 'matplotlib'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert request.out.stat().st_mtime_ns == stamp
    assert train_model(replace(request, seed=1)) != first


KILLED = """
import os, signal, sys
from pathlib import Path
from train import fit
from train.network import Head
from train.plan import TrainRequest
from train.stage import train_model
tell = fit._tell
def tell_and_die(number, *more):
    tell(number, *more)
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
fit._tell = tell_and_die
train_model(TrainRequest(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), "vgg16-digits", "random",
    Head(hidden=16, dropout=0.25), trainable_blocks=int(sys.argv[4]), epochs=4, batch=8, learning_rate=0.01))
"""


@pytest.mark.parametrize("trainable_blocks", [0, 1])
def test_training_killed_after_an_epoch_goes_on_with_the_same_outcome(
    train_request: RequestFor, caplog: pytest.LogCaptureFixture, trainable_blocks: int
) -> None:
    request = train_request(trainable_blocks=trainable_blocks)
    arguments = (request.data, str(request.out), str(request.cache), str(trainable_blocks))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert os.listdir(request.out.parent) == [".colours.unfinished.npz"]

    with caplog.at_level(logging.INFO, logger=fit_module.__name__):
        train_model(request)
    assert "goes on after epoch 2, where it was interrupted" in caplog.text
    resumed = history_of(request)
    assert len(resumed["epochs"]) == 4
    assert ".colours.unfinished.npz" not in os.listdir(request.out.parent)

    shutil.rmtree(request.out.parent)
    train_model(request)
    for one, other in zip(resumed["epochs"], history_of(request)["epochs"], strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("damage", ["other settings", "damaged"])
def test_training_begins_anew_when_what_was_kept_is_of_no_use(
    train_request: RequestFor, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    request = train_request(epochs=1)
    kept = request.out.with_name(".colours.unfinished.npz")
    kept.parent.mkdir()
    if damage == "damaged":
        kept.write_bytes(b"PK no archive")
        wanted = "is damaged"
    else:
        Checkpoint("another key", History(), (), ()).save(kept)
        wanted = "an unfinished training of other pictures or settings is dropped"
    with caplog.at_level(logging.INFO):
        train_model(request)
    assert wanted in caplog.text
    assert len(history_of(request)["epochs"]) == 1
    assert not kept.exists()


def test_export_of_a_trained_file_needs_no_flags_and_never_evaluates_what_trained(
    cli: Cli, train_request: RequestFor, tmp_path: Path
) -> None:
    request = train_request(epochs=8)
    record = train_model(request)
    out = tmp_path / "pressed"
    for arguments in (
        ("export", request.out, "--format", "onnx", "--out", out),
        ("optimize", out, "--data", request.data, "--samples", 20, "--recipe", "tensorrt_static_wi8_ai8"),
        ("benchmark", out, "--data", request.data, "--quick", "--variant", "tensorrt-static_wi8_ai8"),
    ):
        done = cli(*arguments)
        assert done.returncode == 0, done.stderr
    manifest = Manifest.load(out)
    assert manifest.model.labels == record.labels
    assert manifest.model.preprocessing == record.preprocessing
    assert manifest.model.trained_on == record.trained_on
    calibrated = manifest.get("tensorrt-static_wi8_ai8").provenance["calibration"]["pictures"]
    assert set(calibrated) <= set(record.trained_on)
    data = json.loads((out / "results.json").read_text())["data"]
    assert (data["evaluated"], data["left_out"]) == (6, 30)


def with_record(path: Path, text: str) -> None:
    """Put another record into a `.keras` file."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist() if name != MEMBER}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**members, MEMBER: text.encode()}.items():
            archive.writestr(name, content)


def test_export_refuses_a_record_that_is_damaged_or_of_another_model(
    cli: Cli, train_request: RequestFor, tmp_path: Path
) -> None:
    request = train_request(epochs=1)
    train_model(request)
    with zipfile.ZipFile(request.out) as archive:
        value = json.loads(archive.read(MEMBER))
    for text, message in (
        ("{", "is damaged"),
        (json.dumps({**value, "labels": 3}), "TrainingRecord.labels: wanted list"),
        (
            json.dumps({**value, "labels": ["one", "two"]}),
            "is of another model: it says 32×32",
        ),
    ):
        with_record(request.out, text)
        done = cli("export", request.out, "--out", tmp_path / "pressed")
        assert done.returncode == 2
        assert message in done.stderr.splitlines()[-1]


def folder_of(tmp_path: Path, **counts: int) -> Path:
    from PIL import Image

    folder = tmp_path / "pictures"
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (9 + i, 9), (i, len(name), ord(name[0]))).save(folder / name / f"{i}.png")
    return folder


def test_train_refuses_bad_data_in_one_line(cli: Cli, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    broken = folder_of(tmp_path / "broken", cat=3, dog=3)
    (broken / "cat" / "0.png").write_bytes(b"\x89PNG no picture")
    two = folder_of(tmp_path / "two", cat=3, dog=3)
    np.savez(tmp_path / "bare.npz", images=np.zeros((3, 8, 8, 3), np.uint8))
    cases = [
        ((folder_of(tmp_path / "a", cat=3),), None, "has one class (cat)"),
        ((folder_of(tmp_path / "b", cat=3, dog=1),), None, "class 'dog' has 1 different pictures"),
        ((folder_of(tmp_path / "c", cat=1),), None, "has one class (cat)"),
        ((tmp_path / "bare.npz",), None, "has no labels to learn"),
        ((two,), "cat\n", "has 1 class names, and"),
        ((two,), "cat\nbird\n", "names bird, and"),
        ((two,), "cat\ncat\n", "'cat' is there twice"),
        ((broken,), None, "cannot be decoded"),
        ((broken, "--trainable-blocks", "1"), None, "cannot be decoded"),
        ((two, "--validation", "1"), None, "--validation wants a share between 0 and 1"),
        ((two, "--dropout", "1.5"), None, "--dropout wants a share"),
        ((two, "--trainable-blocks", "6"), None, "vgg16-digits has 5 blocks"),
        ((two, "--weights", "nowhere.keras"), None, "No weights file at nowhere.keras"),
        ((two, "--weights", "imagenet"), None, "no imagenet weights for vgg16-digits"),
        ((two, "--learning-rate", "0"), None, "Wanted a number above 0"),
        ((tmp_path / "nowhere",), None, "No data at"),
    ]
    for arguments, names, message in cases:
        options: tuple[str | Path, ...] = ()
        if names is not None:
            labels.write_text(names)
            options = ("--labels", labels)
        out = tmp_path / "out" / "x.keras"
        weights = () if "--weights" in arguments else ("--weights", "random")
        done = cli("train", *arguments, *options, *weights, "--model", "vgg16-digits", "--out", out)
        assert done.returncode == 2, (message, done.stderr)
        assert "Traceback" not in done.stderr
        assert message in done.stderr.splitlines()[-1]
        assert not out.exists()
    done = cli("train", two, "--out", tmp_path / "x.h5")
    assert "--out wants a name that ends in .keras" in done.stderr


def test_labels_file_sets_the_order_of_the_outputs(train_request: RequestFor, tmp_path: Path) -> None:
    (tmp_path / "order.txt").write_text("red\nblue\ngreen\n")
    record = train_model(train_request(epochs=10, labels=tmp_path / "order.txt"))
    assert record.labels == ("red", "blue", "green")
    assert record.validation_accuracy > 0.9  # and the pictures' labels have followed


def test_convolutions_of_another_network_are_taken_layer_by_layer(
    train_request: RequestFor, tmp_path: Path
) -> None:
    import keras

    first = train_request(epochs=1)
    train_model(first)
    other = replace(first, weights=str(first.out), out=first.out.with_name("second.keras"), seed=3)
    train_model(other)
    one, two = (keras.saving.load_model(request.out) for request in (first, other))
    for layer in one.layers:
        if layer.name.startswith("block") and layer.weights:
            assert np.array_equal(layer.get_weights()[0], two.get_layer(layer.name).get_weights()[0])
    strange = tmp_path / "strange.keras"
    keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]).save(strange)
    with pytest.raises(InputError, match="has no layer 'block1_conv1', so it is no VGG16"):
        train_model(replace(other, weights=str(strange)))


@pytest.mark.slow
def test_train_on_real_photos_and_real_convolutions(
    cli: Cli, photos_folder: Path, reference_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    for source in sorted(p for p in photos_folder.iterdir() if p.is_dir()):
        (folder / source.name).mkdir(parents=True)
        for picture in sorted(source.iterdir())[:15]:
            shutil.copy(picture, folder / source.name)
    weights = reference_folder / "reference_vgg16.keras"
    out = tmp_path / "photos.keras"
    done = cli("train", folder, "--weights", weights, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["validation_accuracy"] > 3 / len(found["labels"])
