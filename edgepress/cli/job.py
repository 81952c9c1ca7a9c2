"""A job: the whole way from a model to its report or bundle, read from one TOML file.

A section is named after a command and its keys after that command's options, so the parsers of the command
line are the only description of both. Everything in a file is checked before anything is run.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import tomllib

from edgepress.cli.arguments import parse, parser_of
from edgepress.cli.command import Command
from edgepress.cli.commands import COMMANDS
from edgepress.dataset import DIGITS
from edgepress.errors import InputError, unknown_choice
from edgepress.models.source import MODELS

STAGES = tuple(
    name
    for name in ("train", "export", "optimize", "parity", "benchmark", "bundle")
    if any(command.name == name for command in COMMANDS)
)
ONLY_IF_PRESENT = frozenset({"train", "bundle"})
TOP_KEYS = ("model", "data", "out")
_EMBEDDED = "vgg16-digits"
_FRAME = frozenset({"help", "quiet", "verbose", "json"})
_SET_BY_TOP_KEYS = {"train": frozenset({"out"}), "export": frozenset({"out"})}
_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list of texts",
}


@dataclass(frozen=True)
class Job:
    """What is to be run, in order.

    Attributes:
        steps: Each command with its checked arguments.
    """

    steps: tuple[tuple[Command, argparse.Namespace], ...]


@dataclass(frozen=True)
class Key:
    """One key that a section may have.

    Attributes:
        name: That of the option, without its dashes.
        kind: bool, int, float, str or list.
        action: The option.
    """

    name: str
    kind: type
    action: argparse.Action


def read_job(path: Path, overrides: Sequence[str] = (), until: str | None = None) -> Job:
    """Read and check a job file.

    Args:
        path: The TOML file.
        overrides: "KEY=VALUE" each, KEY being "model" or "optimize.samples": in place of what the file says.
        until: The last stage to run; None for all.

    Raises:
        InputError: No such file, no TOML, an unknown key or section (with the nearest), a value of the wrong
            type, or DATA that is not there.
    """
    try:
        return _job(_with_overrides(_document(path), overrides), until)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def keys_of(command: Command) -> tuple[Key, ...]:
    """The keys of the section of a command, in the order of its help."""
    reserved = _FRAME | _SET_BY_TOP_KEYS.get(command.name, frozenset())
    return tuple(
        Key(name, _kind(action), action)
        for action in parser_of(command)._actions
        for name in [_long_name(action)]
        if name is not None and name not in reserved
    )


def _long_name(action: argparse.Action) -> str | None:
    return next((o.removeprefix("--") for o in action.option_strings if o.startswith("--")), None)


def _kind(action: argparse.Action) -> type:
    if action.nargs == 0:
        return bool
    if action.nargs == "+":
        return list
    if action.type in {int, float}:
        return action.type
    returned = get_type_hints(action.type).get("return") if callable(action.type) else None
    return returned if returned in {int, float} else str


def _document(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError("there is no such file. Write one with: edgepress init") from error
    except UnicodeDecodeError as error:
        raise InputError(f"is no UTF-8 text ({error}). Write one with: edgepress init") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f'is no TOML ({error}). Texts are quoted: model = "vgg16"') from error


def _with_overrides(document: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The document with each "KEY=VALUE" put in; what VALUE means is decided by the key."""
    document = {k: dict(v) if isinstance(v, dict) else v for k, v in document.items()}
    for text in overrides:
        name, equals, value = text.partition("=")
        section, dot, key = name.rpartition(".")
        if not equals or not key:
            raise InputError(f"--set wants KEY=VALUE, such as optimize.samples=128. Received: {text!r}.")
        if not dot:
            document[key] = value
            continue
        table = document.setdefault(section, {})
        if isinstance(table, dict):
            table[key] = _meant(section, key, value)
    return document


def _meant(section: str, name: str, text: str) -> Any:
    """The text of an override as the TOML value that its key wants; as it is, where that is not possible."""
    kind = next((k.kind for k in keys_of(_command(section)) if k.name == name), str)
    if kind is list:
        return _listed(text)
    if kind is bool:
        return {"true": True, "false": False}.get(text, text)
    if kind is str:
        return text
    try:
        return kind(text)
    except ValueError:
        return text


def _listed(text: str) -> Any:
    """A list as text: `a,b`, or `["a, b"]` as in TOML where the texts have commas of their own."""
    if not text.startswith("["):
        return [item.strip() for item in text.split(",")]
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _command(name: str) -> Command:
    found = next((c for c in COMMANDS if c.name == name and name in STAGES), None)
    if found is None:
        raise unknown_choice("section", name, STAGES)
    return found


def _job(document: Mapping[str, Any], until: str | None) -> Job:
    for name, value in document.items():
        if isinstance(value, dict):
            _command(name)
        elif name not in TOP_KEYS:
            raise unknown_choice("key", name, (*TOP_KEYS, *(f"[{stage}]" for stage in STAGES)))
        else:
            _require_kind(name, value, str)
    top = _top(document, until)
    steps = []
    for stage in STAGES:
        if stage in document or stage not in ONLY_IF_PRESENT:
            steps.append(_step(_command(stage), document.get(stage, {}), top))
        if stage == until:
            break
    return Job(tuple(steps))


def _top(document: Mapping[str, Any], until: str | None) -> dict[str, str | None]:
    """The keys above all sections, with their defaults."""
    if "model" not in document:
        raise InputError(f"the key `model` is missing: {', '.join(MODELS)} or a .keras file is wanted.")
    model, data = document["model"], document.get("data")
    if "train" in document and not model.endswith(".keras"):
        raise InputError(
            f"[train] writes the file that `model` names, so a name ending in .keras is wanted. "
            f"Received: {model!r}."
        )
    if data is None and model != _EMBEDDED and until != "export":
        raise InputError("the key `data` is missing: an image folder (class/*.jpg) or an .npz is wanted.")
    if data not in {None, DIGITS} and not Path(data).exists():
        raise InputError(f"data = {data!r} is not there. Give `digits`, an image folder or an .npz file.")
    return {"model": model, "data": data, "out": document.get("out") or f"out/{Path(model).stem}"}


def _step(
    command: Command, section: Mapping[str, Any], top: Mapping[str, str | None]
) -> tuple[Command, argparse.Namespace]:
    """A command with the arguments that its section and the top keys give it."""
    known = {key.name: key for key in keys_of(command)}
    words: list[str] = []
    for name, value in section.items():
        if name not in known:
            raise unknown_choice(f"key in [{command.name}]", name, known)
        _require_kind(f"{command.name}.{name}", value, known[name].kind)
        words += _words(known[name], value)
    if "data" in known and "data" not in section and top["data"] is not None:
        words.append(f"--data={top['data']}")
    if command.name in _SET_BY_TOP_KEYS:
        words.append(f"--out={top['model' if command.name == 'train' else 'out']}")
    positional = {"train": "data", "export": "model"}.get(command.name, "out")
    try:
        return command, parse([command.name, str(top[positional]), *words])
    except InputError as error:
        raise InputError(f"[{command.name}] {error}") from error


def _words(key: Key, value: Any) -> list[str]:
    """A key and its value as words of the command line."""
    if key.kind is bool:
        return [f"--{key.name}"] if value else []
    if key.kind is list:
        return [f"--{key.name}", *value]
    return [f"--{key.name}={value}"]


def _require_kind(name: str, value: Any, kind: type) -> None:
    fits = type(value) is kind or (kind is float and type(value) is int)
    if kind is list and fits:
        fits = bool(value) and all(isinstance(item, str) for item in value)
    if not fits:
        raise InputError(f"{name}: {_KINDS[kind]} is wanted. Received: {value!r}.")
