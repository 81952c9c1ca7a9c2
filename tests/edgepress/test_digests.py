import json
import os
import time
from pathlib import Path

import pytest

from edgepress import digests
from edgepress.digests import DIGESTS, remember_sha256, remembered_sha256
from edgepress.files import sha256_of_path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "saved" / "variables").mkdir(parents=True)
    (tmp_path / "saved" / "variables" / "data").write_bytes(b"weights")
    time.sleep(0.05)  # longer than a tick of the file system's clock
    return tmp_path


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Paths that were really hashed."""
    paths: list[Path] = []

    def hash_path(path: Path) -> str:
        paths.append(path)
        return sha256_of_path(path)

    monkeypatch.setattr(digests, "sha256_of_path", hash_path)
    return paths


@pytest.mark.parametrize("name", ["file", "saved"])
def test_remembered_sha256_hashes_once(folder: Path, hashed: list[Path], name: str) -> None:
    for _ in range(3):
        assert remembered_sha256(folder, name) == sha256_of_path(folder / name)
    assert len(hashed) == 1


@pytest.mark.parametrize("name", ["file", "saved/variables/data"])
def test_remembered_sha256_notices_a_changed_byte_of_the_same_size_and_time(folder: Path, name: str) -> None:
    artifact = name.split("/", maxsplit=1)[0]
    before = remembered_sha256(folder, artifact)
    path = folder / name
    stat = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert remembered_sha256(folder, artifact) != before
    assert remembered_sha256(folder, artifact) == sha256_of_path(folder / artifact)


def test_remembered_sha256_does_not_trust_a_file_written_a_moment_ago(
    tmp_path: Path, hashed: list[Path]
) -> None:
    (tmp_path / "file").write_bytes(b"content")
    future_ns = time.time_ns() + 10**12
    os.utime(tmp_path / "file", ns=(future_ns, future_ns))
    remembered_sha256(tmp_path, "file")
    remembered_sha256(tmp_path, "file")
    assert len(hashed) == 2


def test_remember_sha256_saves_the_hashing(folder: Path, hashed: list[Path]) -> None:
    remember_sha256(folder, "file", sha256_of_path(folder / "file"))
    assert remembered_sha256(folder, "file") == sha256_of_path(folder / "file")
    assert hashed == []


@pytest.mark.parametrize(
    "content", ["no JSON", "[]", '{"file": 1}', '{"file": {"state": [], "sha256": "x"}}']
)
def test_remembered_sha256_computes_anew_when_what_is_remembered_is_damaged(
    folder: Path, content: str
) -> None:
    (folder / DIGESTS).write_text(content)
    assert remembered_sha256(folder, "file") == sha256_of_path(folder / "file")
    assert json.loads((folder / DIGESTS).read_text())["file"]["sha256"] == sha256_of_path(folder / "file")


def test_remembered_sha256_of_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        remembered_sha256(tmp_path, "file")
