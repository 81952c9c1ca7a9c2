"""Signatures: of whom a bundle is, with keys and checks of OpenSSL, too."""

import base64
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.integrity.signing import sign
from deploy.runtime.bundle import CouldNotRun, Invalid
from deploy.runtime.signature import check_signature, read_signature, signer_of
from edgepress.errors import InputError, MissingRuntimeError
from edgepress.files import sha256_of_file

Keys = tuple[Path, Path]
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")


def openssl(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=False)


def test_signed_bundle_is_told_with_its_key(plain_bundle: Path, key_pair: Keys) -> None:
    assert signer_of(plain_bundle) is None
    written = sign(plain_bundle, key_pair[0])
    assert written.path == plain_bundle / "manifest.sig"
    assert len(written.fingerprint) == 64
    assert signer_of(plain_bundle) == written.fingerprint
    found = check_signature(plain_bundle, key_pair[1])
    assert found == f"manifest.sha256 is as it was signed with the Ed25519 key {written.fingerprint}"
    before = written.path.read_bytes()
    sign(plain_bundle, key_pair[0])
    assert written.path.read_bytes() == before, "the same key and bundle give the same bytes"


@needs_openssl
def test_openssl_makes_the_keys_and_checks_the_signature(plain_bundle: Path, tmp_path: Path) -> None:
    private, public, der = tmp_path / "k.pem", tmp_path / "p.pem", tmp_path / "p.der"
    assert openssl("genpkey", "-algorithm", "ed25519", "-out", private).returncode == 0
    private.chmod(0o600)
    assert openssl("pkey", "-in", private, "-pubout", "-out", public).returncode == 0
    assert openssl("pkey", "-in", private, "-pubout", "-outform", "DER", "-out", der).returncode == 0
    written = sign(plain_bundle, private)
    assert check_signature(plain_bundle, public)
    assert written.fingerprint == sha256_of_file(der)
    line = next(x for x in written.path.read_text().splitlines() if x.startswith("signature: "))
    raw = tmp_path / "raw.sig"
    raw.write_bytes(base64.b64decode(line.removeprefix("signature: ")))
    check = ("pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-sigfile", raw, "-in")
    done = openssl(*check, plain_bundle / "manifest.sha256")
    if "rawin" in done.stderr:
        pytest.skip("this openssl is older than 3.0")
    assert done.returncode == 0, done.stderr
    assert openssl(*check, plain_bundle / "manifest.json").returncode != 0


def test_removed_foreign_and_wrong_signatures_are_invalid(
    plain_bundle: Path, key_pair: Keys, tmp_path: Path
) -> None:
    other = other_key(tmp_path)
    with pytest.raises(
        Invalid, match="manifest.sig is missing, and a signed bundle was asked for. Get the bundle"
    ):
        check_signature(plain_bundle, key_pair[1])
    sign(plain_bundle, other)
    with pytest.raises(Invalid, match=r"signed with the key \w{64}, and public.pem is \w{64}. Ask who made"):
        check_signature(plain_bundle, key_pair[1])
    foreign = (plain_bundle / "manifest.sig").read_text().splitlines()
    sign(plain_bundle, key_pair[0])
    own = (plain_bundle / "manifest.sig").read_text().splitlines()
    mixed = "\n".join([*own[:3], foreign[3], ""])  # our key's name over their signature
    (plain_bundle / "manifest.sig").write_text(mixed)
    with pytest.raises(Invalid, match="manifest.sha256 is not what was signed with the key"):
        check_signature(plain_bundle, key_pair[1])


def other_key(tmp_path: Path) -> Path:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    path = tmp_path / "other.pem"
    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    return path


def test_manifest_rewritten_to_match_a_changed_model_is_invalid(plain_bundle: Path, key_pair: Keys) -> None:
    from deploy.runtime.checksums import check_files

    sign(plain_bundle, key_pair[0])
    model, sums = plain_bundle / "model.onnx", plain_bundle / "manifest.sha256"
    old = sha256_of_file(model)
    model.write_bytes(b"x" + model.read_bytes()[1:])
    sums.write_text(sums.read_text().replace(old, sha256_of_file(model)))
    assert check_files(plain_bundle)  # only the signature can tell
    with pytest.raises(Invalid, match="manifest.sha256 is not what was signed"):
        check_signature(plain_bundle, key_pair[1])


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + "\n",
        lambda text: text[:-1],
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("-v1", "-v2"),
        lambda text: text.replace("ed25519", "none"),
        lambda text: text.replace("key-sha256: ", "key-sha256:  "),
        lambda text: text.replace(text.splitlines()[2], text.splitlines()[2].upper()),
        lambda text: "\n".join(
            line.upper() if i == 2 else line for i, line in enumerate(text.split("\n"))
        ).replace("KEY-SHA256", "key-sha256"),
        lambda text: text[:-3] + "\n",  # without the padding of base64
        lambda text: text[:-4] + chr(ord(text[-4]) + 1) + text[-3:],  # bits that base64 does not use
        lambda text: text.replace("signature: ", "signature: A"),
        lambda _: "",
        lambda _: "é" * 10,
    ],
)
def test_every_other_spelling_of_a_signature_is_invalid(
    plain_bundle: Path, key_pair: Keys, change: Callable[[str], str]
) -> None:
    path = sign(plain_bundle, key_pair[0]).path
    text = path.read_text()
    assert change(text) != text
    path.write_bytes(change(text).encode())
    with pytest.raises(Invalid, match="manifest.sig is no signature.*Get the bundle again"):
        check_signature(plain_bundle, key_pair[1])


def test_only_a_small_signature_and_list_are_read(plain_bundle: Path, key_pair: Keys) -> None:
    path = sign(plain_bundle, key_pair[0]).path
    whole = path.read_bytes()
    path.write_bytes(whole * 10)
    with pytest.raises(Invalid, match="manifest.sig is larger than 1024 bytes. Get the bundle again"):
        check_signature(plain_bundle, key_pair[1])
    path.write_bytes(whole)
    (plain_bundle / "manifest.sha256").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(Invalid, match="manifest.sha256 is larger than 1048576 bytes"):
        check_signature(plain_bundle, key_pair[1])


@pytest.mark.parametrize("name", ["manifest.sig", "manifest.sha256"])
def test_reading_that_fails_is_no_verdict(
    plain_bundle: Path, key_pair: Keys, make_unreadable: Callable[[str], None], name: str
) -> None:
    sign(plain_bundle, key_pair[0])
    make_unreadable(name)
    with pytest.raises(CouldNotRun, match=f"{name} cannot be read .*Input/output error.*Check its rights"):
        check_signature(plain_bundle, key_pair[1])


def test_signature_that_is_a_link_is_invalid(plain_bundle: Path, key_pair: Keys, tmp_path: Path) -> None:
    path = sign(plain_bundle, key_pair[0]).path
    path.rename(tmp_path / "aside")
    path.symlink_to(tmp_path / "aside")
    with pytest.raises(Invalid, match="manifest.sig is no file"):
        read_signature(plain_bundle)


def rsa_key(path: Path, password: bytes | None = None) -> Path:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    key = rsa.generate_private_key(65537, 2048)
    kind = BestAvailableEncryption(password) if password else NoEncryption()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, kind))
    path.chmod(0o600)
    path.with_suffix(".pub").write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return path


def test_private_key_that_cannot_be_used_is_refused(
    plain_bundle: Path, key_pair: Keys, tmp_path: Path
) -> None:
    (tmp_path / "no.pem").write_text("no key")
    for path, message in (
        (rsa_key(tmp_path / "rsa.pem"), "is of the kind RSA, and Ed25519 is wanted. `openssl genpkey"),
        (
            rsa_key(tmp_path / "locked.pem", b"x"),
            "takes no password. Decrypt it .*: umask 077; openssl pkey -in",
        ),
        (key_pair[1], "is no private key in PEM form. `openssl genpkey -algorithm ed25519"),
        (tmp_path / "no.pem", "is no private key in PEM form"),
        (tmp_path / "nowhere.pem", r"cannot be read \(No such file or directory\). Check the path; `openssl"),
        (tmp_path, "cannot be read"),
    ):
        with pytest.raises(InputError, match=message) as refusal:
            sign(plain_bundle, path)
        assert "\n" not in str(refusal.value)
    assert not (plain_bundle / "manifest.sig").exists()


def test_public_key_that_cannot_be_used_is_no_verdict(
    plain_bundle: Path, key_pair: Keys, tmp_path: Path
) -> None:
    sign(plain_bundle, key_pair[0])
    rsa_key(tmp_path / "rsa.pem")
    (tmp_path / "no.pem").write_text("no key")
    for path, message in (
        (key_pair[0], "is a private key, which belongs on no device.*openssl pkey -in private.pem -pubout"),
        (tmp_path / "rsa.pub", "is of the kind RSAPublicKey, and Ed25519 is wanted"),
        (tmp_path / "no.pem", "is no public key in PEM form. `openssl pkey"),
        (tmp_path / "nowhere.pem", "cannot be read .No such file or directory.. Check the path"),
    ):
        with pytest.raises(CouldNotRun, match=message):
            check_signature(plain_bundle, path)


def test_key_that_others_may_read_is_used_with_a_warning(
    plain_bundle: Path, key_pair: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "deploy.integrity.signing"):
        sign(plain_bundle, key_pair[0])
        assert caplog.messages == []
        key_pair[0].chmod(0o640)
        sign(plain_bundle, key_pair[0])
    assert caplog.messages == [
        f"{key_pair[0]} can be read by others than its owner. Run: chmod 600 {key_pair[0]}"
    ]


def test_damaged_bundle_is_not_signed(plain_bundle: Path, key_pair: Keys) -> None:
    (plain_bundle / "model.onnx").write_bytes(b"other")
    with pytest.raises(InputError, match="plain cannot be signed: model.onnx: SHA-256 is"):
        sign(plain_bundle, key_pair[0])
    assert not (plain_bundle / "manifest.sig").exists()


def test_without_the_package_a_missing_signature_is_invalid_and_another_is_no_verdict(
    plain_bundle: Path, key_pair: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign(plain_bundle, key_pair[0])
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        CouldNotRun, match="checked by the package cryptography .*Run: pip install cryptography"
    ):
        check_signature(plain_bundle, key_pair[1])
    (plain_bundle / "manifest.sig").unlink()
    with pytest.raises(Invalid, match="manifest.sig is missing"):
        check_signature(plain_bundle, key_pair[1])
    with pytest.raises(MissingRuntimeError, match="'cryptography' is not installed"):
        sign(plain_bundle, key_pair[0])


def test_verify_on_the_device_asks_for_the_signature_only_with_a_key(
    small_bundle: Path, key_pair: Keys, run_script: Callable[..., Any]
) -> None:
    script, options = small_bundle / "verify.py", ("--public-key", key_pair[1], "--json")
    done = run_script(script, *options)
    assert done.returncode == 1
    assert json.loads(done.stdout)["checks"]["failed"].startswith("manifest.sig is missing")
    fingerprint = sign(small_bundle, key_pair[0]).fingerprint
    done = run_script(script, *options)
    assert done.returncode == 0, done.stdout
    assert fingerprint in json.loads(done.stdout)["checks"]["signature"]
    assert "signature" not in json.loads(run_script(script, "--json").stdout)["checks"]
