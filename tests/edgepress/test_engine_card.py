"""A plan that cannot run here is refused by its card, in one line, before TensorRT sees it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from edgepress.artifact import Proof
from edgepress.engine_card import (
    BatchRange,
    EngineCard,
    EnginePlace,
    HardwareCompatibility,
    card_path,
    mismatch,
    read_card,
    require_runs_here,
    require_whole,
    unlink_with_card,
    write_card,
)
from edgepress.errors import InputError
from edgepress.files import sha256_of_file
from edgepress.local_gpu import LocalGpu
from edgepress.tensorrt_flavour import Flavour

ORIN = LocalGpu("Orin", "8.7", None)
CONTENT = b"a plan with its weights"


def _card(**changes: Any) -> EngineCard:
    card = EngineCard(
        schema_version=1,
        plan_sha256="0" * 64,
        plan_bytes=len(CONTENT),
        flavour=Flavour.TENSORRT_10,
        version="10.3.0.26",
        system="Linux aarch64",
        capabilities=("8.7",),
        gpu="Orin",
        driver=None,
        hardware=HardwareCompatibility.NONE,
        flags=(),
        batch=BatchRange(1, 4, 8),
        source_sha256="1" * 64,
        calibration=None,
        build_ns=5,
        proof=Proof.INFERRED,
    )
    return dataclasses.replace(card, **changes)


def _place(**changes: Any) -> EnginePlace:
    place = EnginePlace(Flavour.TENSORRT_10, "10.3.0.26", "Linux aarch64", ORIN)
    return dataclasses.replace(place, **changes)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "engine-sm87-wf16_af16.plan"
    path.write_bytes(CONTENT)
    return path


def _fitting(plan: Path, **changes: Any) -> EngineCard:
    return _card(plan_sha256=sha256_of_file(plan), **changes)


def test_card_lies_beside_the_plan_and_reads_back(plan: Path) -> None:
    card = _fitting(plan, flags=("REFIT", "TF32"), calibration="f" * 64, driver="570.86")
    write_card(card, plan)
    assert card_path(plan).name == "engine-sm87-wf16_af16.engine.json"
    assert read_card(plan) == card
    value = json.loads(card_path(plan).read_text(encoding="utf-8"))
    assert (value["flags"], value["hardware"], value["flavour"]) == (["REFIT", "TF32"], "NONE", "tensorrt-10")


def test_card_that_is_missing_or_damaged_says_so(plan: Path) -> None:
    with pytest.raises(InputError, match="No engine card at"):
        read_card(plan)
    card_path(plan).write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="The engine card at .* cannot be read"):
        read_card(plan)
    card_path(plan).write_text('{"schema_version": 9}', encoding="utf-8")
    with pytest.raises(
        InputError, match=r"schema version 9, wanted 1\. Build engine-sm87-wf16_af16.plan anew"
    ):
        read_card(plan)
    card_path(plan).write_text('{"schema_version": 1}', encoding="utf-8")
    with pytest.raises(InputError, match=r"is damaged .*Build engine-sm87-wf16_af16\.plan anew"):
        read_card(plan)


def test_plan_goes_with_its_card(plan: Path) -> None:
    write_card(_fitting(plan), plan)
    unlink_with_card(plan)
    assert not list(plan.parent.iterdir())
    unlink_with_card(plan)


def test_whole_plan_may_run_here(plan: Path) -> None:
    require_runs_here(_fitting(plan), plan, _place())


def test_damaged_plan_is_refused_before_anything_else(plan: Path) -> None:
    card, elsewhere = _fitting(plan), _place(version="10.13.3.9")
    flipped = bytearray(CONTENT)
    flipped[5] ^= 1
    plan.write_bytes(flipped)
    with pytest.raises(
        InputError, match=r"is not what was built: SHA-256 is \w{12}…, its card says \w{12}…\. Copy"
    ):
        require_runs_here(card, plan, elsewhere)
    plan.write_bytes(CONTENT[:-1])
    with pytest.raises(InputError, match=r"has 22 bytes, and 23 were built: it is not whole\. Copy it again"):
        require_runs_here(card, plan, elsewhere)
    plan.unlink()
    with pytest.raises(InputError, match=r"There is no plan at .*Copy it there together with its card"):
        require_whole(card, plan)


def test_plan_without_weights_is_refused(plan: Path) -> None:
    card = _fitting(plan, flags=("REFIT_IDENTICAL", "STRIP_PLAN"))
    with pytest.raises(
        InputError, match=r"cannot run here: its weights were left out .*Put them back from its ONNX"
    ):
        require_runs_here(card, plan, _place())


def test_card_in_words() -> None:
    assert _card(flags=("REFIT", "TF32")).lines == (
        "Built with TensorRT 10 (10.3.0.26) on Linux aarch64 for Orin, compute capability 8.7; hardware "
        "compatibility: NONE; flags: REFIT, TF32.",
        "Takes batches of 1 to 8, tuned for 4.",
    )
    assert _card(batch=BatchRange(2, 2, 2)).lines[1] == "Takes batches of 2."


@pytest.mark.parametrize(
    ("here", "reason"),
    [
        (
            {"flavour": Flavour.TENSORRT_RTX, "version": "1.7.1.116"},
            r"it was built with TensorRT 10 \(10\.3\.0\.26\), and here is TensorRT-RTX \(1\.7\.1\.116\)\.",
        ),
        (
            {"flavour": Flavour.TENSORRT_11, "version": "11.1.0.106"},
            r"TensorRT 10 \(10\.3\.0\.26\), and here is TensorRT 11 \(11\.1\.0\.106\)\.",
        ),
        (
            {"version": "10.3.0.30"},
            r"here is TensorRT 10 \(10\.3\.0\.30\); plans are bound to their version\.",
        ),
        ({"system": "Linux x86_64"}, r"it was built on Linux aarch64, and here is Linux x86_64\."),
        (
            {"gpu": LocalGpu("NVIDIA Thor", "11.0", None)},
            r"it was built for compute capability 8\.7, and the NVIDIA Thor here has 11\.0\.",
        ),
    ],
)
def test_plan_for_another_place_says_what_is_wrong_and_what_to_do(
    here: dict[str, Any], reason: str, plan: Path
) -> None:
    with pytest.raises(
        InputError,
        match=rf"^engine-sm87-wf16_af16\.plan cannot run here: .*{reason} Build it anew with what is here\.$",
    ):
        require_runs_here(_fitting(plan), plan, _place(**here))


def test_version_compatible_plan_runs_with_later_versions_only() -> None:
    card = _card(flags=("VERSION_COMPATIBLE",), version="10.13.3.9")
    assert mismatch(card, _place(version="10.13.3.9")) is None
    assert mismatch(card, _place(version="10.16.0.1")) is None
    assert mismatch(card, _place(version="10.3.0.26")) is not None
    later = _place(flavour=Flavour.TENSORRT_11, version="11.1.0.106")
    assert mismatch(card, later) is None
    assert mismatch(_card(version="10.13.3.9"), later) is not None
    back = _card(flavour=Flavour.TENSORRT_11, version="11.1.0.106", flags=("VERSION_COMPATIBLE",))
    assert mismatch(back, _place()) is not None


@pytest.mark.parametrize(
    ("hardware", "capability", "runs"),
    [
        (HardwareCompatibility.NONE, "8.6", True),
        (HardwareCompatibility.NONE, "8.9", False),
        (HardwareCompatibility.SAME_COMPUTE_CAPABILITY, "8.6", True),
        (HardwareCompatibility.SAME_COMPUTE_CAPABILITY, "8.9", False),
        (HardwareCompatibility.AMPERE_PLUS, "8.0", True),
        (HardwareCompatibility.AMPERE_PLUS, "12.0", True),
        (HardwareCompatibility.AMPERE_PLUS, "7.5", False),
    ],
)
def test_hardware_compatibility_says_on_which_gpus(
    hardware: HardwareCompatibility, capability: str, *, runs: bool
) -> None:
    card = _card(hardware=hardware, capabilities=("8.6",))
    assert (mismatch(card, _place(gpu=LocalGpu("X", capability, None))) is None) is runs


@pytest.mark.parametrize(
    ("capability", "runs"),
    [
        ("8.0", True),
        ("8.6", True),
        ("12.0", True),
        ("12.1", True),
        ("8.7", False),
        ("9.0", False),
        ("7.5", False),
    ],
)
def test_rtx_plan_for_all_runs_on_what_nvidia_names(capability: str, *, runs: bool) -> None:
    rtx: dict[str, Any] = {"flavour": Flavour.TENSORRT_RTX, "version": "1.7.1.116", "system": "Linux x86_64"}
    card = _card(capabilities=("8.0", "8.6", "8.9", "12.0"), **rtx)
    assert (mismatch(card, _place(gpu=LocalGpu("X", capability, None), **rtx)) is None) is runs
    assert mismatch(_card(capabilities=("12.0",), **rtx), _place(gpu=LocalGpu("X", "12.1", None), **rtx))
