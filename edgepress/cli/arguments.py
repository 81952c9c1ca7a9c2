"""The command line as data: one frozen request per command, checked before anything is imported."""

import argparse
import difflib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import NoReturn, TypeVar

import edgepress
from edgepress.artifact import Device, Format
from edgepress.cli.console import Verbosity
from edgepress.errors import InputError, unknown_choice
from edgepress.preprocessing import PreprocessMode
from edgepress.target import HOST, target_of
from export.vgg16 import Style

Choice = TypeVar("Choice", bound=Enum)

EXPORTED = (Format.SAVED_MODEL, Format.ONNX, Format.TFLITE)


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are InputErrors, with a suggestion for a misspelt option."""

    def error(self, message: str) -> NoReturn:
        hint = ""
        for word in message.split():
            if word.startswith("--") and word not in self._option_string_actions:
                near = difflib.get_close_matches(word, list(self._option_string_actions), n=1)
                hint = f" Did you mean {near[0]}?" if near else ""
        raise InputError(f"{message}.{hint} See: {self.prog} --help")


def _choice(kind: str, values: Iterable[Choice]) -> Callable[[str], Choice]:
    """A converter for argparse: the member of that value, or an error with a suggestion."""
    members = {member.value: member for member in values}

    def convert(text: str) -> Choice:
        if text not in members:
            raise unknown_choice(kind, text, members)
        return members[text]

    return convert


def _known_target(text: str) -> str:
    target_of(text)
    return text


def _count(text: str) -> int:
    """A positive whole number."""
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"Wanted a whole number of at least 1. Received: {text!r}.")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise InputError(f"Wanted a seed from 0 to 4294967295. Received: {text!r}.")
    return int(text)


def out_folder(arguments: argparse.Namespace) -> Path:
    """Where `export` writes: --out, or out/NAME."""
    return Path(arguments.out) if arguments.out else Path("out") / Path(arguments.model).stem


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Where trained weights are kept between runs (XDG base directory specification)."""
    base = environment.get("XDG_CACHE_HOME") or os.path.join(  # noqa: PTH118  # expanduser of a mapping
        environment.get("HOME", "."), ".cache"
    )
    return Path(base) / "edgepress"


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line.

    Raises:
        InputError: A command, option or value that does not exist, with the nearest that does.
        SystemExit: After --help or --version.
    """
    parser = _Parser(
        prog="edgepress",
        description="Press a Keras CNN for the edge: export, quantize, build engines, measure, prove.",
        epilog="example: edgepress export vgg16-digits && edgepress optimize out/vgg16-digits "
        "&& edgepress benchmark out/vgg16-digits",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"edgepress {edgepress.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_export(commands)
    _add_optimize(commands)
    _add_benchmark(commands)
    _add_report(commands)
    first = next((word for word in argv if not word.startswith("-")), None)
    if first is not None and first not in commands.choices:
        raise unknown_choice("command", first, commands.choices)
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        commands.choices[arguments.command].error(f"unrecognized arguments: {' '.join(unknown)}")
    return arguments


def _add_command(
    commands: "argparse._SubParsersAction[_Parser]", name: str, purpose: str, example: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=purpose,
        description=purpose[0].upper() + purpose[1:] + ".",
        epilog=f"example: {example}",
        allow_abbrev=False,
    )
    level = parser.add_mutually_exclusive_group()
    level.set_defaults(verbosity=Verbosity.NORMAL)
    for flag, verbosity in (("--quiet", Verbosity.QUIET), ("--verbose", Verbosity.VERBOSE)):
        level.add_argument(
            flag,
            dest="verbosity",
            action="store_const",
            const=verbosity,
            help="say only what is wrong" if verbosity is Verbosity.QUIET else "say more",
        )
    return parser


def _add_export(commands: "argparse._SubParsersAction[_Parser]") -> None:
    add = _add_command(
        commands,
        "export",
        "turn a Keras model into SavedModel, ONNX and TFLite",
        "edgepress export model.keras --preprocess torch --labels names.txt --out out/mine",
    ).add_argument
    add("model", metavar="MODEL", help="vgg16, vgg16-digits, or a .keras file")
    add(
        "--weights",
        metavar="imagenet|random|FILE",
        help="weights of vgg16 (default: imagenet); FILE is a .weights.h5, .h5 or .keras file",
    )
    add(
        "--style",
        type=_choice("style", Style),
        default=Style.FUNCTIONAL,
        metavar="sequential|functional",
        help="how vgg16 is built (default: functional)",
    )
    add(
        "--format",
        dest="formats",
        type=_choice("format", EXPORTED),
        nargs="+",
        default=EXPORTED,
        metavar="FORMAT",
        help="saved_model, onnx, tflite (default: all three)",
    )
    add(
        "--preprocess",
        type=_choice("preprocessing", PreprocessMode),
        metavar="caffe|tf|torch|none",
        help="what the model was trained on; needed for a .keras file without its own Rescaling",
    )
    add("--labels", type=Path, metavar="FILE", help="class names, one a line, in the model's order")
    add("--data", metavar="DATA", help="image folder whose class folders name the classes")
    add("--seed", type=_seed, default=0, metavar="N", help="of random weights (default: 0)")
    add("--out", metavar="DIR", help="folder of manifest.json and the artifacts (default: out/NAME)")


def _add_optimize(commands: "argparse._SubParsersAction[_Parser]") -> None:
    add = _add_command(
        commands,
        "optimize",
        "make FP16 and INT8 versions and TensorRT-RTX engines of what was exported",
        "edgepress optimize out/vgg16 --data photos --recipe tensorrt_static_wi8_ai8",
    ).add_argument
    add("folder", type=Path, metavar="DIR", help="folder with a manifest.json")
    add(
        "--target",
        type=_known_target,
        default=HOST,
        metavar="NAME",
        help="device to press for; its instruction set picks the INT8 format (default: host)",
    )
    add(
        "--recipe",
        dest="recipes",
        nargs="+",
        metavar="NAME",
        help="only these recipes (default: all that suit the target)",
    )
    add("--data", metavar="DATA", help="calibration pictures: digits, an image folder, or an .npz")
    add("--samples", type=_count, default=64, metavar="N", help="calibration pictures (default: 64)")
    add("--seed", type=_seed, default=0, metavar="N", help="of the drawing (default: 0)")


def _add_benchmark(commands: "argparse._SubParsersAction[_Parser]") -> None:
    add = _add_command(
        commands,
        "benchmark",
        "measure latency, memory and accuracy of each version against FP32, and write the report",
        "edgepress benchmark out/vgg16 --data photos --quick",
    ).add_argument
    add("folder", type=Path, metavar="DIR", help="folder with a manifest.json")
    add(
        "--device",
        type=_choice("device", Device),
        default=Device.CPU,
        metavar="cpu|cuda",
        help="where to measure (default: cpu)",
    )
    add("--variant", dest="variants", nargs="+", metavar="ID", help="only these artifacts")
    add("--data", metavar="DATA", help="evaluation pictures: digits, an image folder, or an .npz")
    add("--quick", action="store_true", help="fewer samples: for a look, not for a decision")
    add("--threads", type=_count, metavar="N", help="threads of every runtime (default: all cores)")
    add("--limit", type=_count, metavar="N", help="evaluate at most N pictures, drawn with --seed")
    add("--seed", type=_seed, default=0, metavar="N", help="of order and drawing (default: 0)")


def _add_report(commands: "argparse._SubParsersAction[_Parser]") -> None:
    add = _add_command(
        commands,
        "report",
        "write report.md and report.html from results.json",
        "edgepress report out/vgg16-digits",
    ).add_argument
    add("folder", type=Path, metavar="DIR", help="folder with a results.json")
