"""`edgepress unpack`."""

import argparse
from pathlib import Path

from edgepress.cli.command import Command, Outcome
from edgepress.progress import Progress


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("archive", type=Path, metavar="FILE", help="archive of a bundle (.tar.gz)")
    add(
        "--out",
        type=Path,
        metavar="PATH",
        help="folder of the bundle, missing or empty (default: the archive without its .tar.gz)",
    )
    add(
        "--public-key",
        type=Path,
        metavar="FILE",
        help="Ed25519 key (PEM) with which the bundle must be signed (default: no signature is checked)",
    )


def _run(arguments: argparse.Namespace, progress: Progress) -> Outcome:
    from deploy.integrity.unpacking import unpack

    unpacked = unpack(arguments.archive, arguments.out, arguments.public_key, progress=progress)
    if unpacked.signature is not None:
        signature = unpacked.signature
    elif unpacked.signer is not None:
        signature = f"signed, as it says, with the key {unpacked.signer}; --public-key checks that"
    else:
        signature = "not signed"
    return Outcome(
        (f"{unpacked.folder}: {unpacked.files}", f"  {signature}"),
        {
            "bundle": str(unpacked.folder),
            "files": unpacked.files,
            "signature": unpacked.signature,
            "signer": unpacked.signer,
        },
    )


COMMAND = Command(
    name="unpack",
    purpose="unpack a bundle's archive, if every file and its signature are what they should be",
    examples=(
        "edgepress unpack bundle-linux-x64-cpu.tar.gz",
        "edgepress unpack bundle-linux-x64-cpu.tar.gz --out classifier --public-key public.pem",
    ),
    add_arguments=_add_arguments,
    run=_run,
)
