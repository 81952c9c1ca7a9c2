"""Counts against ground truth, and the same network counted alike in every form that it has."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edgepress.artifact import Precision
from edgepress.cli.commands.inspect import page_of
from edgepress.errors import InputError
from edgepress.inspection.blocks import blocks_of, pairs_of
from edgepress.inspection.inspection_keras import inspect_keras
from edgepress.inspection.inspection_vgg16 import inspect_architecture
from edgepress.inspection.layer import Inspection, Layer
from edgepress.inspection.plot import write_plot
from edgepress.inspection.subject import Subject, look_into
from edgepress.manifest import Manifest
from edgepress.models.vgg16 import VGG16, VGG16_DIGITS, Architecture, Style, build

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


def test_vgg16_has_the_parameters_and_macs_that_are_known() -> None:
    found = inspect_architecture(VGG16)
    assert found.parameters == 138_357_544
    # Counted by hand from the table: 9·64·(3 + 64)·224² + … + 25088·4096 + 4096² + 4096·1000.
    convolutions = 9 * (
        64 * (3 + 64) * 224**2 + 128 * (64 + 128) * 112**2 + 256 * (128 + 2 * 256) * 56**2
        + 512 * (256 + 2 * 512) * 28**2 + 512 * 3 * 512 * 14**2
    )  # fmt: skip
    assert found.macs == convolutions + 25088 * 4096 + 4096**2 + 4096 * 1000
    assert [block.name for block in blocks_of(found)] == [*(f"block{i}" for i in range(1, 6)), "dense"]
    assert [block.layers for block in blocks_of(found)] == [2, 2, 3, 3, 3, 3]
    assert sum(block.parameters for block in blocks_of(found)) == found.parameters
    assert sum(block.macs for block in blocks_of(found)) == found.macs


@pytest.mark.parametrize("style", Style)
def test_keras_model_has_the_layers_of_the_block_table(small_vgg16: Architecture, style: Style) -> None:
    model = build(small_vgg16, style)
    from_table, from_keras = inspect_architecture(small_vgg16), inspect_keras(model)
    assert from_keras.layers == from_table.layers
    assert from_keras.parameters == model.count_params()


@pytest.mark.parametrize(
    "name",
    ["onnx-fp32", "tflite-fp32", "onnx-wf16_af16", "tflite-wf16_af32", "tensorrt-static_wi8_ai8"],
)
def test_artifact_has_the_weights_and_macs_of_the_network(digits_optimized: Path, name: str) -> None:
    subject = look_into(str(digits_optimized), name)
    found, wanted = subject.inspection, inspect_architecture(VGG16_DIGITS)
    assert found is not None
    assert found.parameters == wanted.parameters
    assert found.macs == wanted.macs
    assert [layer.macs for layer in found.layers] == [layer.macs for layer in wanted.layers]
    artifact = Manifest.load(digits_optimized).get(name)
    assert subject.file_bytes == artifact.size_bytes
    assert f"{name}: {artifact.precision.value}" in subject.notes[0]
    # FP16 biases in ONNX's FP16 file; FP32 biases in TFLite's, which is MIXED, and in TensorRT's INT8 file.
    of_weight, of_bias = {
        Precision.FP32: (4, 4),
        Precision.FP16: (2, 2),
        Precision.MIXED: (2, 4),
        Precision.INT8: (1, 4),
    }[artifact.precision]
    weights = sum(layer.parameters for layer in wanted.layers)
    biases = sum(layer.biases for layer in wanted.layers)
    assert found.weight_bytes == of_weight * weights + of_bias * biases


def test_batch_normalization_counts_as_parameters(tiny_file: Path) -> None:
    import keras

    subject = look_into(str(tiny_file))
    model = keras.saving.load_model(tiny_file)
    assert subject.inspection is not None
    assert subject.inspection.parameters == model.count_params()
    assert [layer.name for layer in subject.inspection.layers] == ["conv", "norm", "scores"]
    assert subject.inspection.layers[1].macs == 0


def test_engine_says_what_its_file_cannot(digits_optimized: Path) -> None:
    subject = look_into(str(digits_optimized / "engine-sm86-static_wi8_ai8.plan"))
    assert subject.inspection is None
    assert "(inferred)" in " ".join(subject.notes)
    assert "an engine opens on its GPU only" in subject.notes[-1]
    said = " ".join(subject.notes)
    assert "Built with TensorRT-RTX (1." in said
    assert "for compute capability 8.6; hardware compatibility: NONE; flags: none." in said


def test_pairs_of_matches_by_name_and_else_by_order(digits_optimized: Path) -> None:
    one, other = (look_into(str(digits_optimized), name).inspection for name in ("onnx-fp32", "tflite-fp32"))
    assert one is not None
    assert other is not None
    pairs = pairs_of(one, other)
    assert len(pairs) == 16
    assert all(pair.one and pair.other and pair.one.macs == pair.other.macs for pair in pairs)
    cut = pairs_of(inspect_architecture(VGG16), inspect_architecture(VGG16_DIGITS))
    assert [pair.name for pair in cut][-3:] == ["fc1", "fc2", "predictions"]


@pytest.mark.parametrize(
    ("text", "variant", "message"),
    [
        ("vgg61", None, "Unknown model 'vgg61'. Did you mean 'vgg16'?"),
        ("nowhere.onnx", None, "There is no file at nowhere.onnx"),
        ("FOLDER", None, "has several artifacts. Name one with --variant: saved_model-fp32"),
        ("FOLDER", "onnx-fp23", "Did you mean 'onnx-fp32'?"),
        ("vgg16", "onnx-fp32", "--variant names an artifact of a folder, and vgg16 is none"),
        ("broken.folder", None, "is a folder without manifest.json"),
        ("broken.onnx", None, "cannot be read as ONNX"),
        ("broken.tflite", None, "is no TFLite file"),
        ("empty.onnx", None, "holds no ONNX graph: wanted nodes, got none"),
        ("empty.tflite", None, "is no TFLite file"),
        ("broken.keras", None, "is no .keras model"),
        ("broken.txt", None, "is nothing that edgepress can look into"),
    ],
)
def test_look_into_refuses(
    digits_optimized: Path, tmp_path: Path, text: str, variant: str | None, message: str
) -> None:
    if text == "broken.folder":
        text = str(tmp_path)
    elif text.startswith(("broken", "empty")):
        (tmp_path / text).write_bytes(b"no model at all" if text.startswith("broken") else b"")
        text = str(tmp_path / text)
    with pytest.raises(InputError, match=re.escape(message)):
        look_into(text.replace("FOLDER", str(digits_optimized)), variant)


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_write_plot_draws_the_same_file_each_time(tmp_path: Path, suffix: str) -> None:
    for name in ("one", "two"):
        write_plot(tmp_path / f"{name}{suffix}", "vgg16", inspect_architecture(VGG16))
    content = (tmp_path / f"one{suffix}").read_bytes()
    assert content == (tmp_path / f"two{suffix}").read_bytes()
    assert content.startswith(b"<?xml" if suffix == ".svg" else b"\x89PNG")
    with pytest.raises(InputError, match="--plot wants a name that ends in .svg or .png"):
        write_plot(tmp_path / "x.pdf", "vgg16", inspect_architecture(VGG16))


def test_inspect_prints_tables_that_fit_a_screen_and_json(cli: Cli, digits_optimized: Path) -> None:
    done = cli("inspect", "vgg16")
    assert done.returncode == 0, done.stderr
    assert "138,357,544" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 110
    value = json.loads(cli("inspect", "vgg16", "--json").stdout)["model"]
    assert value["parameters"] == 138_357_544
    assert len(value["layers"]) == 16
    done = cli("inspect", digits_optimized, "--variant", "onnx-fp32", "--compare", "vgg16-digits")
    assert re.search(r"MACs +19,940,608 +19,940,608 +×1\.000", done.stdout), done.stderr
    both = ("--variant", "onnx-fp32", "--compare", "tensorrt-static_wi8_ai8")
    done = cli("inspect", digits_optimized, *both)
    assert done.returncode == 0, done.stderr
    assert re.search(r"block1_conv1 .* ×0\.\d+ +fp32 +int8", done.stdout)
    done = cli("inspect", digits_optimized, "--variant", "engine-sm86-wf16_af16", "--plot", "x.svg")
    assert done.returncode == 2
    assert "an engine opens on its GPU only. Choose its source instead." in done.stderr


def test_plot_leaves_a_folder_of_its_name_alone(tmp_path: Path) -> None:
    folder = tmp_path / "plot.svg"
    folder.mkdir()
    (folder / "mine").touch()
    with pytest.raises(InputError, match=r"--plot wants a file to write, .*plot\.svg is a folder"):
        write_plot(folder, "vgg16", inspect_architecture(VGG16_DIGITS))
    assert [path.name for path in folder.iterdir()] == ["mine"]


def test_plot_takes_any_name_and_any_shape(tmp_path: Path) -> None:
    layer = Layer(r"$\nothing_{$", 10, 100, Precision.FP32, Precision.FP32, "Conv2D", (8, None, 4))
    write_plot(tmp_path / "odd.svg", "$x_{$", Inspection((layer,), 0, 0, (), ()))
    write_plot(tmp_path / "none.svg", "empty", Inspection((), 0, 0, (), ()))
    assert "8×–×4" in (tmp_path / "odd.svg").read_text(encoding="utf-8")


def test_page_of_shows_any_name_on_one_line_that_fits() -> None:
    layers = tuple(
        Layer(name, 10, 100, Precision.FP32, Precision.FP32, "Gemm", (8,), stored_type="int4")
        for name in ("a\nb\x1b[31m", "n" * 300, "/layer1/layer1.0/conv1/Conv")
    )
    lines = list(
        page_of(Subject("m\x1b.onnx", None, Inspection(layers, 0, 0, (), (), ("c\r",), 7), ("note\n",)))
    )
    text = "\n".join(lines)
    assert all(line.isprintable() for line in lines)
    assert max(map(len, lines)) <= 110
    assert re.search(r"a\\nb\\x1b\[31m +Gemm .* int4 +fp32", text)
    assert re.search(r"^layer1\.0/conv1 ", text, re.MULTILINE)
    assert "MACs are not counted for: c\\r" in text
    assert "Stored beside these layers: 7 values" in text


def test_look_into_says_where_an_onnx_file_keeps_its_weights(digits_folder: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(digits_folder / "onnx-fp32.onnx")
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    (note,) = look_into(str(tmp_path / "m.onnx")).notes
    assert note.startswith("Keeps weights in w.bin, 3.8 MB.")
    (tmp_path / "w.bin").unlink()
    subject = look_into(str(tmp_path / "m.onnx"))
    assert subject.notes[0].startswith("Keeps weights in w.bin, which is missing.")
    assert subject.inspection is not None
    assert subject.inspection.parameters == inspect_architecture(VGG16_DIGITS).parameters


def test_look_into_does_not_call_a_broken_package_missing(
    digits_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> None:
        raise ImportError("libonnx.so: wrong ELF class")

    monkeypatch.setattr("edgepress.inspection.subject.inspect_onnx", broken)
    with pytest.raises(ImportError, match="wrong ELF class"):
        look_into(str(digits_folder / "onnx-fp32.onnx"))
