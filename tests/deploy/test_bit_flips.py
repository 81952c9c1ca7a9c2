"""One bit that is not as it was makes a bundle INVALID, wherever it lies, before anything of it is run."""

import importlib.util
import json
import marshal
import subprocess
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.integrity.signing import sign
from deploy.runtime.bundle import Invalid
from deploy.runtime.checksums import check_files

Scripts = Callable[[Path], tuple[Any, Any]]
Run = Callable[..., Any]
Keys = tuple[Path, Path]
FLIPS = 1000


def files_of(bundle: Path) -> list[Path]:
    """All files but verify.py, which does the checking."""
    found = [path for path in sorted(bundle.rglob("*")) if path.is_file()]
    return [path for path in found if path.name != "verify.py" and path.stat().st_size]


@contextmanager
def flipped(path: Path, at: int, bit: int) -> Iterator[None]:
    """A file with one bit that is not as it was; afterwards it is again."""
    with path.open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)[0]
        stream.seek(at)
        stream.write(bytes([byte ^ 1 << bit]))
        stream.flush()
        yield
        stream.seek(at)
        stream.write(bytes([byte]))


def places(files: list[Path], count: int, seed: int) -> Iterator[tuple[Path, int, int]]:
    """Files with equal probability, so that small ones are hit as often; then a byte and a bit of it."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        path = files[random.integers(len(files))]
        yield path, int(random.integers(path.stat().st_size)), int(random.integers(8))


def require_invalid(bundle: Path, verify: Any, seed: int, public_key: Path | None = None) -> Counter[str]:
    """Flip a bit a thousand times: how often in which file."""
    options = Namespace(public_key=public_key, latency=None, threads=0)
    hit: Counter[str] = Counter()
    for path, at, bit in places(files_of(bundle), FLIPS, seed):
        with flipped(path, at, bit):
            done, verdict = verify.verify(options)
        assert verdict == "INVALID", (path.name, at, bit, done)
        assert [name for name, _ in done] in (["failed"], ["files", "failed"]), "nothing was run before"
        assert "\n" not in done[-1][1]
        hit[path.name] += 1
    return hit


def test_thousand_flips_of_the_digits_bundle_are_found(
    bundle: Path, copy_of: Callable[[Path], Path], scripts_of: Scripts
) -> None:
    folder = copy_of(bundle)
    _, verify = scripts_of(folder)
    hit = require_invalid(folder, verify, seed=0)
    assert set(hit) == {path.name for path in files_of(folder)}
    assert min(hit.values()) > FLIPS / len(hit) / 2
    assert verify.verify()[1] == "VALID"  # each bit is back


def test_thousand_flips_of_a_signed_bundle_are_found(
    small_bundle: Path, key_pair: Keys, scripts_of: Scripts
) -> None:
    sign(small_bundle, key_pair[0])
    _, verify = scripts_of(small_bundle)
    hit = require_invalid(small_bundle, verify, seed=1, public_key=key_pair[1])
    assert hit["manifest.sig"] > 20
    assert hit["manifest.sha256"] > 20
    assert verify.verify(Namespace(public_key=key_pair[1], latency=None, threads=0))[1] == "VALID"


def test_every_bit_of_a_signature_counts(small_bundle: Path, key_pair: Keys) -> None:
    from deploy.runtime.signature import check_signature

    path = sign(small_bundle, key_pair[0]).path
    for at in range(path.stat().st_size):
        for bit in range(8):
            with flipped(path, at, bit), pytest.raises(Invalid):
                check_signature(small_bundle, key_pair[1])
    assert check_signature(small_bundle, key_pair[1])


def test_flips_in_the_script_that_checks_are_found_by_the_toolkit(small_bundle: Path) -> None:
    for path, at, bit in places([small_bundle / "verify.py"], 50, seed=2):
        with flipped(path, at, bit), pytest.raises(Invalid, match="verify.py: SHA-256 is"):
            check_files(small_bundle)


def test_flips_in_each_file_are_found_on_the_device(
    small_bundle: Path, key_pair: Keys, run_script: Run
) -> None:
    """In processes of their own: exit code 1 and no traceback, also where verify.py imports the file."""
    sign(small_bundle, key_pair[0])
    script, options = small_bundle / "verify.py", ("--public-key", key_pair[1])
    files = files_of(small_bundle)
    assert len(files) >= 12
    for i, path in enumerate(files):
        (_, at, bit), *_ = places([path], 1, seed=i)
        with flipped(path, at, bit):
            done = run_script(script, *options)
            assert (done.returncode, done.stderr) == (1, ""), (path.name, at, bit, done)
            assert done.stdout.endswith("INVALID\n")
            assert done.stdout.splitlines()[-2].startswith("failed: ")
    as_json = run_script(script, *options, "--json")
    assert json.loads(as_json.stdout)["verdict"] == "VALID"


def test_changed_module_is_not_run_by_the_check(small_bundle: Path, key_pair: Keys, run_script: Run) -> None:
    sign(small_bundle, key_pair[0])
    marker = small_bundle.parent / "was run"
    code = f"open({str(marker)!r}, 'w').close()\n"
    modules = [path for path in files_of(small_bundle) if path.suffix == ".py"]
    assert {path.name for path in modules} >= {"bundle.py", "checksums.py", "signature.py", "infer.py"}
    for path in modules:
        whole = path.read_bytes()
        path.write_bytes(whole + code.encode())
        done = run_script(small_bundle / "verify.py", "--public-key", key_pair[1], "--json")
        assert done.returncode == 1, path.name
        assert json.loads(done.stdout)["verdict"] == "INVALID"
        assert f"{path.name}" in json.loads(done.stdout)["checks"]["failed"]
        assert not marker.exists(), path.name
        path.unlink()
        done = run_script(small_bundle / "verify.py")
        assert (done.returncode, done.stderr) == (1, ""), path.name
        path.write_bytes(whole)


def test_what_python_left_beside_a_module_is_not_run_either(small_bundle: Path, run_script: Run) -> None:
    """A compiled file is trusted by its time alone, and no checksum covers it (PEP 3147)."""
    marker = small_bundle.parent / "was run"
    names = ("bundle", "checksums", "infer", "preprocessing", "interface")
    for name in names:
        source = small_bundle / f"{name}.py"
        text = f"{source.read_text()}\nopen({str(marker)!r}, 'w').close()\n"
        state = source.stat()
        head = [0, int(state.st_mtime), state.st_size]
        cache = Path(importlib.util.cache_from_source(str(source)))
        cache.parent.mkdir(exist_ok=True)
        compiled = marshal.dumps(compile(text, str(source), "exec"))
        cache.write_bytes(importlib.util.MAGIC_NUMBER + np.array(head, "<u4").tobytes() + compiled)
    done = run_script(small_bundle / "verify.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not marker.exists()
    code = f"import sys; sys.path.insert(0, {str(small_bundle)!r}); import checksums"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert marker.exists(), "so Python itself would have run it"
