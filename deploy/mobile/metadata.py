"""A TFLite file that says what it takes and gives: TFLite Metadata, which readers on phones go by.

MediaPipe Tasks, the Task Library and Android Studio prepare pictures and name classes by them. They are
described in "Adding metadata to TensorFlow Lite models" (ai.google.dev/edge/litert): a flatbuffer in the
buffer that `Model.metadata` calls TFLITE_METADATA (`deploy.mobile.metadata_format`), and a zip of the
labels at the end of the file (`deploy.mobile.attachment`).

What they can say of a picture is (value - mean) / deviation of R, G and B. They cannot say BGR, and what
their readers cannot feed is told by `obstacle_to_readers`. For BGR the color space is left UNKNOWN and no
normalization is given. Then MediaPipe Tasks and the Task Library refuse the file when they load it
(image_tensor_specs.cc of both); else they would feed it the channels in the wrong order, and nobody notice.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deploy.mobile.attachment import attach, attached_content, attached_files, mapped_model, place_of
from deploy.mobile.metadata_format import (
    AssociatedFile,
    ColorSpace,
    FileKind,
    Normalization,
    TensorDescription,
    TfliteMetadata,
    ValueRange,
    decoded,
    encoded,
)
from edgepress.artifact import Artifact, Format, TensorSpec
from edgepress.errors import InputError, ProofError
from edgepress.files import atomic_path
from edgepress.interface import Activation, Pixels, Scores
from edgepress.manifest import ModelCard
from edgepress.preprocessing import Preprocessing

ENTRY = "TFLITE_METADATA"
LABELS = "labels.txt"
AUTHOR = "edgepress"
"""Who made the file; of who made the model nothing is known."""

_NOTHING = "Nothing was written. Report it: this is a mistake in edgepress."


def with_metadata(
    source: Path, destination: Path, card: ModelCard, artifact: Artifact, licence: str | None = None
) -> TfliteMetadata:
    """Write a TFLite file again, with metadata and labels, and prove it.

    The model in it is the same bytes in another place. Memory stays flat: a file of any size is copied in
    blocks of a few MB.

    Args:
        source: The artifact's file; unchanged.
        destination: New file, written whole or not at all.
        card: Of the model.
        artifact: In `source`.
        licence: Of the model, where it is known.

    Returns:
        What was written.

    Raises:
        InputError: `source` is no such file, has metadata already, or gets too large.
        ProofError: What was written does not read as it was meant; nothing is left.
    """
    metadata = metadata_for(source, card, artifact, licence)
    files = {} if card.labels is None else {LABELS: labels_text(card.labels).encode()}
    with atomic_path(destination) as temporary:
        moved = attach(source, temporary, ENTRY, encoded(metadata), files)
        _prove(source, temporary, moved, metadata, files)
        if labels_of(temporary) != card.labels:
            raise ProofError(f"{LABELS} holds other labels than the model has. {_NOTHING}")
    return metadata


def metadata_of(path: Path) -> TfliteMetadata:
    """The metadata in a TFLite file.

    Raises:
        InputError: It is no TFLite file, has none, or they are damaged.
    """
    content = attached_content(path, ENTRY)
    if content is None:
        raise InputError(f"{path} has no TFLite Metadata ({ENTRY}). Bundle the model for a phone.")
    try:
        return decoded(content)
    except ValueError as error:
        raise InputError(f"The TFLite Metadata in {path} cannot be read: {error}. Bundle it anew.") from error


def labels_of(path: Path) -> tuple[str, ...] | None:
    """The labels at the end of a TFLite file; None if there are none.

    Raises:
        InputError: They are damaged.
    """
    content = attached_files(path).get(LABELS)
    try:
        return None if content is None else tuple(content.decode().split("\n")[:-1])
    except ValueError as error:
        raise InputError(f"{LABELS} in {path} is no text ({error}). Bundle it anew.") from error


def labels_text(labels: tuple[str, ...]) -> str:
    """The content of labels.txt: a label a line."""
    return "".join(f"{label}\n" for label in labels)


def obstacle_to_readers(card: ModelCard, artifact: Artifact) -> str | None:
    """Why readers that go by metadata cannot feed this file, and what to do; None if they can.

    These are MediaPipe Tasks and the Task Library. Who feeds the file by other code is not concerned.
    """
    given = artifact.inputs[0]
    if artifact.interface.pixels is Pixels.PREPROCESSED and card.preprocessing.affine.reverses_channels:
        return (
            f"{artifact.id} takes BGR, and readers of TFLite Metadata know RGB alone. Export with "
            "--pixels rgb: then the preprocessing is inside."
        )
    if given.dtype not in {"float32", "uint8"}:
        return (
            f"{artifact.id} takes {given.dtype}, and readers of TFLite Metadata feed float32 or uint8. "
            "Bundle a --variant with float32 input and output."
        )
    if given.shape[0] != 1:
        return (
            f"{artifact.id} takes {given.shape[0]} pictures at a time, and readers of TFLite Metadata feed "
            "one. Export with --batch 1."
        )
    return None


def metadata_for(
    path: Path, card: ModelCard, artifact: Artifact, licence: str | None = None
) -> TfliteMetadata:
    """What is to be said of an artifact's file, with inputs and outputs in the order of its graph.

    Args:
        path: The file.
        card: Of the model.
        artifact: In that file.
        licence: Of the model, where it is known.

    Raises:
        InputError: It is no TFLite file, or its inputs and outputs are not those of the artifact.
    """
    if artifact.format is not Format.TFLITE:
        raise InputError(
            f"{artifact.id} is {artifact.format.value}, and TFLite Metadata need a .tflite file."
        )
    specs = {tensor.name: tensor for tensor in (*artifact.inputs, *artifact.outputs)}
    inputs, outputs = _names(path, artifact)
    head = artifact.outputs[0].name
    rest = "" if card.labels is None else f", in the order of {LABELS}"
    return TfliteMetadata(
        name=card.name,
        description=f"Image classifier with {card.class_count} classes{rest}. Variant {artifact.id}, "
        f"{artifact.precision.value.upper()}; weights: {card.source}.",
        version=f"{artifact.id}@{artifact.sha256[:12]}",
        author=AUTHOR,
        licence=licence,
        inputs=tuple(_input(specs[name], card, artifact) for name in inputs),
        outputs=tuple(
            _scores(specs[name], card, artifact) if name == head else _further(specs[name])
            for name in outputs
        ),
    )


def _names(path: Path, artifact: Artifact) -> tuple[list[str], list[str]]:
    """Of the graph's inputs and outputs as the signature calls them, in the order of the graph."""
    with mapped_model(path) as model:
        graph = model.Subgraphs(0)
        signature = model.SignatureDefs(0) if model.SignatureDefsLength() else None
        names = {} if signature is None else _names_of_tensors(signature)
        inputs = [graph.Inputs(i) for i in range(graph.InputsLength())]
        outputs = [graph.Outputs(i) for i in range(graph.OutputsLength())]
        found = tuple([names.get(index, "?") for index in side] for side in (inputs, outputs))
    wanted = tuple([tensor.name for tensor in side] for side in (artifact.inputs, artifact.outputs))
    if [sorted(side) for side in found] != [sorted(side) for side in wanted]:
        raise InputError(
            f"{path}: wanted inputs and outputs {wanted}, as the manifest says, got {found}. "
            "Export the model anew."
        )
    return found[0], found[1]


def _names_of_tensors(signature: Any) -> dict[int, str]:
    maps = [signature.Inputs(i) for i in range(signature.InputsLength())]
    maps += [signature.Outputs(i) for i in range(signature.OutputsLength())]
    return {each.TensorIndex(): each.Name().decode() for each in maps}


def _input(tensor: TensorSpec, card: ModelCard, artifact: Artifact) -> TensorDescription:
    preprocessing = card.preprocessing
    size = f"Picture of {preprocessing.width} x {preprocessing.height} pixels"
    crop = (
        "The model was measured on the middle of pictures, scaled (bilinear, antialiased) until it is "
        f"{preprocessing.crop_ratio:g} of their shorter side."
    )
    if artifact.interface.pixels is Pixels.RGB:
        said = f"{size}, RGB, 0 to 255 as decoded: the normalization is inside. {crop}"
        return TensorDescription(tensor.name, said, ColorSpace.RGB)
    normalization = _normalization(preprocessing)
    mean, deviation = (_listed(values) for values in (normalization.mean, normalization.deviation))
    formula = f"(value - mean) / deviation with mean {mean} and deviation {deviation} of R, G and B"
    if preprocessing.affine.reverses_channels:
        said = (
            f"{size}, BGR: {formula}, then the order of the channels is reversed. TFLite Metadata cannot "
            "say BGR, so no color space and no normalization are given: prepare pictures in your own code. "
            f"{crop}"
        )
        return TensorDescription(tensor.name, said, ColorSpace.UNKNOWN)
    said = f"{size}, RGB: {formula}. {crop}"
    return TensorDescription(tensor.name, said, ColorSpace.RGB, normalization)


def _listed(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _normalization(preprocessing: Preprocessing) -> Normalization:
    """The preprocessing's values * scale + offset as (values - mean) / deviation, in float32."""
    affine = preprocessing.affine
    pairs = zip(affine.scale, affine.offset, strict=True)
    return Normalization(
        mean=_float32(*(0.0 - offset / scale for scale, offset in pairs)),
        deviation=_float32(*(1 / scale for scale in affine.scale)),
    )


def _float32(*values: float) -> tuple[float, ...]:
    return tuple(float(np.float32(value)) for value in values)


def _scores(tensor: TensorSpec, card: ModelCard, artifact: Artifact) -> TensorDescription:
    labels = AssociatedFile(LABELS, "Names of the classes, one a line.", FileKind.TENSOR_AXIS_LABELS)
    name = {Activation.NONE: "", Activation.SOFTMAX: "softmax", Activation.SIGMOID: "sigmoid"}[
        card.activation
    ]
    values = None
    said = f"Score of each of the {card.class_count} classes."
    if name and artifact.interface.scores is Scores.PROBABILITIES:
        said = f"Probability of each of the {card.class_count} classes ({name})."
        values = ValueRange(_float32(0), _float32(1))
    elif name:
        said = f"Logit of each of the {card.class_count} classes; {name} makes probabilities of them."
    return TensorDescription(tensor.name, said, values=values, files=() if card.labels is None else (labels,))


def _further(tensor: TensorSpec) -> TensorDescription:
    return TensorDescription(tensor.name, f"A further output, {tensor.dtype} of shape {list(tensor.shape)}.")


def _prove(
    source: Path, path: Path, moved: int, metadata: TfliteMetadata, files: Mapping[str, bytes]
) -> None:
    """The metadata read as they were meant, the files unzip, and the model is where it was moved to."""
    try:
        found, unzipped = metadata_of(path), attached_files(path)
    except InputError as error:
        raise ProofError(f"The file with metadata cannot be read ({error}). {_NOTHING}") from error
    if found != metadata:
        raise ProofError(f"TFLite Metadata: wanted {metadata}, read {found}. {_NOTHING}")
    if unzipped != dict(files):
        raise ProofError(
            f"Files at the end: wanted {', '.join(files) or 'none'}, unzipped others. {_NOTHING}"
        )
    with mapped_model(source) as old, mapped_model(path) as new:
        wanted, places = _places(old, moved), _places(new, 0)
    if places[: len(wanted)] != wanted or len(places) != len(wanted) + 1:
        raise ProofError(f"The file with metadata refers to other parts than {source.name}. {_NOTHING}")


def _places(model: Any, moved: int) -> list[tuple[int, int]]:
    """(first byte, number of bytes) of what a model consists of, `moved` bytes on; its buffers last."""
    parts = [
        (part(i)._tab.Pos + moved, 0)
        for part, count in (
            (model.Subgraphs, model.SubgraphsLength()),
            (model.OperatorCodes, model.OperatorCodesLength()),
            (model.SignatureDefs, model.SignatureDefsLength()),
        )
        for i in range(count)
    ]
    data = [place_of(model.Buffers(i)) for i in range(model.BuffersLength())]
    return parts + [(begin + moved, size) if size else (0, 0) for begin, size in data]
