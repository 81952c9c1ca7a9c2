"""The commented job file that `edgepress init` writes: every key there is, from the parsers themselves."""

import json
from enum import Enum
from pathlib import Path
from typing import Any

from edgepress.cli.commands import COMMANDS
from edgepress.cli.job import ONLY_IF_PRESENT, STAGES, Key, keys_of
from edgepress.dataset import DIGITS

_HEAD = """\
# A job for edgepress: edgepress run THIS-FILE
# A section is named after a command, and its keys after the command's options: edgepress COMMAND --help says
# more. A line that starts with # is not read; what stands there is the default, or an example.
# Paths are relative to the folder in which edgepress is started.
"""
_WIDTH = 34
_EXAMPLES: dict[str, Any] = {
    "labels": "names.txt",
    "data": "photos",
    "weights": "imagenet",
    "preprocess": "caffe",
    "learning-rate": 0.0001,
    "limit": 1000,
    "require": ["precision=int8 runner=litert: speedup>=1.5, top1_drop<=0.5"],
}


def job_template(model: str, data: str | None) -> str:
    """The text of a job file for a model and its DATA."""
    shown = data or (DIGITS if model == "vgg16-digits" else "photos")
    head = [
        _HEAD,
        _line("model", model, "vgg16, vgg16-digits, or a .keras file ([train] writes it)"),
        _line("data", shown, "digits, an image folder (class/*.jpg), or an .npz"),
        _line("out", f"out/{Path(model).stem}", "folder of manifest.json and the artifacts"),
    ]
    sections = [_section(stage) for stage in STAGES]
    return "\n".join(head) + "\n\n" + "\n\n".join(sections) + "\n"


def _section(stage: str) -> str:
    command = next(c for c in COMMANDS if c.name == stage)
    absent = stage in ONLY_IF_PRESENT
    note = " (only if this section is there)" if absent else ""
    lines = [f"# {command.purpose}{note}", f"{'# ' if absent else ''}[{stage}]"]
    lines += ["# " + _line(key.name, _shown(key), key.action.help or "") for key in keys_of(command)]
    return "\n".join(lines)


def _line(name: str, value: Any, comment: str) -> str:
    return f"{name + ' = ' + json.dumps(value):<{_WIDTH}} # {comment}"


def _shown(key: Key) -> Any:
    """The default of a key, or an example of its kind."""
    default = key.action.default
    if isinstance(default, tuple) and default:
        return [item.value if isinstance(item, Enum) else item for item in default]
    if isinstance(default, Enum):
        return default.value
    if default is not None and default != ():
        return default
    if key.name in _EXAMPLES:
        return _EXAMPLES[key.name]
    word = str(key.action.metavar or key.name).split("|")[0]
    return {int: 1, float: 1.0, list: [word]}.get(key.kind, word)
