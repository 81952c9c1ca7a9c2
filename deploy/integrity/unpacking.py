"""A bundle out of an archive of unknown origin: checked whole before any of it takes its place."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.delivered import BUNDLE_MANIFEST, place_of
from deploy.integrity.archive import SUFFIX
from deploy.integrity.ustar import Limits, read_members
from deploy.runtime.bundle import CouldNotRun, Invalid
from deploy.runtime.checksums import SUMS, check_files, read_sums
from deploy.runtime.signature import check_signature, signer_of
from edgepress.errors import InputError, ProofError
from edgepress.files import atomic_path, writing
from edgepress.progress import Progress, silent

_SUFFIXES = (SUFFIX, ".tgz")
_COMPILED = ("__pycache__", ".pyc", ".pyo", ".so", ".pyd")


@dataclass(frozen=True)
class Unpacked:
    """A bundle that was unpacked.

    Attributes:
        folder: Where it is.
        files: What was found of its files, as a clause.
        signature: What was found of its signature, as a clause; None if no public key was given.
        signer: Fingerprint of the key that its signature says it is of; None without a signature.
    """

    folder: Path
    files: str
    signature: str | None
    signer: str | None


def unpack(
    archive: Path,
    out: Path | None = None,
    public_key: Path | None = None,
    limits: Limits = Limits(),  # noqa: B008  # it is frozen
    progress: Progress = silent,
) -> Unpacked:
    """Unpack a bundle, check every file of it, and only then give it its place.

    Nothing in the archive is trusted: what could be written elsewhere, what is no plain file or folder, what
    is too much, and what is not named in manifest.sha256 is refused. On failure nothing is left.

    Args:
        archive: A `.tar.gz` as `edgepress bundle` writes it.
        out: Folder of the bundle, which must be missing or empty; None for the archive's name without its
            suffix, beside it.
        public_key: PEM file of the Ed25519 key with which it must be signed; None to check no signature.
        limits: How much is unpacked at most.
        progress: Told "unpack", in MiB of the archive.

    Raises:
        InputError: It is no archive of a bundle, could harm, or does not fit; `out` is taken; or the key
            cannot be used.
        ProofError: A file is not what manifest.sha256 says, or the signature is missing, wrong or of another
            key.
    """
    if not archive.is_file():
        wrong = "is no file" if archive.exists() else "is not there"
        raise InputError(f"{archive} {wrong}. Give the {SUFFIX} that `edgepress bundle` wrote.")
    place = place_of(out if out is not None else _beside(archive))
    _require_free(place)
    with _no_parents_left(place), atomic_path(place) as temporary:
        _extract(archive, temporary, limits, progress)
        found = _checked(archive, temporary, public_key)
        _require_free(place)  # it may have been taken meanwhile
    return Unpacked(place if out is None else out, *found)


def _beside(archive: Path) -> Path:
    for suffix in _SUFFIXES:
        if archive.name.endswith(suffix) and archive.name != suffix:
            return archive.with_name(archive.name.removesuffix(suffix))
    raise InputError(f"{archive} does not end with {' or '.join(_SUFFIXES)}. Name the folder with --out.")


def _require_free(place: Path) -> None:
    with writing(place):
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise InputError(f"{place} is there and is no folder. It was not touched: give another --out.")
        if place.is_dir() and any(place.iterdir()):
            raise InputError(
                f"{place} is not empty. Nothing in it was touched: give another --out, or move it away "
                "yourself."
            )


@contextlib.contextmanager
def _no_parents_left(place: Path) -> Iterator[None]:
    """Remove the folders above that were made for it, if it does not come."""
    missing = [folder for folder in place.parents if not folder.exists()]
    try:
        yield
    except BaseException:
        for folder in missing:
            with contextlib.suppress(OSError):  # something else has come into it
                folder.rmdir()
        raise


def _extract(archive: Path, folder: Path, limits: Limits, progress: Progress) -> None:
    """Write the content of the archive's one folder as `folder`, which is not there yet.

    Modes, owners and times are not taken over; what is written are new files in new folders.
    """
    folder.mkdir()
    for member, content in read_members(archive, limits, progress):
        inside = member.name.partition("/")[2]
        if inside.endswith(_COMPILED) or "__pycache__" in inside.split("/"):
            raise InputError(
                f"{archive}: {member.name!r} is compiled code, which no bundle has. Do not use it."
            )
        if member.is_folder:
            (folder / inside).mkdir(parents=True, exist_ok=True)
            continue
        (folder / inside).parent.mkdir(parents=True, exist_ok=True)
        with (folder / inside).open("xb") as stream:
            for chunk in content:
                stream.write(chunk)


def _checked(archive: Path, folder: Path, public_key: Path | None) -> tuple[str, str | None, str | None]:
    """What was found of the files and of the signature, and who says to have signed."""
    try:
        files = check_files(folder)
        if BUNDLE_MANIFEST not in read_sums(folder):
            raise ProofError(
                f"{archive} holds no bundle: its {SUMS} does not name {BUNDLE_MANIFEST}. Do not use it."
            )
        signature = None if public_key is None else check_signature(folder, public_key)
        return files, signature, signer_of(folder)
    except Invalid as error:
        raise ProofError(f"{archive} holds no sound bundle, and nothing was unpacked: {error}") from error
    except CouldNotRun as error:
        raise InputError(f"{archive} cannot be checked, and nothing was unpacked: {error}") from error
