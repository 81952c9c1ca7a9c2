"""The stage on random convolutions at 32×32 and noisy pictures of three colours."""

import errno
import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepress.dataset import open_data
from edgepress.errors import InputError, MissingRuntimeError, ProofError
from edgepress.manifest import Manifest
from edgepress.models.keras_file import read_keras_file
from edgepress.models.training_record import MEMBER
from edgepress.models.vgg16 import VGG16_DIGITS, build_convolutions
from edgepress.models.weights import load_imagenet
from edgepress.preprocessing import PreprocessMode
from train import delivery, phases, stage, vectors
from train import fit as fit_module
from train.checkpoint import Checkpoint
from train.fit import evaluated
from train.history import History
from train.network import Head, build_networks
from train.plan import TrainRequest, plan_of
from train.pooling import Pooling
from train.stage import train_model

RequestFor = Callable[..., TrainRequest]
Cli = Callable[..., "subprocess.CompletedProcess[str]"]
ROOT = Path(__file__).resolve().parents[2]


def history_of(request: TrainRequest) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(request.out.with_suffix(".history.json").read_text())
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


def test_fine_tuning_goes_on_from_the_best_head_with_the_last_blocks_alone(train_request: RequestFor) -> None:
    import keras

    frozen = train_request(epochs=2, augment=1)
    tuned = replace(frozen, out=frozen.out.with_name("tuned.keras"), trainable_blocks=1)
    train_model(frozen)
    record = train_model(tuned)
    head, both = history_of(frozen)["epochs"], history_of(tuned)["epochs"]
    assert [epoch["phase"] for epoch in both] == ["head", "head", "fine-tuning", "fine-tuning"]
    assert both[:2] == head  # what fine-tuning starts from is what it would be without
    assert record.best_epoch == 1 + int(np.argmin([epoch["validation_loss"] for epoch in both])) > 2
    assert record.settings["fine_tuning_rate"] == pytest.approx(record.settings["learning_rate"] / 10)
    curves = [request.out.with_suffix(".curves.svg").read_text() for request in (frozen, tuned)]
    assert ["<!-- fine-tuning -->" in svg for svg in curves] == [False, True]

    before, after = (keras.saving.load_model(request.out) for request in (frozen, tuned))
    for layer in before.layers:
        if layer.name.startswith("block") and layer.weights:
            pairs = zip(layer.get_weights(), after.get_layer(layer.name).get_weights(), strict=True)
            for one, other in pairs:
                assert np.array_equal(one, other) is not layer.name.startswith("block5"), layer.name
    require_nothing_of_the_training(tuned.out)


def require_nothing_of_the_training(path: Path) -> None:
    """No optimizer, which would be that of the last epoch and not of the best, and nothing frozen."""
    import h5py
    import keras

    with zipfile.ZipFile(path) as archive:
        assert not json.loads(archive.read("config.json"))["compile_config"]
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights:
            assert "optimizer" not in weights
    for compiled in (True, False):
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # e.g. that variables of an optimizer are skipped
            model = keras.saving.load_model(path, compile=compiled)
        assert getattr(model, "optimizer", None) is None
        assert all(layer.trainable for layer in model.layers)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if "unfinished" not in path.name}


def spoil_weights(classifier: Any, path: Path) -> None:
    bias = classifier.get_layer("predictions").bias
    kept = bias.numpy()
    bias.assign(kept + 1e-4)
    save(classifier, path)
    bias.assign(kept)


def spoil_loading(*_: Any) -> None:
    raise MissingRuntimeError("matplotlib", "report")


def spoil_writing(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


save = delivery._save


def test_train_model_that_fails_at_the_end_changes_nothing(
    train_request: RequestFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train_request(epochs=1)
    train_model(first)
    before = contents(first.out.parent)
    failures: tuple[tuple[str, Callable[..., Any], type[Exception], str], ...] = (
        ("curves_svg", spoil_loading, MissingRuntimeError, "matplotlib"),
        ("write_json", spoil_writing, InputError, "No space left"),
        ("_save", spoil_weights, ProofError, "the saved network is not the trained one; its answers differ"),
        (
            "evaluated",
            lambda *all_: (evaluated(*all_)[0], 0.0),
            ProofError,
            "not give what its best epoch gave",
        ),
        (
            "evaluated",
            lambda *all_: (0.9 * evaluated(*all_)[0], evaluated(*all_)[1]),
            ProofError,
            "for .* for",
        ),
    )
    for blocks, name, spoiled, kind, message in (*((0, *row) for row in failures), (1, *failures[-1])):
        with monkeypatch.context() as patch:
            patch.setattr(delivery, name, spoiled)
            with pytest.raises(kind, match=message):
                train_model(replace(first, seed=1, trainable_blocks=blocks))
        assert contents(first.out.parent) == before
    train_model(replace(first, seed=1))
    after = contents(first.out.parent)
    assert after.keys() == before.keys()
    assert all(after[name] != before[name] for name in before)


def test_feature_file_depends_on_whatever_decides_a_feature(
    train_request: RequestFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    plan = plan_of(train_request())
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, kernel_initializer="ones")])
    found = [phases.feature_file(plan, network)]
    assert phases.feature_file(plan_of(train_request(seed=3)), network) == found[0]
    found.append(phases.feature_file(plan_of(train_request(head=Head(Pooling.MAX))), network))
    for change in ({"mode": PreprocessMode.TORCH}, {"height": 48}, {"crop_ratio": 1.0}):
        other = replace(plan, preprocessing=replace(plan.preprocessing, **change))
        found.append(phases.feature_file(other, network))
    changes = (("VIEWS_VERSION", 99), ("DECODING_VERSION", 99), ("versions_of", lambda *_: ["2.99", "12.0"]))
    for name, value in changes:
        with monkeypatch.context() as patch:
            patch.setattr(phases, name, value)
            found.append(phases.feature_file(plan, network))
    network.set_weights([weight + 1 for weight in network.get_weights()])
    found.append(phases.feature_file(plan, network))
    assert len(set(found)) == len(found)


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


STOPPED = """
import os, sys
from train import fit
from edgepress.cli.main import main
number_of_signal, last_epoch, *arguments = sys.argv[1:]
tell = fit._tell
def tell_and_stop(number, *more):
    tell(number, *more)
    if number == int(last_epoch):
        os.kill(os.getpid(), int(number_of_signal))
fit._tell = tell_and_stop
sys.exit(main(["train", *arguments]))
"""


def stopped_after(epoch: int, by: signal.Signals, request: TrainRequest) -> int:
    """Run `edgepress train` until an epoch; gives the exit code."""
    options = {
        "out": request.out, "model": request.model, "weights": request.weights, "hidden": request.head.hidden,
        "dropout": request.head.dropout, "epochs": request.epochs, "batch": request.batch,
        "learning-rate": request.learning_rate, "trainable-blocks": request.trainable_blocks,
    }  # fmt: skip
    arguments = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(request.cache.parent)}
    done = subprocess.run(
        [sys.executable, "-c", STOPPED, str(int(by)), str(epoch), request.data, *arguments],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr
    return done.returncode


def test_training_stopped_in_either_phase_goes_on_with_the_same_outcome(
    train_request: RequestFor, caplog: pytest.LogCaptureFixture
) -> None:
    """Two epochs of the head and two of fine-tuning: killed within the one, interrupted within the other."""
    request = train_request(trainable_blocks=1, epochs=2)
    request = replace(request, cache=request.cache / "edgepress")
    for epoch, by, code in ((1, signal.SIGKILL, -signal.SIGKILL), (3, signal.SIGINT, 130)):
        assert stopped_after(epoch, by, request) == code
        assert os.listdir(request.out.parent) == [".colours.unfinished.npz"]

    with caplog.at_level(logging.INFO, logger=fit_module.__name__):
        train_model(request)
    assert "goes on after epoch 3, where it was interrupted" in caplog.text
    resumed = history_of(request)["epochs"]
    assert [epoch["phase"] for epoch in resumed] == ["head", "head", "fine-tuning", "fine-tuning"]
    assert ".colours.unfinished.npz" not in os.listdir(request.out.parent)

    shutil.rmtree(request.out.parent)
    train_model(request)
    for one, other in zip(resumed, history_of(request)["epochs"], strict=True):
        assert one.pop("phase") == other.pop("phase")
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


def bad_requests(tmp_path: Path) -> Iterator[tuple[dict[str, Any], str | None, str]]:
    """What is wrong, the lines of a labels file, and what the message says."""
    from PIL import Image

    two = folder_of(tmp_path / "two", cat=3, dog=3)
    yield {"data": folder_of(tmp_path / "a", cat=3)}, None, "has one class (cat)"
    yield {"data": folder_of(tmp_path / "b", cat=3, dog=1)}, None, "class 'dog' has 1 different pictures"
    yield {"data": folder_of(tmp_path / "c", cat=1)}, None, "has one class (cat)"
    yield {"data": folder_of(tmp_path / "d", cat=3, dog=3, bird=0)}, None, "class folder bird has no picture"
    np.savez(tmp_path / "bare.npz", images=np.zeros((3, 8, 8, 3), np.uint8))
    yield {"data": tmp_path / "bare.npz"}, None, "has no labels to learn"
    yield {"data": tmp_path / "nowhere"}, None, "No data at"
    yield {"data": two}, "cat\n", "has 1 class names, and"
    yield {"data": two}, "cat\nbird\n", "names bird, and"
    yield {"data": two}, "cat\ncat\n", "'cat' is there twice"
    yield {"data": two}, "cat\n\ndog\n", "a line is empty"
    yield {"data": two, "validation": 1.0}, None, "--validation wants a share between 0 and 1"
    yield {"data": two, "head": Head(dropout=1.5)}, None, "--dropout wants a share"
    yield {"data": two, "trainable_blocks": 6}, None, "vgg16-digits has 5 blocks"
    yield {"data": two, "epochs": 0}, None, "--epochs wants at least 1"
    yield {"data": two, "learning_rate": 0.0}, None, "--learning-rate wants a number above 0"
    yield {"data": two, "weights": "nowhere.keras"}, None, "No weights file at nowhere.keras"
    yield {"data": two, "weights": str(two / "cat" / "0.png")}, None, "convolutions are read from a .keras"
    yield {"data": two, "weights": "imagenet"}, None, "no imagenet weights for vgg16-digits"
    yield {"data": two, "out": tmp_path / "x.h5"}, None, "--out wants a name that ends in .keras"
    (tmp_path / "folder.keras").mkdir()
    yield {"data": two, "out": tmp_path / "folder.keras"}, None, "folder.keras is a folder"
    yield {"data": two, "out": two / "cat" / "0.png" / "x.keras"}, None, "Cannot write"
    for name, spoil in (
        ("damaged", lambda path: path.write_bytes(b"\x89PNG no picture")),
        ("truncated", lambda path: path.write_bytes(path.read_bytes()[:-30])),
        ("text", lambda path: path.write_text("a text file")),
        ("empty", lambda path: path.write_bytes(b"")),
        ("float", lambda path: Image.new("F", (9, 9)).save(path, format="tiff")),
    ):
        folder = folder_of(tmp_path / name, cat=3, dog=3)
        spoil(folder / "dog" / "1.png")
        for blocks in (0, 1):
            yield {"data": folder, "trainable_blocks": blocks}, None, "1.png cannot be decoded"


def test_train_refuses_bad_requests_in_one_line(
    train_request: RequestFor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def checked(*all_: Any) -> Any:
        assert "cannot be decoded" not in message, "every picture is read before anything long begins"
        return build_networks(*all_)

    monkeypatch.setattr(stage, "build_networks", checked)
    for changes, names, message in bad_requests(tmp_path):
        if names is not None:
            (tmp_path / "labels.txt").write_text(names)
            changes["labels"] = tmp_path / "labels.txt"
        request = train_request(**{**changes, "data": str(changes["data"])})
        with pytest.raises(InputError) as caught:
            train_model(request)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not request.out.is_file()
        assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--learning-rate", "1e30", "--trainable-blocks", "1"), "is not finite"),
        (("--validation", "1"), "--validation wants a share between 0 and 1"),
    ],
)
def test_train_says_what_is_wrong_in_one_line_and_leaves_nothing(
    cli: Cli, colours: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    out = tmp_path / "out" / "x.keras"
    given = ("--model", "vgg16-digits", "--weights", "random", "--out", out)
    done = cli("train", colours, *given, *options, "--quiet")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr
    assert not list(out.parent.glob("*"))


def test_train_model_takes_pictures_of_any_size_and_mode(train_request: RequestFor, tmp_path: Path) -> None:
    from PIL import Image

    random = np.random.default_rng(0)
    for name in ("dark", "bright"):
        (tmp_path / "modes" / name).mkdir(parents=True)
        for i, mode in enumerate(("L", "LA", "1", "RGBA", "P", "CMYK", "YCbCr", "I;16")):
            pixels = random.integers(0, 256, (8 + i, 90 - 9 * i, 3), np.uint8)
            image = Image.fromarray(pixels)
            if mode == "I;16":
                image = Image.fromarray(pixels[..., 0].astype(np.uint16) << 8)
            else:
                image = image.convert(mode)
            suffix = "jpg" if mode in {"CMYK", "YCbCr"} else "png"
            image.save(tmp_path / "modes" / name / f"{i}.{suffix}")
    record = train_model(
        train_request(data=str(tmp_path / "modes"), epochs=1, batch=999)
    )  # more than there are
    assert record.validation_pictures + len(record.trained_on) == 16


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


def test_convolutions_keep_the_preprocessing_that_their_file_records(
    train_request: RequestFor, tiny_layers: Callable[[], list[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    import keras

    first = train_request(epochs=1)
    train_model(first)
    other = replace(first, weights=str(first.out), out=first.out.with_name("second.keras"))
    usual = plan_of(other)
    with zipfile.ZipFile(first.out) as archive:
        value = json.loads(archive.read(MEMBER))
    value["preprocessing"] |= {"mode": "torch", "crop_ratio": 1.0, "height": 64}
    with_record(first.out, json.dumps(value))
    found = plan_of(other).preprocessing
    assert found == replace(usual.preprocessing, mode=PreprocessMode.TORCH, crop_ratio=1.0)
    assert plan_of(other).key != usual.key

    layers = [keras.Input((32, 32, 3)), keras.layers.Rescaling(1 / 255), *tiny_layers()[1:]]
    keras.Sequential(layers).save(first.out)
    assert plan_of(other).preprocessing == usual.preprocessing
    assert "has a Rescaling or Normalization layer, and only its convolutions are taken" in caplog.text


def test_imagenet_names_one_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the word itself identifies the weights: Keras takes no other file from its cache."""
    from keras.src.applications import vgg16 as keras_vgg16
    from keras.src.utils import file_utils

    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5").write_bytes(
        b"another content"
    )
    monkeypatch.setattr(file_utils.config, "keras_home", lambda: str(tmp_path))
    monkeypatch.setattr(keras_vgg16, "WEIGHTS_PATH_NO_TOP", (tmp_path / "nowhere").as_uri())
    with pytest.raises(InputError, match="could not be downloaded"):
        load_imagenet(build_convolutions(VGG16_DIGITS), include_top=False)


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
