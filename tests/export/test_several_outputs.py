"""A model that gives more than scores: every output of every file is the one of Keras, by name."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepress.artifact import Device, Format, Runtime
from edgepress.errors import InputError, ProofError
from edgepress.interface import PLAIN, Activation, Interface, Scores
from edgepress.models.keras_import import import_keras
from edgepress.parity.golden_pictures import smooth_picture
from edgepress.preprocessing import Preprocessing, PreprocessMode
from edgepress.runners.runner import NamedOutputs, runner_for
from export.conversion import Conversion
from export.further_outputs import further_names, require_further_outputs
from export.onnx_from_keras import onnx_from_keras
from export.smoke import Promise, smoke_check
from export.stage import ExportRequest, export_model

RequestFor = Callable[..., ExportRequest]
SIDE = 16
PICTURES = smooth_picture(SIDE, SIDE, seed=0)[np.newaxis]
TF = Preprocessing(PreprocessMode.TF, SIDE, SIDE)
NAMES = ("logits", "aux", "middle", "features")


def _several(activation: str | None = "softmax") -> Any:
    """Scores, an auxiliary head before them in the alphabet, a map in the middle, and a feature vector."""
    keras = import_keras()
    layers = keras.layers
    keras.utils.set_random_seed(3)
    images = keras.Input((SIDE, SIDE, 3))
    middle = layers.Conv2D(4, 3, activation="relu", name="middle")(images)
    features = layers.GlobalAveragePooling2D(name="features")(layers.Conv2D(6, 3, name="deep")(middle))
    aux = layers.Dense(3, activation="softmax", name="aux")(layers.Flatten()(middle))
    scores = layers.Dense(5, activation=activation, name="scores")(features)
    return keras.Model(images, [scores, aux, middle, features], name="several")


@pytest.mark.parametrize("scores", Scores)
def test_every_file_gives_every_output_of_keras_by_name(
    request_for: RequestFor, tmp_path: Path, scores: Scores
) -> None:
    model = _several()
    model.save(tmp_path / "several.keras")
    request = request_for(
        tmp_path / "several.keras", preprocess=PreprocessMode.TF, interface=Interface(scores=scores)
    )
    manifest = export_model(request)
    images = TF.normalize(PICTURES)
    expected = dict(zip(NAMES, map(np.asarray, model(images)), strict=True))
    expected[scores.value] = expected.pop("logits")
    if scores is Scores.LOGITS:
        expected["logits"] = np.log(expected["logits"])
    assert len(manifest.artifacts) == 3
    for artifact in manifest.artifacts:
        batch = 1 if artifact.format is Format.TFLITE else None
        assert [(spec.name, spec.shape) for spec in artifact.outputs] == [
            (scores.value, (batch, 5)),
            ("aux", (batch, 3)),
            ("middle", (batch, 14, 14, 4)),
            ("features", (batch, 6)),
        ]
        with runner_for(artifact.runtimes[0], Device.CPU)(manifest.path_of(artifact), 0) as runner:
            assert isinstance(runner, NamedOutputs)
            found = dict(runner.outputs(images))
            head = runner.infer(images)
        np.testing.assert_array_equal(head, found[scores.value])
        assert set(found) == set(expected)
        for name in (scores.value, *NAMES[1:]):
            value = found[name]
            if name == "logits":  # what a softmax does not see
                value, expected[name] = (v - v.mean() for v in (value, expected[name]))
            np.testing.assert_allclose(value, expected[name], atol=1e-5, err_msg=f"{artifact.id} {name}")


def test_a_file_of_a_fixed_batch_is_proven_with_fewer_pictures(
    request_for: RequestFor, tmp_path: Path
) -> None:
    _several().save(tmp_path / "several.keras")
    formats = (Format.SAVED_MODEL, Format.ONNX, Format.TFLITE)
    changes = {"preprocess": PreprocessMode.TF, "interface": Interface(batch=3), "formats": formats}
    manifest = export_model(request_for(tmp_path / "several.keras", **changes))
    assert [artifact.outputs[2].shape for artifact in manifest.artifacts] == [(3, 14, 14, 4)] * 3


def test_smoke_check_names_the_output_that_differs(tmp_path: Path) -> None:
    network = _several(activation=None)
    conversion = Conversion(network, preprocessing=TF)
    logits, *others = (np.asarray(value) for value in network(TF.normalize(PICTURES)))
    onnx_from_keras(conversion)(tmp_path / "m.onnx")
    promise = Promise(PLAIN, Activation.NONE, TF, conversion.output_names)
    smoke_check(tmp_path / "m.onnx", Runtime.ONNXRUNTIME, promise, PICTURES, logits, tuple(others))
    kernel, bias = network.get_layer("aux").get_weights()
    network.get_layer("aux").set_weights([0.98 * kernel, bias])  # a layer whose scale is off by 2 %
    onnx_from_keras(conversion)(tmp_path / "wrong.onnx")
    with pytest.raises(ProofError, match=r"wrong\.onnx: the output 'aux' is not the one of its reference"):
        smoke_check(tmp_path / "wrong.onnx", Runtime.ONNXRUNTIME, promise, PICTURES, logits, tuple(others))
    foreign = replace(
        promise,
        interface=Interface(scores=Scores.PROBABILITIES),
        output_names=("probabilities", *promise.output_names[1:]),
    )
    with pytest.raises(
        ProofError, match="an output 'probabilities' was wanted, got logits, aux, middle, features"
    ):
        smoke_check(tmp_path / "m.onnx", Runtime.ONNXRUNTIME, foreign, PICTURES, logits, tuple(others))


@pytest.mark.parametrize(
    ("reference", "other", "passes"),
    [
        ([[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0005]], True),
        ([[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.01]], False),
        ([[0.333, 0.334, 0.333]], [[0.334, 0.333, 0.333]], False),  # near-uniform: the spread is judged
        ([[1000.0, 1000.0]], [[1000.001, 1000.0]], True),  # the rounding of large equal values
        ([[0.0, 0.0]], [[0.0, 0.0]], True),
        ([[0.0, 0.0]], [[0.0, 1e-9]], False),
        ([[2.0]], [[2.0005]], True),  # a single value has no spread
        ([[2.0]], [[2.1]], False),
        ([[1.0, 2.0]], [[1.0, np.nan]], False),
        ([[1.0, 2.0]], [[1.0, 2.0, 3.0]], False),
        ([3], [3], True),
        ([3], [4], False),
    ],
)
def test_require_further_outputs(reference: list[Any], other: list[Any], passes: bool) -> None:
    wanted, found = {"aux": np.asarray(reference)}, {"aux": np.asarray(other), "more": np.zeros(1)}
    if passes:
        require_further_outputs(wanted, found, "m.onnx")
        return
    with pytest.raises(ProofError, match=r"m\.onnx: .*output 'aux'"):
        require_further_outputs(wanted, found, "m.onnx")


def test_require_further_outputs_names_one_that_is_missing() -> None:
    with pytest.raises(ProofError, match=r"an output 'aux' of shape \(1, 2\) was wanted, got none"):
        require_further_outputs({"aux": np.zeros((1, 2))}, {}, "m.onnx")


def _network(outputs_of: Callable[[Any], list[Any]]) -> Any:
    keras = import_keras()
    images = keras.Input((SIDE, SIDE, 3), name="pixels")
    return keras.Model(images, outputs_of(images), name="net")


def _dense(name: str) -> Callable[[Any], Any]:
    layers = import_keras().layers
    return lambda images: layers.Dense(3, name=name)(layers.Flatten()(images))


def test_outputs_of_a_nested_model_are_called_after_its_layers() -> None:
    keras = import_keras()
    images = keras.Input((SIDE, SIDE, 3))
    inner = keras.Model(
        images, [_dense("scores")(images), _dense("aux")(images), _dense("more")(images)], name="in"
    )
    assert further_names(_network(inner)) == ("aux", "more")
    assert further_names(_network(lambda images: [inner(images)[0], images])) == ("pixels",)


def _twice(images: Any) -> list[Any]:
    shared = import_keras().layers.Dense(3, name="shared")
    return [_dense("scores")(images), shared(images), shared(shared(images))]


@pytest.mark.parametrize(
    ("outputs_of", "words"),
    [
        (_twice, "net has 2 outputs of the name 'shared', and each needs its own"),
        (lambda x: [_dense("scores")(x), _dense("logits")(x)], "net has an output of the name 'logits'"),
        (
            lambda x: [_dense("scores")(x), _dense("probabilities")(x)],
            "an output of the name 'probabilities'",
        ),
        (
            lambda x: [_dense("scores")(x), _dense("images")(x)],
            "not images, logits, probabilities, which files use",
        ),
        (lambda x: [_dense("scores")(x), _dense("_aux")(x)], "of the name '_aux'; letters, digits"),
    ],
)
def test_conversion_refuses_a_name_that_files_cannot_have(
    outputs_of: Callable[[Any], list[Any]], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        Conversion(_network(outputs_of))


def test_a_head_may_be_called_as_files_call_it() -> None:
    network = _network(lambda x: [_dense("probabilities")(x), _dense("aux")(x)])
    assert Conversion(network).output_names == ("logits", "aux")


def test_export_model_refuses_a_name_before_anything_is_written(
    request_for: RequestFor, tmp_path: Path
) -> None:
    _network(lambda x: [_dense("scores")(x), _dense("logits")(x)]).save(tmp_path / "m.keras")
    request = request_for(tmp_path / "m.keras", preprocess=PreprocessMode.TF)
    with pytest.raises(InputError, match="has an output of the name 'logits'"):
        export_model(request)
    assert not list(request.out.glob("[!.]*"))
