"""Whose bundle this is: the signature in manifest.sig against a public key.

Ed25519 (RFC 8032) over the bytes of manifest.sha256, which has the SHA-256 of every other file. manifest.sig
is text of exactly this form; the key is named by the SHA-256 of its DER SubjectPublicKeyInfo (RFC 8410):

    edgepress-signature-v1
    algorithm: ed25519
    key-sha256: 64 lower-case hex digits
    signature: the 64 bytes in base64

So OpenSSL can check it, too: `sed -n 's/^signature: //p' manifest.sig | base64 -d > raw.sig`, then
`openssl pkeyutl -verify -pubin -inkey public.pem -rawin -in manifest.sha256 -sigfile raw.sig`.

SPDX-License-Identifier: Apache-2.0
"""

import base64
import hashlib
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from deploy.runtime.bundle import CouldNotRun, Invalid
    from deploy.runtime.checksums import SIGNATURE, SUMS
else:  # beside it, on a device
    from bundle import CouldNotRun, Invalid
    from checksums import SIGNATURE, SUMS

_SIGNATURE_BYTES = 64
_LARGEST_BYTES = 1 << 10
_LARGEST_SUMS_BYTES = 1 << 20
_FROM_SIGNER = "Get the bundle again from who signed it."


def signature_text(fingerprint: str, signature: bytes) -> str:
    """The content of manifest.sig.

    Args:
        fingerprint: Of the public key, as `fingerprint_of` gives it.
        signature: 64 bytes.
    """
    return (
        "edgepress-signature-v1\n"
        "algorithm: ed25519\n"
        f"key-sha256: {fingerprint}\n"
        f"signature: {base64.b64encode(signature).decode()}\n"
    )


def fingerprint_of(public_key: Any) -> str:
    """SHA-256 of a public key's DER SubjectPublicKeyInfo, as lower-case hex.

    Args:
        public_key: Ed25519PublicKey of the package `cryptography`.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    content = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(content).hexdigest()


def signer_of(folder: Path) -> "str | None":
    """Fingerprint of the key that manifest.sig says it is of, unproven; None if there is no manifest.sig.

    Raises:
        Invalid: manifest.sig is there and is no signature.
        CouldNotRun: It cannot be read.
    """
    return read_signature(folder)[0] if (folder / SIGNATURE).exists() else None


def read_signature(folder: Path) -> "tuple[str, bytes]":
    """Fingerprint of the key, and the 64 bytes of the signature, as manifest.sig says.

    Raises:
        Invalid: manifest.sig is missing, or differs in any byte from the form above.
        CouldNotRun: It cannot be read.
    """
    content = _content_of(folder / SIGNATURE, _LARGEST_BYTES)
    try:
        values = [line.partition(": ")[2] for line in content.decode("ascii").split("\n")]
        fingerprint, signature = values[2], base64.b64decode(values[3], validate=True)
    except (ValueError, IndexError) as error:
        raise Invalid(f"{SIGNATURE} is no signature ({error}). {_FROM_SIGNER}") from error
    # Written anew and compared: base64 and hex have several spellings for the same bytes.
    canonical = signature_text(fingerprint.lower(), signature).encode()
    is_whole = len(signature) == _SIGNATURE_BYTES and len(fingerprint) == hashlib.sha256().digest_size * 2
    if not is_whole or canonical != content:
        raise Invalid(f"{SIGNATURE} is no signature of the form edgepress-signature-v1. {_FROM_SIGNER}")
    return fingerprint, signature


def check_signature(folder: Path, public_key_path: Path) -> str:
    """manifest.sha256 is, byte for byte, what the owner of the key signed. `check_files` does the rest.

    Args:
        folder: Of the bundle.
        public_key_path: PEM file of an Ed25519 public key.

    Returns:
        What was found, as a clause.

    Raises:
        Invalid: The signature is missing, is wrong, or is by another key.
        CouldNotRun: The package `cryptography` is missing, or the key cannot be used.
    """
    fingerprint, signature = read_signature(folder)
    signed = _content_of(folder / SUMS, _LARGEST_SUMS_BYTES)
    key = _public_key(public_key_path)
    own = fingerprint_of(key)
    if own != fingerprint:
        raise Invalid(
            f"signed with the key {fingerprint}, and {public_key_path.name} is {own}. Ask who made the "
            "bundle for the public key, and do not use it if that is none of theirs."
        )
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, signed)
    except InvalidSignature as error:
        raise Invalid(f"{SUMS} is not what was signed with the key {own}. {_FROM_SIGNER}") from error
    return f"{SUMS} is as it was signed with the Ed25519 key {own}"


def _content_of(path: Path, most_bytes: int) -> bytes:
    """The bytes of a small file; nothing else than a file is opened."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise Invalid(f"{path.name} is no file. {_FROM_SIGNER}")
        with path.open("rb") as stream:
            content = stream.read(most_bytes + 1)
    except FileNotFoundError as error:
        raise Invalid(f"{path.name} is missing, and a signed bundle was asked for. {_FROM_SIGNER}") from error
    except OSError as error:
        raise CouldNotRun(f"{path.name} cannot be read ({error}). Check its rights.") from error
    if len(content) > most_bytes:
        raise Invalid(f"{path.name} is larger than {most_bytes} bytes. {_FROM_SIGNER}")
    return content


def _public_key(path: Path) -> Any:
    """The Ed25519PublicKey in a PEM file."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise CouldNotRun(
            f"a signature is checked by the package cryptography ({error}). Run: pip install cryptography"
        ) from error
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CouldNotRun(
            f"the public key {path} cannot be read ({error.strerror}). Check the path."
        ) from error
    if b"PRIVATE KEY-----" in content:
        raise CouldNotRun(
            f"{path.name} is a private key, which belongs on no device. Give the public one: "
            f"openssl pkey -in {path.name} -pubout -out public.pem"
        )
    try:
        key = load_pem_public_key(content)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CouldNotRun(
            f"{path.name} is no public key in PEM form. `openssl pkey -in private.pem -pubout` writes one."
        ) from error
    if not isinstance(key, Ed25519PublicKey):
        kind = type(key).__name__.strip("_")
        raise CouldNotRun(f"{path.name} is of the kind {kind}, and Ed25519 is wanted. Give the signer's key.")
    return key
