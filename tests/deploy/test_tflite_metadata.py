"""TFLite Metadata: what they say, that readers find it, and that the model in the file stays what it was."""

import json
import shutil
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deploy.mobile import attachment as tflite_attachment
from deploy.mobile import metadata as tflite_metadata
from deploy.mobile.attachment import attached_content, attached_files, mapped_model, place_of
from deploy.mobile.metadata import ENTRY, labels_of, metadata_of, obstacle_to_readers, with_metadata
from deploy.mobile.metadata_format import (
    ColorSpace,
    FileKind,
    Normalization,
    TensorDescription,
    TfliteMetadata,
    ValueRange,
    decoded,
    encoded,
)
from edgepress.artifact import Format
from edgepress.errors import InputError, ProofError
from edgepress.files import sha256_of_file
from edgepress.interface import Activation, Scores
from edgepress.manifest import Manifest
from edgepress.preprocessing import Preprocessing, PreprocessMode
from edgepress.runners.litert_runner import on_cpu
from tests.deploy.linear_tflite import LABELS, SIDE, Linear, card_of, save_linear

FORMS: "tuple[dict[str, Any], ...]" = (
    {},
    {"pixels": True},
    {"integers": True},
    {"features": True},
    {"batch": 2},
    {"behind": True},
    {"behind": True, "integers": True},
)


@pytest.fixture
def linear(tmp_path: Path) -> Linear:
    """A file of float32. The test may change it."""
    return save_linear(tmp_path / "linear.tflite")


def described(linear: Linear, **card: Any) -> TfliteMetadata:
    out = linear.path.with_name("described.tflite")
    written = with_metadata(linear.path, out, card_of(**card), linear.artifact())
    assert metadata_of(out) == written
    return written


def logits_by_litert(path: Path, inputs: NDArray[Any]) -> NDArray[np.float32]:
    with on_cpu(path, 1) as runner:
        return runner.infer(inputs)


def drawn(linear: Linear) -> NDArray[Any]:
    pixels = np.random.default_rng(1).integers(0, 256, (4, SIDE, SIDE, 3), np.uint8)
    return pixels if linear.pixels else Preprocessing(PreprocessMode.TF, SIDE, SIDE).normalize(pixels)


def test_metadata_say_what_the_model_is(linear: Linear) -> None:
    found = with_metadata(
        linear.path, linear.path.with_name("out.tflite"), card_of(), linear.artifact(), licence="MIT"
    )
    assert (found.name, found.author, found.licence, found.parser_version) == (
        "linear",
        "edgepress",
        "MIT",
        "1.0.0",
    )
    assert found.version == f"tflite-fp32@{sha256_of_file(linear.path)[:12]}"
    assert found.description == (
        "Image classifier with 3 classes, in the order of labels.txt. Variant tflite-fp32, FP32; "
        "weights: drawn."
    )
    (images,), (logits,) = found.inputs, found.outputs
    assert (images.name, images.color_space) == ("images", ColorSpace.RGB)
    assert images.normalization == Normalization((127.5,) * 3, (127.5,) * 3)
    assert images.description.startswith("Picture of 4 x 4 pixels, RGB: (value - mean) / deviation with mean")
    assert "0.875 of their shorter side" in images.description
    assert logits.name == "logits"
    assert logits.description == "Logit of each of the 3 classes; softmax makes probabilities of them."
    assert logits.values is None
    assert [(file.name, file.kind) for file in logits.files] == [("labels.txt", FileKind.TENSOR_AXIS_LABELS)]
    assert described(linear).licence is None


@pytest.mark.parametrize("mode", [PreprocessMode.TF, PreprocessMode.TORCH, PreprocessMode.NONE])
def test_normalization_is_the_preprocessing(linear: Linear, mode: PreprocessMode) -> None:
    found = described(linear, mode=mode).inputs[0].normalization
    assert found is not None
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    wanted = Preprocessing(mode, SIDE, SIDE).normalize(pixels)
    by_reader = (pixels - np.array(found.mean, np.float32)) / np.array(found.deviation, np.float32)
    np.testing.assert_allclose(by_reader, wanted, rtol=1e-5, atol=1e-6)
    assert obstacle_to_readers(card_of(mode), linear.artifact()) is None


def test_bgr_is_told_in_words_and_no_reader_can_take_it_for_rgb(linear: Linear) -> None:
    images = described(linear, mode=PreprocessMode.CAFFE).inputs[0]
    assert (images.color_space, images.normalization) == (ColorSpace.UNKNOWN, None)
    assert (
        "BGR: (value - mean) / deviation with mean 123.68, 116.779, 103.939 and deviation 1, 1, 1 of R, G "
        "and B, then the order of the channels is reversed. TFLite Metadata cannot say BGR"
        in images.description
    )
    assert obstacle_to_readers(card_of(PreprocessMode.CAFFE), linear.artifact()) == (
        "tflite-fp32 takes BGR, and readers of TFLite Metadata know RGB alone. Export with --pixels rgb: "
        "then the preprocessing is inside."
    )


def test_pixels_need_nothing_but_pixels(tmp_path: Path) -> None:
    linear = save_linear(tmp_path / "linear.tflite", pixels=True)
    images = described(linear, mode=PreprocessMode.CAFFE).inputs[0]
    assert (images.color_space, images.normalization) == (ColorSpace.RGB, None)
    assert images.description.startswith("Picture of 4 x 4 pixels, RGB, 0 to 255 as decoded: the normaliz")
    assert obstacle_to_readers(card_of(PreprocessMode.CAFFE), linear.artifact()) is None


@pytest.mark.parametrize(
    ("form", "obstacle"),
    [
        (
            {"integers": True},
            "tflite-fp32 takes int8, and .* Bundle a --variant with float32 input and output.",
        ),
        ({"batch": 2}, "tflite-fp32 takes 2 pictures at a time, and .* feed one. Export with --batch 1."),
    ],
)
def test_what_readers_cannot_feed_is_told(tmp_path: Path, form: Any, obstacle: str) -> None:
    linear = save_linear(tmp_path / "linear.tflite", **form)
    with pytest.raises(ValueError, match=f"^{obstacle}$"):
        raise ValueError(obstacle_to_readers(card_of(), linear.artifact()))


@pytest.mark.parametrize(
    ("activation", "scores", "values", "description"),
    [
        (
            Activation.SOFTMAX,
            Scores.PROBABILITIES,
            ValueRange((0,), (1,)),
            "Probability of each of the 3 classes (softmax).",
        ),
        (
            Activation.SIGMOID,
            Scores.PROBABILITIES,
            ValueRange((0,), (1,)),
            "Probability of each of the 3 classes (sigmoid).",
        ),
        (Activation.NONE, Scores.PROBABILITIES, None, "Score of each of the 3 classes."),
        (
            Activation.SIGMOID,
            Scores.LOGITS,
            None,
            "Logit of each of the 3 classes; sigmoid makes probabilities of them.",
        ),
    ],
)
def test_scores_are_described_by_what_they_are(
    linear: Linear, activation: Activation, scores: Scores, values: ValueRange | None, description: str
) -> None:
    out = linear.path.with_name("out.tflite")
    with_metadata(linear.path, out, card_of(activation=activation), linear.artifact(scores))
    found = metadata_of(out).outputs[0]
    assert (found.values, found.description) == (values, description)


def test_outputs_come_in_the_order_of_the_graph(tmp_path: Path) -> None:
    linear = save_linear(tmp_path / "linear.tflite", features=True)
    assert [tensor.name for tensor in linear.artifact().outputs] == ["logits", "features"]
    features, logits = described(linear).outputs
    assert (features.name, features.files) == ("features", ())
    assert features.description == "A further output, float32 of shape [1, 3]."
    assert (logits.name, len(logits.files)) == ("logits", 1)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(form) or "plain")
def test_the_model_in_the_file_is_what_it_was(tmp_path: Path, form: Any) -> None:
    linear = save_linear(tmp_path / "linear.tflite", **form)
    out, again = tmp_path / "out.tflite", tmp_path / "again.tflite"
    before = linear.path.read_bytes()
    for path in (out, again):
        with_metadata(linear.path, path, card_of(), linear.artifact())
    assert linear.path.read_bytes() == before
    assert out.read_bytes() == again.read_bytes()
    inputs = drawn(linear)
    logits = logits_by_litert(out, inputs)
    assert np.array_equal(logits, logits_by_litert(linear.path, inputs))
    assert np.abs(logits - linear.logits(inputs)).max() < 0.05
    with mapped_model(linear.path) as old, mapped_model(out) as new:
        assert (new.Version(), new.Description()) == (old.Version(), old.Description())
        assert new.BuffersLength() == old.BuffersLength() + 1
        assert [new.Metadata(i).Name() for i in range(2)] == [b"min_runtime_version", b"TFLITE_METADATA"]
        for i in range(old.BuffersLength()):
            (start, size), (moved, same) = place_of(old.Buffers(i)), place_of(new.Buffers(i))
            assert size == same
            assert moved % 16 == start % 16
            assert new._tab.Bytes[moved : moved + size] == before[start : start + size]
        assert place_of(new.Buffers(old.BuffersLength()))[0] % 16 == 0
    assert (before in out.read_bytes()) is not form.get("behind", False)


@pytest.mark.parametrize("artifact_id", ["tflite-fp32", "tflite-wf16_af32", "tflite-static_wi8_ai8"])
def test_digits_answer_as_before_in_both_of_litert_s_interfaces(
    digits_optimized: Path, tmp_path: Path, artifact_id: str
) -> None:
    manifest = Manifest.load(digits_optimized)
    artifact, card = manifest.get(artifact_id), manifest.model
    source, out = manifest.path_of(artifact), tmp_path / "digits.tflite"
    with_metadata(source, out, card, artifact)
    assert labels_of(out) == card.labels
    pictures = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    inputs = card.preprocessing.normalize(pictures)
    assert np.array_equal(logits_by_litert(out, inputs), logits_by_litert(source, inputs))
    with on_cpu(source, 1) as runner:
        stored = runner.stored(inputs[:1])
    compiled = compiled_outputs(out, stored)
    assert np.array_equal(compiled, compiled_outputs(source, stored))
    assert np.ptp(compiled) > 0


def compiled_outputs(path: Path, stored: NDArray[Any]) -> NDArray[Any]:
    """Of LiteRT's newer interface, which checks a whole file before it loads it."""
    from ai_edge_litert.compiled_model import CompiledModel

    model = CompiledModel.from_file(str(path))
    inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)
    inputs[0].write(stored)
    model.run_by_index(0, inputs, outputs)
    return np.array(outputs[0].read(10, stored.dtype.type))


def test_a_standard_unzip_finds_the_labels(linear: Linear, tmp_path: Path) -> None:
    described(linear)
    path = tmp_path / "described.tflite"
    assert labels_of(path) == LABELS
    wanted = "".join(f"{label}\n" for label in LABELS).encode()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        (entry,) = archive.infolist()
    assert (entry.filename, entry.compress_type, entry.date_time[0]) == (
        "labels.txt",
        zipfile.ZIP_STORED,
        1980,
    )
    if shutil.which("unzip"):
        done = subprocess.run(["unzip", "-p", str(path), "labels.txt"], capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, wanted, b"")
    # As Android's reader goes: the last 22 bytes, then places counted from the beginning of the file.
    content = path.read_bytes()
    end = content[-22:]
    assert end[:4] == b"PK\5\6"
    (directory,) = struct.unpack_from("<I", end, 16)
    assert content[directory : directory + 4] == b"PK\1\2"
    (header,) = struct.unpack_from("<I", content, directory + 42)
    assert content[header : header + 4] == b"PK\3\4"
    name, extra = struct.unpack_from("<HH", content, header + 26)
    start = header + 30 + name + extra
    assert content[start : start + len(wanted)] == wanted


def test_without_labels_there_is_no_archive(linear: Linear, tmp_path: Path) -> None:
    found = described(linear, labels=None)
    assert found.outputs[0].files == ()
    assert found.description.startswith("Image classifier with 3 classes. Variant")
    assert not zipfile.is_zipfile(tmp_path / "described.tflite")
    assert labels_of(tmp_path / "described.tflite") is None


def test_memory_does_not_grow_with_the_file(linear: Linear, tmp_path: Path) -> None:
    with linear.path.open("r+b") as stream:
        stream.truncate(96 << 20)  # zeros behind the model, as large as weights
    artifact = linear.artifact()
    tracemalloc.start()
    try:
        with_metadata(linear.path, tmp_path / "out.tflite", card_of(), artifact)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "out.tflite").stat().st_size > 96 << 20
    assert peak_bytes < 12 << 20


def test_metadata_are_added_once(linear: Linear, tmp_path: Path) -> None:
    described(linear)
    with pytest.raises(
        InputError, match="described.tflite has TFLITE_METADATA already. Give a file without it"
    ):
        with_metadata(tmp_path / "described.tflite", tmp_path / "b.tflite", card_of(), linear.artifact())
    assert not (tmp_path / "b.tflite").exists()


def onnx_artifact(linear: Linear) -> Any:
    return replace(linear.artifact(), format=Format.ONNX)


def other_outputs(linear: Linear) -> Any:
    artifact = linear.artifact()
    return replace(artifact, outputs=(replace(artifact.outputs[0], name="scores"),))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (onnx_artifact, "tflite-fp32 is onnx, and TFLite Metadata need a .tflite file"),
        (
            other_outputs,
            r"wanted inputs and outputs \(\['images'\], \['scores'\]\), as the manifest says, got",
        ),
    ],
)
def test_another_artifact_than_the_file_is_refused(
    linear: Linear, change: Callable[[Linear], Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        with_metadata(linear.path, linear.path.with_name("b.tflite"), card_of(), change(linear))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "linear.tflite is no TFLite file. Export"),
        (b"\x10\0\0\0ONNX" + bytes(40), "linear.tflite is no TFLite file. Export"),
        (b"\xff\xff\0\0TFL3" + bytes(40), "linear.tflite is damaged"),
    ],
)
def test_what_is_no_tflite_file_is_refused(linear: Linear, content: bytes, message: str) -> None:
    artifact = linear.artifact()
    linear.path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        with_metadata(linear.path, linear.path.with_name("b.tflite"), card_of(), artifact)
    assert [path.name for path in linear.path.parent.iterdir()] == ["linear.tflite"]


def test_a_missing_file_is_refused(linear: Linear) -> None:
    artifact = linear.artifact()
    linear.path.unlink()
    with pytest.raises(
        InputError, match="linear.tflite cannot be read .No such file or directory.. Export the"
    ):
        with_metadata(linear.path, linear.path.with_name("b.tflite"), card_of(), artifact)


def test_parts_that_are_not_known_are_not_lost(linear: Linear, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tflite_attachment, "_END", 7)  # as if signatures were newer than this code
    with pytest.raises(
        InputError, match="has parts that TFLite's schema did not have .* Use a newer edgepress"
    ):
        described(linear)


def test_a_file_that_gets_too_large_is_refused(linear: Linear, monkeypatch: pytest.MonkeyPatch) -> None:
    size = linear.path.stat().st_size
    monkeypatch.setattr(tflite_attachment, "LIMIT_BYTES", size + 1000)
    with pytest.raises(InputError, match="One TFLite file holds less than .* Use a smaller variant"):
        described(linear)
    assert not linear.path.with_name("described.tflite").exists()


def test_a_file_without_metadata_is_told(linear: Linear) -> None:
    with pytest.raises(
        InputError, match="linear.tflite has no TFLite Metadata .TFLITE_METADATA.. Bundle the mod"
    ):
        metadata_of(linear.path)
    assert attached_content(linear.path, "min_runtime_version") == b"1.5.0\0"
    assert attached_files(linear.path) == {}


def test_damaged_metadata_are_told_and_nothing_else_happens(linear: Linear) -> None:
    content = encoded(described(linear))
    with pytest.raises(ValueError, match="their identifier is b'M002', wanted b'M001'"):
        decoded(content.replace(b"M001", b"M002"))
    random = np.random.default_rng(0)
    told = []
    for _ in range(300):
        damaged = bytearray(content)
        for place in random.integers(0, len(content), 8):
            damaged[place] = random.integers(0, 256)
        try:
            decoded(bytes(damaged))
        except ValueError as error:
            told.append(str(error))
    assert len(told) > 100
    assert all(each.startswith(("they are damaged (", "their identifier is")) for each in told)
    path = linear.path.with_name("described.tflite")
    path.write_bytes(path.read_bytes().replace(b"M001", b"M002"))
    with pytest.raises(
        InputError, match="described.tflite cannot be read: their identifier .* Bundle it anew"
    ):
        metadata_of(path)


def test_damaged_files_are_told_and_nothing_else_happens(linear: Linear) -> None:
    described(linear)
    artifact, out = linear.artifact(), linear.path.with_name("out.tflite")
    path = linear.path.with_name("described.tflite")
    random, told = np.random.default_rng(0), []

    def try_damaged(content: bytes, place: Path, ask: Callable[[], Any]) -> None:
        damaged = bytearray(content)
        for i in random.integers(0, len(content), 6):
            damaged[i] = random.integers(0, 256)
        place.write_bytes(damaged)
        try:
            ask()
        except (InputError, ProofError) as error:
            told.append(str(error))

    sound, with_labels = linear.path.read_bytes(), path.read_bytes()
    for _ in range(150):
        try_damaged(sound, linear.path, lambda: with_metadata(linear.path, out, card_of(), artifact))
        try_damaged(with_labels, path, lambda: metadata_of(path))
        try_damaged(with_labels[-150:], path, lambda: labels_of(path))
    assert len(told) > 150
    for words in ("linear.tflite is damaged (", "The files at the end of ", "The TFLite Metadata in "):
        assert any(words in each for each in told), words


def spoil_metadata(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"weights: drawn", b"weights: drown"))


def spoil_identifier(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"M001", b"M009"))


def spoil_labels(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def spoil_weights(path: Path) -> None:
    """Let the second buffer be the third."""
    content = bytearray(path.read_bytes())
    with mapped_model(path) as model:
        table = model._tab
        vector = table.Vector(table.Offset(12))  # Model.buffers
    (third,) = struct.unpack_from("<I", content, vector + 8)
    struct.pack_into("<I", content, vector + 4, third + 4)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            spoil_metadata,
            "TFLite Metadata: wanted TfliteMetadata.*drawn.*, read .*drown.* Nothing was written",
        ),
        (spoil_identifier, "The file with metadata cannot be read .*M009.* Nothing was written"),
        (spoil_labels, "Files at the end: wanted labels.txt, unzipped others. Nothing was written"),
        (spoil_weights, "The file with metadata refers to other parts than linear.tflite. Nothing was writ"),
    ],
)
def test_what_does_not_read_as_it_was_meant_is_not_delivered(
    linear: Linear, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None], message: str
) -> None:
    def attach(source: Path, destination: Path, *rest: Any) -> int:
        moved = tflite_attachment.attach(source, destination, *rest)
        spoil(destination)
        return moved

    monkeypatch.setattr(tflite_metadata, "attach", attach)
    out = linear.path.with_name("described.tflite")
    out.write_bytes(b"former")
    with pytest.raises(ProofError, match=message):
        described(linear)
    assert out.read_bytes() == b"former"
    assert sorted(path.name for path in out.parent.iterdir()) == ["described.tflite", "linear.tflite"]


def test_labels_that_do_not_fit_on_lines_are_not_delivered(linear: Linear) -> None:
    with pytest.raises(ProofError, match="labels.txt holds other labels than the model has. Nothing was"):
        described(linear, labels=("a", "b\nc", "d"))


# --- Readers that are not ours: what is generated from the published schema, and MediaPipe Tasks.

CLASSIFY = """
import importlib, json, sys, types

class Stub(types.ModuleType):  # of what MediaPipe imports for its other tasks
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Stub(name)

for name in ("cv2", "sounddevice", "matplotlib", "matplotlib.pyplot"):
    try:
        importlib.import_module(name)
    except ImportError:
        sys.modules[name] = Stub(name)
import numpy as np
import mediapipe
from mediapipe.tasks.python import BaseOptions, vision

answers = []
for model, picture in json.loads(sys.argv[1]):
    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=model))
    try:
        with vision.ImageClassifier.create_from_options(options) as classifier:
            image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.load(picture))
            found = classifier.classify(image).classifications[0].categories
        answers.append({one.category_name: one.score for one in found})
    except Exception as error:
        answers.append(str(error))
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def mediapipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MediaPipe as on the package index, unpacked and not installed: it would bring OpenCV along."""
    folder = tmp_path_factory.mktemp("mediapipe")
    command = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "download",
        "--quiet",
        "--retries",
        "1",
    ]
    done = subprocess.run(
        [*command, "--no-deps", "--only-binary", ":all:", "--dest", str(folder), "mediapipe>=1.2,<2"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"no wheel of mediapipe can be had: {(done.stderr.splitlines() or ['?'])[-1]}")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.mark.network
def test_the_published_schema_s_own_reader_reads_every_field(mediapipe: Path, tmp_path: Path) -> None:
    spec = spec_from_file_location(
        "generated", mediapipe / "mediapipe" / "tasks" / "metadata" / "metadata_schema_py_generated.py"
    )
    assert spec is not None
    assert spec.loader is not None
    schema = module_from_spec(spec)
    spec.loader.exec_module(schema)
    linear = save_linear(tmp_path / "linear.tflite", features=True)
    out = tmp_path / "out.tflite"
    wanted = with_metadata(
        linear.path, out, card_of(PreprocessMode.TORCH), linear.artifact(Scores.PROBABILITIES), licence="MIT"
    )
    content = attached_content(out, ENTRY)
    assert schema.ModelMetadata.ModelMetadataBufferHasIdentifier(content, 0)
    found = schema.ModelMetadataT.InitFromObj(schema.ModelMetadata.GetRootAs(content, 0))
    texts = (
        found.name,
        found.description,
        found.version,
        found.author,
        found.license,
        found.minParserVersion,
    )
    assert [text.decode() for text in texts] == [
        *(wanted.name, wanted.description, wanted.version, wanted.author),
        *("MIT", "1.0.0"),
    ]
    assert found.associatedFiles is None
    (graph,) = found.subgraphMetadata
    (images,) = graph.inputTensorMetadata
    features, scores = graph.outputTensorMetadata
    assert_read(images, wanted.inputs[0])
    assert_read(features, wanted.outputs[0])
    assert_read(scores, wanted.outputs[1])
    assert images.content.contentPropertiesType == schema.ContentProperties.ImageProperties
    assert images.content.contentProperties.colorSpace == schema.ColorSpaceType.RGB
    (unit,) = images.processUnits
    assert unit.optionsType == schema.ProcessUnitOptions.NormalizationOptions
    assert wanted.inputs[0].normalization == Normalization(tuple(unit.options.mean), tuple(unit.options.std))
    assert (list(scores.stats.min), list(scores.stats.max)) == ([0], [1])
    (labels,) = scores.associatedFiles
    assert (labels.name, labels.type) == (b"labels.txt", schema.AssociatedFileType.TENSOR_AXIS_LABELS)
    assert features.associatedFiles is None


def assert_read(found: Any, wanted: TensorDescription) -> None:
    assert (found.name.decode(), found.description.decode()) == (wanted.name, wanted.description)


@pytest.mark.network
@pytest.mark.skipif(sys.platform != "linux", reason="the process is started with stand-ins that fit Linux")
def test_mediapipe_answers_as_litert_does(mediapipe: Path, digits_optimized: Path, tmp_path: Path) -> None:
    manifest = Manifest.load(digits_optimized)
    artifact, card = manifest.get("tflite-fp32"), manifest.model
    digits, pixels, bgr = (tmp_path / f"{name}.tflite" for name in ("digits", "pixels", "bgr"))
    with_metadata(manifest.path_of(artifact), digits, card, artifact)
    linear = save_linear(tmp_path / "linear.tflite", pixels=True)
    with_metadata(linear.path, pixels, card_of(PreprocessMode.CAFFE), linear.artifact())
    plain = save_linear(tmp_path / "plain.tflite")
    with_metadata(plain.path, bgr, card_of(PreprocessMode.CAFFE), plain.artifact())
    pictures = {
        side: np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8) for side in (32, SIDE)
    }
    for side, picture in pictures.items():
        np.save(tmp_path / f"{side}.npy", picture)
    jobs = [(digits, 32), (pixels, SIDE), (bgr, SIDE), (plain.path, SIDE)]
    asked = json.dumps([(str(path), str(tmp_path / f"{side}.npy")) for path, side in jobs])
    done = subprocess.run(
        [sys.executable, "-c", CLASSIFY, asked],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={"PYTHONPATH": str(mediapipe), "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    by_digits, by_pixels, refused, without = json.loads(done.stdout.splitlines()[-1])
    wanted = logits_by_litert(digits, card.preprocessing.normalize(pictures[32][np.newaxis]))[0]
    assert [by_digits[label] for label in card.labels or ()] == pytest.approx(wanted.tolist(), abs=1e-4)
    scores = logits_by_litert(pixels, pictures[SIDE][np.newaxis])[0]
    assert [by_pixels[label] for label in LABELS] == pytest.approx(scores.tolist(), rel=1e-4)
    assert refused == "Only RGB color space is supported for now."
    assert "requires specifying NormalizationOptions metadata" in without
