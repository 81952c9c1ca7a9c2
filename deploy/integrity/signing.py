"""A bundle's signature, made where the private key is. deploy/runtime/signature.py has its format."""

import logging
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.runtime.bundle import CouldNotRun, Invalid
from deploy.runtime.checksums import SIGNATURE, SUMS, check_files
from deploy.runtime.signature import fingerprint_of, signature_text
from edgepress.errors import InputError, MissingRuntimeError
from edgepress.files import write_bytes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

logger = logging.getLogger(__name__)

_MAKE = "`openssl genpkey -algorithm ed25519 -out private.pem` makes one."


@dataclass(frozen=True)
class Signature:
    """A written signature.

    Attributes:
        path: Of manifest.sig.
        fingerprint: SHA-256 of the public key's DER SubjectPublicKeyInfo, as lower-case hex.
    """

    path: Path
    fingerprint: str


def sign(folder: Path, private_key_path: Path) -> Signature:
    """Write manifest.sig into a bundle: an Ed25519 signature over the bytes of manifest.sha256.

    The same key and bundle give the same signature. A signature that is there is replaced.

    Args:
        folder: Of the bundle. Every file is compared with its checksum first: nobody signs a damaged one.
        private_key_path: PEM file, as `openssl genpkey -algorithm ed25519` writes it, without a password.

    Raises:
        InputError: The key is missing, encrypted, or of another kind; or the bundle is not as it was made.
        MissingRuntimeError: The package `cryptography` is not installed.
    """
    key = read_private_key(private_key_path)
    try:
        check_files(folder)
    except (Invalid, CouldNotRun) as error:
        raise InputError(f"{folder} cannot be signed: {error}") from error
    fingerprint = fingerprint_of(key.public_key())
    signature = key.sign((folder / SUMS).read_bytes())
    write_bytes(folder / SIGNATURE, signature_text(fingerprint, signature).encode())
    return Signature(folder / SIGNATURE, fingerprint)


def signer_with(private_key_path: Path) -> str:
    """Fingerprint of the public key that belongs to a private one.

    Raises:
        InputError, MissingRuntimeError: As `read_private_key` does.
    """
    return fingerprint_of(read_private_key(private_key_path).public_key())


def write_public_key(private_key_path: Path, folder: Path) -> Path:
    """Write the public key of a private one, in PEM form, into a folder.

    Raises:
        InputError, MissingRuntimeError: As `read_private_key` does.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = read_private_key(private_key_path).public_key()
    path = folder / "public.pem"
    write_bytes(path, key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


def read_private_key(path: Path) -> "Ed25519PrivateKey":
    """The key in a PEM file. A warning is logged if others than its owner may read it.

    Raises:
        InputError: The file is missing, encrypted, no private key, or one of another kind.
        MissingRuntimeError: The package `cryptography` is not installed.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        raise MissingRuntimeError("cryptography", "sign") from error
    content = _content_of(path)
    if b"ENCRYPTED" in content:  # PKCS #8 and the older form alike
        raise InputError(
            f"The private key {path} is encrypted, and edgepress takes no password. Decrypt it into a file "
            f"that only you can read: umask 077; openssl pkey -in {path} -out plain.pem"
        )
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError(f"{path} is no private key in PEM form. {_MAKE}") from error
    if not isinstance(key, Ed25519PrivateKey):
        kind = type(key).__name__.strip("_").removesuffix("PrivateKey")
        raise InputError(f"The private key {path} is of the kind {kind}, and Ed25519 is wanted. {_MAKE}")
    return key


def _content_of(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"The private key {path} cannot be read ({error.strerror}). Check the path; {_MAKE}"
        ) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        logger.warning("%s can be read by others than its owner. Run: chmod 600 %s", path, path)
    return content
