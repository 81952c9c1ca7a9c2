"""`edgepress inspect`."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepress.artifact import Proof
from edgepress.cli.command import Command, Outcome
from edgepress.errors import InputError
from edgepress.inspection.blocks import blocks_of, pairs_of
from edgepress.inspection.layer import Inspection, Layer
from edgepress.progress import Progress
from edgepress.record import to_json

if TYPE_CHECKING:
    from edgepress.inspection.subject import Subject

Row = tuple[str, ...]
_ABSENT = "–"
_SHOWN_UNCOUNTED = 5
_NAME_LENGTH = 35


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help="vgg16, vgg16-digits, a .keras, .onnx or .tflite file, or a folder")
    add("--variant", metavar="ID", help="artifact of the folder")
    add("--compare", metavar="OTHER", help="show another model, file or artifact of the folder beside it")
    add("--plot", type=Path, metavar="FILE", help="draw it: a name ending in .svg or .png")


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:  # noqa: ARG001  # one signature
    from edgepress.inspection.subject import look_into

    subject = look_into(arguments.model, arguments.variant)
    lines = list(page_of(subject))
    value: dict[str, Any] = {"model": value_of(subject)}
    if arguments.compare is not None:
        other = _other(arguments)
        lines = list(comparison_of(subject, other))
        value["other"] = value_of(other)
    if arguments.plot is not None:
        from edgepress.inspection.plot import write_plot

        write_plot(arguments.plot, subject.name, _told(subject))
        lines.append(str(arguments.plot))
        value["plot"] = str(arguments.plot)
    return Outcome(tuple(lines), value)


def _other(arguments: argparse.Namespace) -> "Subject":
    """What --compare names: an artifact of the same folder, or anything that can be looked into."""
    from edgepress.inspection.subject import ARCHITECTURES, look_into

    known = arguments.compare in ARCHITECTURES or Path(arguments.compare).exists()
    if arguments.variant is not None and not known:
        return look_into(arguments.model, arguments.compare)
    return look_into(arguments.compare)


def _told(subject: "Subject") -> Inspection:
    if subject.inspection is None:
        raise InputError(f"{subject.name}: {' '.join(subject.notes)} Choose its source instead.")
    return subject.inspection


def value_of(subject: "Subject") -> dict[str, Any]:
    """A subject as JSON values."""
    value: dict[str, Any] = {
        "name": subject.name,
        "file_bytes": subject.file_bytes,
        "notes": list(subject.notes),
    }
    if (found := subject.inspection) is not None:
        value |= {
            **to_json(found),
            "parameters": found.parameters,
            "macs": found.macs,
            "weight_bytes": found.weight_bytes,
            "blocks": [to_json(block) for block in blocks_of(found)],
        }
    return value


def page_of(subject: "Subject") -> Iterator[str]:
    """A subject for people, line by line."""
    size = "" if subject.file_bytes is None else f", {subject.file_bytes / 1e6:.1f} MB on disk"
    yield f"{_printable(subject.name)}{size}"
    yield from map(_printable, subject.notes)
    if (found := subject.inspection) is None:
        return
    for role, specs in (("input", found.inputs), ("output", found.outputs)):
        for spec in specs:
            scale = spec.quantization
            stored = "" if scale is None else f", scale {scale.scale:g}, zero point {scale.zero_point}"
            shape = "×".join("N" if size is None else str(size) for size in spec.shape)
            yield f"{role} {_shortened(spec.name)}: {shape} {spec.dtype}{stored}"
    yield ""
    head = ("layer", "kind", "result", "parameters", "", "MACs", "", "weights", "stored", "computed")
    yield from _table((head, *(_layer_row(layer, found) for layer in found.layers)), left=(0, 1, 2, 8, 9))
    yield ""
    yield from _table(_block_rows(found), left=(0,))
    yield ""
    yield from _precision_lines(found)
    if found.uncounted:
        shown = ", ".join(_shortened(item) for item in found.uncounted[:_SHOWN_UNCOUNTED])
        more = len(found.uncounted) - _SHOWN_UNCOUNTED
        yield f"MACs are not counted for: {shown}{f' and {more} more' if more > 0 else ''}"
    if found.unlisted:
        yield f"Stored beside these layers: {found.unlisted:,} values (normalizations, slopes, constants)"


def _precision_lines(found: Inspection) -> Iterator[str]:
    """What the weighted layers are by precision, and what is left over beside them."""
    shares = found.shares(Proof.INSPECTED)
    columns = (shares.parameters, found.byte_shares(), shares.macs)
    rows = [
        (name, *(f"{100 * column[name]:.1f} %" for column in columns))
        for name in shares.parameters
        if any(column[name] for column in columns)
    ]
    yield from _table((("precision", "weights", "bytes", "MACs"), *rows), left=(0,))
    yield f"left over: {found.casts} casts, {found.transposes} transposes, {found.reformats} Q/DQ"


def _block_rows(found: Inspection) -> tuple[Row, ...]:
    """The blocks of a model under a head and over their sum."""
    rows: list[Row] = [("block", "layers", "parameters", "", "MACs", "", "weights")]
    for block in blocks_of(found):
        parameters = (f"{block.parameters:,}", _share(block.parameters, found.parameters))
        macs = (f"{block.macs:,}", _share(block.macs, found.macs))
        rows.append((block.name, str(block.layers), *parameters, *macs, _megabytes(block.weight_bytes)))
    sums = (f"{found.parameters:,}", "", f"{found.macs:,}", "", _megabytes(found.weight_bytes))
    return (*rows, ("total", str(len(found.layers)), *sums))


def _layer_row(layer: Layer, whole: Inspection) -> Row:
    parameters = layer.parameters + layer.biases
    return (
        _shown(layer.name),
        layer.kind,
        "×".join(_ABSENT if size is None else str(size) for size in layer.output_shape),
        f"{parameters:,}",
        _share(parameters, whole.parameters),
        f"{layer.macs:,}",
        _share(layer.macs, whole.macs),
        _megabytes(layer.weight_bytes),
        _stored(layer),
        layer.computed.value,
    )


def _stored(layer: Layer) -> str:
    return layer.stored_type or layer.stored.value


def _shown(name: str) -> str:
    """The part of a name that people know: TFLite's are whole paths, of several operations each.

    In paths that begin with "/", PyTorch's, the last module alone is in every block.
    """
    parts = name.split(";", maxsplit=1)[0].split("/")
    kept = parts[-3:-1] if name.startswith("/") else parts[-2:-1]
    return _shortened("/".join(part for part in kept if part) or name)


def _shortened(name: str) -> str:
    """A name that fits its column: its end tells it from others."""
    name = _printable(name)
    return name if len(name) <= _NAME_LENGTH else f"…{name[1 - _NAME_LENGTH :]}"


def _printable(text: str) -> str:
    """A file's names may hold anything; what would move the cursor is shown as its code."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def comparison_of(one: "Subject", other: "Subject") -> Iterator[str]:
    """Two subjects side by side, line by line."""
    first, second = _told(one), _told(other)
    rows: list[Row] = [("", _shortened(one.name), _shortened(other.name), "")]
    for name, a, b in (
        ("parameters", first.parameters, second.parameters),
        ("MACs", first.macs, second.macs),
        ("weight bytes", first.weight_bytes, second.weight_bytes),
        ("file bytes", one.file_bytes, other.file_bytes),
    ):
        rows.append((name, _number(a), _number(b), _ratio(a, b)))
    yield from _table(tuple(rows), left=(0,))
    yield ""
    layers: list[Row] = [("layer", "weights", "weights", "", "stored", "stored")]
    for pair in pairs_of(first, second):
        a, b = (None if layer is None else layer.weight_bytes for layer in (pair.one, pair.other))
        stored = (_ABSENT if layer is None else _stored(layer) for layer in (pair.one, pair.other))
        layers.append((_shown(pair.name), _number(a), _number(b), _ratio(a, b), *stored))
    yield from _table(tuple(layers), left=(0, 4, 5))


def _number(value: int | None) -> str:
    return _ABSENT if value is None else f"{value:,}"


def _ratio(one: int | None, other: int | None) -> str:
    return "" if not one or other is None else f"×{other / one:.3f}"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else _ABSENT


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.2f} MB"


def _table(rows: tuple[Row, ...], left: tuple[int, ...]) -> Iterator[str]:
    """Aligned columns; those of `left` to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = (
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


COMMAND = Command(
    name="inspect",
    purpose="show what a model consists of: layers, parameters, MACs, precision",
    examples=(
        "edgepress inspect vgg16",
        "edgepress inspect vgg16 --plot vgg16.svg",
        "edgepress inspect out/vgg16-digits --variant onnx-fp32 --compare onnx-static_wi7_au8",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
