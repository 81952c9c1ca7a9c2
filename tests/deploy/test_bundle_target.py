"""Profiles of targets: those that come with edgepress, and a user's own."""

from pathlib import Path
from typing import Any

import pytest

from deploy.bundle_target import BundleTarget, Delivery, bundle_target_names, bundle_target_of
from edgepress.artifact import Artifact, Format, Precision, Runtime
from edgepress.errors import InputError
from edgepress.isa import Isa, takes

PROFILE = """
purpose = "our camera"
delivery = "file"
machines = ["x86_64"]
isas = ["x86-64-vnni"]
most_bytes = 1_000

[[runtimes]]
runtime = "onnxruntime"
requirements = { numpy = ">=1.26,<3", onnxruntime = ">=1.20,<2" }
"""


def artifact(**changes: Any) -> Artifact:
    values: dict[str, Any] = {
        "id": "a",
        "path": "a.onnx",
        "format": Format.ONNX,
        "precision": Precision.INT8,
        "runtimes": (Runtime.ONNXRUNTIME,),
        "inputs": (),
        "outputs": (),
        "sha256": "s",
        "size_bytes": 10,
        "key": "k",
    }
    return Artifact(**{**values, **changes})


def test_there_is_a_profile_for_each_target() -> None:
    assert bundle_target_names() == (
        *("jetson-orin", "linux-arm64-cpu", "linux-x64-cpu", "mobile", "nvidia-server", "rtx-desktop"),
        "triton",
    )
    targets = [bundle_target_of(name) for name in bundle_target_names()]
    assert {target.delivery for target in targets} == set(Delivery)
    assert all(
        target.purpose and "numpy" in choice.requirements for target in targets for choice in target.runtimes
    )


def test_a_users_profile_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "our-camera.toml"
    path.write_text(PROFILE)
    target = bundle_target_of(str(path))
    assert isinstance(target, BundleTarget)
    assert (target.name, target.isas, target.capabilities) == ("our-camera", (Isa.X86_VNNI,), ())
    assert target.refusal(artifact(target="linux-x64-vnni")) is None
    assert target.refusal(artifact(size_bytes=2_000_000)) == "has 2.0 MB, and our-camera takes 0.0 MB at most"
    refusal = target.refusal(artifact(target="linux-x64-avx2"))
    assert refusal is not None
    assert refusal.endswith("`edgepress optimize --target linux-x64-vnni` makes one")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('delivery = "file"', 'delivery = "post"', "'post' is not a valid Delivery"),
        ('delivery = "file"', "", "missing or unknown fields: delivery"),
        ('delivery = "file"', 'delivery = "plans"', "onnxruntime takes no delivery 'plans'"),
        ('"x86-64-vnni"', '"x86-64-sse9"', "'x86-64-sse9' is not a valid Isa"),
        ("most_bytes = 1_000", "most_bytes = 0", "most_bytes is not positive"),
        ("most_bytes = 1_000", 'most_bytes = "1 GB"', "most_bytes: wanted int, got str"),
        ("most_bytes", "colour = 1\nmost_bytes", "missing or unknown fields: colour"),
        ("most_bytes", 'capabilities = ["8.7"]\nmost_bytes', "capabilities are not wanted for 'file'"),
        ('">=1.26,<3"', '"~=1.26"', "'~=1.26' is no clause of a version range"),
        ("[[runtimes]]", "[[runtimes", "at line 8"),
    ],
)
def test_a_wrong_profile_is_refused_in_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(PROFILE.replace(old, new, 1))
    with pytest.raises(InputError, match="is no profile of a target") as refusal:
        bundle_target_of(str(path))
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_profile_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read .*Give the path of a target's profile"):
        bundle_target_of(str(tmp_path / "none.toml"))
    (tmp_path / "Our Camera.toml").write_text(PROFILE)
    with pytest.raises(InputError, match="its name 'Our Camera' is not of lower-case letters"):
        bundle_target_of(str(tmp_path / "Our Camera.toml"))


@pytest.mark.parametrize(
    ("target", "changes", "is_taken"),
    [
        ("linux-x64-cpu", {"format": Format.TFLITE, "runtimes": (Runtime.LITERT,)}, True),
        ("mobile", {"format": Format.TFLITE, "runtimes": (Runtime.LITERT,)}, True),
        ("mobile", {}, False),
        ("linux-arm64-cpu", {"target": "linux-arm64"}, True),
        ("linux-arm64-cpu", {"target": "linux-x64-avx2"}, False),
        ("triton", {"target": "linux-x64-avx2"}, True),
        ("jetson-orin", {}, False),
        ("jetson-orin", {"runtimes": (Runtime.TENSORRT,)}, True),
        ("jetson-orin", {"runtimes": (Runtime.ONNXRUNTIME, Runtime.ONNXRUNTIME_TENSORRT)}, True),
        ("jetson-orin", {"runtimes": (Runtime.TENSORRT,), "size_bytes": 900_000_000}, False),
        ("rtx-desktop", {"runtimes": (Runtime.TENSORRT_RTX,), "format": Format.ENGINE}, True),
        ("rtx-desktop", {"runtimes": (Runtime.TENSORRT_RTX,)}, False),
    ],
)
def test_a_target_takes_what_its_runtime_runs(target: str, changes: dict[str, Any], is_taken: bool) -> None:
    assert (bundle_target_of(target).refusal(artifact(**changes)) is None) is is_taken


def test_a_cpu_takes_what_was_made_for_less() -> None:
    assert takes(Isa.X86_VNNI, Isa.X86_AVX2)
    assert not takes(Isa.X86_AVX2, Isa.X86_VNNI)
    assert takes(Isa.ARM64_DOT, Isa.ARM64)
    assert not takes(Isa.ARM64, Isa.X86_AVX2)
