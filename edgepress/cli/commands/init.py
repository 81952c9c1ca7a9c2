"""`edgepress init`."""

import argparse
from pathlib import Path

from edgepress.cli.command import Command, Outcome
from edgepress.errors import InputError
from edgepress.files import write_bytes
from edgepress.progress import Progress


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("config", nargs="?", type=Path, default=Path("job.toml"), metavar="CONFIG", help="default: job.toml")
    add("--model", default="vgg16-digits", metavar="MODEL", help="vgg16, vgg16-digits, or a .keras file")
    add("--data", metavar="DATA", help="digits, an image folder (class/*.jpg), or an .npz")


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:  # noqa: ARG001  # one signature
    from edgepress.cli.job_template import job_template

    path: Path = arguments.config
    if path.exists():
        raise InputError(f"{path} exists and is kept. Give another name, or remove it.")
    write_bytes(path, job_template(arguments.model, arguments.data).encode())
    return Outcome((f"{path}  (edit it, then: edgepress run {path})",), {"config": str(path)})


COMMAND = Command(
    name="init",
    purpose="write a commented job file for `edgepress run`",
    examples=("edgepress init", "edgepress init photos.toml --model out/photos.keras --data photos"),
    add_arguments=_add_arguments,
    run=_run,
)
