"""The scripts of a bundle on malformed data with right checksums: one line, no traceback."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Run = Callable[..., Any]
Sums = Callable[[Path], None]
Scripts = Callable[[Path], tuple[Any, Any]]


def assert_one_line(done: Any, code: int) -> None:
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    if code == 1:
        assert done.stderr == ""
        assert [line.partition(":")[0] for line in done.stdout.splitlines()][-2:] == ["failed", "INVALID"]
    else:
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1, done.stderr


def without(*keys: Any) -> Callable[[Any], None]:
    def change(manifest: Any) -> None:
        for key in keys[:-1]:
            manifest = manifest[key]
        del manifest[keys[-1]]

    return change


def given(value: Any, *keys: Any) -> Callable[[Any], None]:
    def change(manifest: Any) -> None:
        for key in keys[:-1]:
            manifest = manifest[key]
        manifest[keys[-1]] = value

    return change


BOTH = 0b11  # verify.py says INVALID and infer.py refuses
VERIFY_ONLY = 0b01  # infer.py does not use it


def manifest_changes() -> "list[tuple[str, Callable[[Any], None], int]]":
    nan = float("nan")
    return [
        ("no model", without("model"), BOTH),
        ("no file", without("model", "file"), BOTH),
        ("file of a list", given([1], "model", "file"), BOTH),
        ("file outside", given("../../etc/passwd", "model", "file"), BOTH),
        ("file that is not there", given("other.onnx", "model", "file"), BOTH),
        ("other file", given("README.md", "model", "file"), BOTH),
        ("no inputs", given([], "model", "inputs"), BOTH),
        ("other input", given("pictures", "model", "inputs", 0, "name"), BOTH),
        ("model is a list", given([], "model"), BOTH),
        ("no preprocessing", without("preprocessing"), BOTH),
        ("unknown mode", given("vgg", "preprocessing", "mode"), BOTH),
        ("height is text", given("8", "preprocessing", "height"), BOTH),
        ("no height at all", given(0, "preprocessing", "height"), BOTH),
        ("other height", given(9, "preprocessing", "height"), BOTH),
        ("crop ratio", given(nan, "preprocessing", "crop_ratio"), BOTH),
        ("activation", given("tanh", "activation"), BOTH),
        ("too few labels", given(["cat"], "labels"), BOTH),
        ("too many labels", given(["a", "b", "c", "d"], "labels"), BOTH),
        ("labels of numbers", given([1, 2, 3], "labels"), BOTH),
        ("labels are text", given("abc", "labels"), BOTH),
        ("other labels", given(["a", "b", "c"], "labels"), VERIFY_ONLY),
        ("golden is null", given(None, "golden"), BOTH),
        ("golden file outside", given("../golden.npz", "golden", "file"), BOTH),
        ("golden file missing", given("none.npz", "golden", "file"), VERIFY_ONLY),
        ("no tolerance", without("golden", "tolerance_rms"), VERIFY_ONLY),
        ("tolerance is NaN", given(nan, "golden", "tolerance"), VERIFY_ONLY),
        ("tolerance of the mean square is NaN", given(nan, "golden", "tolerance_rms"), VERIFY_ONLY),
        ("tolerance is infinite", given(float("inf"), "golden", "tolerance"), VERIFY_ONLY),
        ("tolerance is huge", given(10**400, "golden", "tolerance"), VERIFY_ONLY),
        ("tolerance is negative", given(-1.0, "golden", "tolerance"), VERIFY_ONLY),
        ("tolerance is true", given(True, "golden", "tolerance"), VERIFY_ONLY),
        ("machines are text", given("x86_64", "target", "machines"), VERIFY_ONLY),
        ("target is a list", given([], "target"), VERIFY_ONLY),
        ("no versions", without("versions"), VERIFY_ONLY),
        ("version is a number", given(1, "versions", "onnxruntime"), VERIFY_ONLY),
    ]


def test_malformed_manifest_is_invalid(small_bundle: Path, write_sums: Sums, scripts_of: Scripts) -> None:
    path = small_bundle / "manifest.json"
    np.save(small_bundle.parent / "picture.npy", np.zeros((8, 8, 3), np.uint8))
    whole = path.read_text()
    cases = [(name, change, scripts) for name, change, scripts in manifest_changes()]
    for name, change, scripts in cases:
        manifest = json.loads(whole)
        change(manifest)
        check(small_bundle, json.dumps(manifest), name, scripts, write_sums, scripts_of)
    for text in ("", "{", "[]", "3", "null", '"text"', "[" * 100_000):
        check(small_bundle, text, text[:9], BOTH, write_sums, scripts_of)
    path.write_bytes(b"\xff\xfe")
    check(small_bundle, None, "no UTF-8", BOTH, write_sums, scripts_of)
    check(small_bundle, whole, "whole again", 0, write_sums, scripts_of)


def check(
    bundle: Path, text: str | None, name: str, scripts: int, write_sums: Sums, scripts_of: Scripts
) -> None:
    """Ask both scripts about a manifest."""
    if text is not None:
        (bundle / "manifest.json").write_text(text)
    write_sums(bundle)
    infer, verify = scripts_of(bundle)
    done, verdict = verify.verify()
    assert verdict == ("INVALID" if scripts else "VALID"), (name, done)
    assert "\n" not in done[-1][1]
    try:
        infer.classify([bundle.parent / "picture.npy"], 1, 1)
        refused = False
    except infer.Refusal:
        refused = True
    assert refused is (scripts == BOTH), name


def golden_changes() -> "list[tuple[str, dict[str, Any]]]":
    pictures, logits = np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 3), np.float32)
    return [
        ("no logits", {"pictures": pictures}),
        ("no pictures", {"logits": logits}),
        ("other size", {"pictures": pictures[:, :7], "logits": logits}),
        ("float pictures", {"pictures": pictures.astype(np.float32), "logits": logits}),
        ("other number", {"pictures": pictures, "logits": logits[:1]}),
        ("other classes", {"pictures": pictures, "logits": logits[:, :2]}),
        ("no classes", {"pictures": pictures, "logits": logits[:, :0]}),
        ("nothing", {"pictures": pictures[:0], "logits": logits[:0]}),
        ("flat", {"pictures": pictures, "logits": logits.ravel()}),
        ("double", {"pictures": pictures, "logits": logits.astype(np.float64)}),
        ("text", {"pictures": pictures, "logits": np.array(["a", "b"])}),
        ("objects", {"pictures": pictures, "logits": np.array([None, {}], object)}),
        ("NaN", {"pictures": pictures, "logits": np.full((2, 3), np.nan, np.float32)}),
    ]


def test_malformed_golden_answers_are_invalid(
    small_bundle: Path, write_sums: Sums, scripts_of: Scripts
) -> None:
    path = small_bundle / "golden.npz"
    whole = path.read_bytes()
    array = io.BytesIO()
    np.save(array, np.zeros(3))
    contents = [("empty", b""), ("half", whole[: len(whole) // 2]), ("array", array.getvalue())]
    contents += [("broken inside", whole[:100] + bytes(200) + whole[300:])]
    for name, arrays in golden_changes():
        changed = io.BytesIO()
        np.savez(changed, **arrays)
        contents.append((name, changed.getvalue()))
    for name, content in contents:
        path.write_bytes(content)
        write_sums(small_bundle)
        _, verify = scripts_of(small_bundle)
        done, verdict = verify.verify()
        assert verdict == "INVALID", (name, done)
        assert "golden.npz" in done[-1][1] or "labels" in done[-1][1], (name, done)
        assert "\n" not in done[-1][1]


@pytest.mark.parametrize("text", ["cat\ndog\n", "cat\ndog\ncat\n", ""])
def test_other_labels_than_in_the_manifest_are_invalid(
    small_bundle: Path, write_sums: Sums, scripts_of: Scripts, text: str
) -> None:
    (small_bundle / "labels.txt").write_text(text)
    write_sums(small_bundle)
    done, verdict = scripts_of(small_bundle)[1].verify()
    assert (verdict, done[-1][1]) == (
        "INVALID",
        "labels.txt has other labels than manifest.json. Unpack the bundle again.",
    )


def test_malformed_manifest_takes_one_line_and_the_right_exit_code(
    small_bundle: Path, write_sums: Sums, run_script: Run
) -> None:
    (small_bundle / "manifest.json").write_text('{"model": 3}')
    write_sums(small_bundle)
    assert_one_line(run_script(small_bundle / "verify.py"), 1)
    assert_one_line(run_script(small_bundle / "infer.py", "x.jpg"), 2)


def test_failure_that_nobody_foresaw_is_no_verdict_on_the_bundle(
    small_bundle: Path, scripts_of: Scripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, verify = scripts_of(small_bundle)

    def fail(*_: Any) -> None:
        raise MemoryError("no\nroom")

    monkeypatch.setattr(sys.modules["checks"], "check_golden", fail)
    done, verdict = verify.verify()
    assert (verdict, done[-1][1]) == ("COULD NOT RUN", "MemoryError: no room")


def test_scripts_run_isolated_and_from_elsewhere_and_leave_no_trace(
    small_bundle: Path, run_script: Run, tmp_path: Path
) -> None:
    from PIL import Image

    before = sorted(path.name for path in small_bundle.iterdir())
    done = run_script(small_bundle / "verify.py", env={"LC_ALL": "C", "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stdout + done.stderr
    Image.new("RGB", (30, 20), (200, 10, 10)).save(tmp_path / "red.jpg")
    done = run_script(small_bundle / "infer.py", tmp_path / "red.jpg")
    assert done.returncode == 0, done.stderr
    assert "crème\tbrûlée" in done.stdout
    assert sorted(path.name for path in small_bundle.iterdir()) == before


def test_labels_are_printed_where_the_terminal_has_no_such_letters(
    small_bundle: Path, tmp_path: Path
) -> None:
    import subprocess
    import sys

    np.save(tmp_path / "x.npy", np.zeros((8, 8, 3), np.uint8))
    done = subprocess.run(
        [sys.executable, str(small_bundle / "infer.py"), str(tmp_path / "x.npy")],
        env={"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert rb"cr\xe8me" in done.stdout


def test_pictures_of_any_kind_are_classified_or_refused_in_one_line(
    small_bundle: Path, run_script: Run, scripts_of: Scripts, tmp_path: Path
) -> None:
    from PIL import Image

    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))
    good = []
    for mode, ending in (("CMYK", "jpg"), ("L", "jpg"), ("RGBA", "png"), ("LA", "png"), ("1", "png")):
        good.append(tmp_path / f"{mode}.{ending}")
        photo.convert(mode).save(good[-1])
    rotated = Image.Exif()
    rotated[0x0112] = 6
    good.append(tmp_path / "rotated.jpg")
    photo.save(good[-1], exif=rotated)
    done = run_script(small_bundle / "infer.py", *good, "--json")
    assert done.returncode == 0, done.stderr
    assert [Path(found["picture"]) for found in json.loads(done.stdout)] == good
    (tmp_path / "truncated.jpg").write_bytes((tmp_path / "L.jpg").read_bytes()[:600])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "folder.jpg").mkdir()
    np.savez(tmp_path / "several.npz", a=np.zeros(1))
    (tmp_path / "several.npz").rename(tmp_path / "several.npy")
    np.save(tmp_path / "none.npy", np.zeros((0, 8, 8, 3), np.uint8))
    infer, _ = scripts_of(small_bundle)
    for name, message in (
        ("truncated.jpg", "cannot be decoded"),
        ("empty.jpg", "cannot be decoded"),
        ("folder.jpg", "is no file. Give pictures"),
        ("missing.jpg", "There is no picture at"),
        ("several.npy", "holds several arrays"),
        ("none.npy", "uint8 RGB of shape (8, 8, 3) is wanted"),
    ):
        with pytest.raises(infer.Refusal) as refusal:
            infer.read_pictures(tmp_path / name, infer.bundle.load_manifest())
        assert message in str(refusal.value)
    assert_one_line(run_script(small_bundle / "infer.py", tmp_path / "new\nline.jpg"), 2)


def test_requirements_are_the_proven_versions_and_the_others_are_named(
    small_bundle: Path, write_sums: Sums, scripts_of: Scripts
) -> None:
    from importlib.metadata import version

    lines = (small_bundle / "requirements.txt").read_text().splitlines()[1:]
    assert lines == [f"{name}=={version(name)}" for name in ("numpy", "onnxruntime", "pillow")]
    manifest = json.loads((small_bundle / "manifest.json").read_text())
    assert manifest["accepted_versions"]["onnxruntime"] == ">=1.20,<2"
    assert 'pip install "numpy>=1.26,<3" "onnxruntime>=1.20,<2"' in (small_bundle / "README.md").read_text()
    manifest["versions"]["onnxruntime"] = "1.21.0"
    (small_bundle / "manifest.json").write_text(json.dumps(manifest))
    write_sums(small_bundle)
    done, verdict = scripts_of(small_bundle)[1].verify()
    assert verdict == "VALID"
    assert f"onnxruntime {version('onnxruntime')} (made with 1.21.0)" in dict(done)["runtime"]
    assert f"numpy {version('numpy')}, " in dict(done)["runtime"]


def test_infer_ends_quietly_when_nobody_reads_on(small_bundle: Path, tmp_path: Path) -> None:
    import subprocess
    import sys

    np.save(tmp_path / "x.npy", np.zeros((400, 8, 8, 3), np.uint8))
    command = [sys.executable, "-I", str(small_bundle / "infer.py"), str(tmp_path / "x.npy")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_more_threads_than_cores_are_not_started(
    small_bundle: Path, scripts_of: Scripts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    np.save(tmp_path / "x.npy", np.zeros((8, 8, 3), np.uint8))
    infer, _ = scripts_of(small_bundle)
    right, asked = infer.open_session, []

    def open_session(manifest: Any, threads: int) -> Any:
        asked.append(threads)
        return right(manifest, threads)

    monkeypatch.setattr(infer, "open_session", open_session)
    assert len(infer.classify([tmp_path / "x.npy"], 1, 100_000)) == 1
    assert asked == [os.cpu_count()]
