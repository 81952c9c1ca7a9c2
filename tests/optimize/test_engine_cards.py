"""Engines in a folder of artifacts: each has its card, which comes and goes with the plan."""

from pathlib import Path

import pytest

from edgepress.artifact import Precision, Proof
from edgepress.engine_card import (
    BatchRange,
    EnginePlace,
    HardwareCompatibility,
    card_path,
    read_card,
    require_runs_here,
)
from edgepress.errors import InputError
from edgepress.local_gpu import LocalGpu, system_name
from edgepress.manifest import Manifest
from edgepress.tensorrt_flavour import Flavour
from optimize.calibration import CalibrationTable
from optimize.stage import OptimizeRequest, optimize_folder

pytest.importorskip("tensorrt_rtx")

INT8, FP32, TF32 = "engine_static_wi8_ai8", "engine_wf32_af32", "engine_wf32_atf32"
TARGET = "linux-x64-avx2"  # SM86 and SM89


def _optimized(folder: Path, *recipes: str, data: Path | None = None, target: str = TARGET) -> Manifest:
    return optimize_folder(OptimizeRequest(folder, target, recipes, str(data) if data else None, 8, 0))


def test_each_plan_has_a_card_that_fits_it(folder: Path, npz: Path) -> None:
    made = _optimized(folder, INT8, data=npz)
    table = CalibrationTable.load(folder)
    assert table is not None
    for name, capability in (("sm86", "8.6"), ("sm89", "8.9")):
        artifact = made.get(f"engine-{name}-static_wi8_ai8")
        plan = made.path_of(artifact)
        card = read_card(plan)
        assert (card.plan_sha256, card.plan_bytes) == (artifact.sha256, artifact.size_bytes)
        assert (card.flavour, card.capabilities) == (Flavour.TENSORRT_RTX, (capability,))
        assert card.version == artifact.provenance["versions"]["tensorrt-rtx"]
        assert card.source_sha256 == made.get("tensorrt-static_wi8_ai8").sha256
        assert card.calibration == table.fingerprint
        assert (card.flags, card.hardware, card.batch) == (
            (),
            HardwareCompatibility.NONE,
            BatchRange(1, 1, 1),
        )
        assert (card.gpu, card.driver, card.proof) == (None, None, Proof.INFERRED)
        assert 0 < card.build_ns < artifact.provenance["wall_ns"]
        gpu = LocalGpu("RTX", capability, None)
        here = EnginePlace(Flavour.TENSORRT_RTX, card.version, system_name(), gpu)
        require_runs_here(card, plan, here)
        elsewhere = EnginePlace(
            Flavour.TENSORRT_RTX, card.version, system_name(), LocalGpu("B", "12.0", None)
        )
        with pytest.raises(
            InputError, match=rf"was built for compute capability {capability}, and the B here has"
        ):
            require_runs_here(card, plan, elsewhere)


def test_plan_without_its_card_is_made_anew(folder: Path) -> None:
    made = _optimized(folder, FP32)
    plans = [made.path_of(made.get(f"engine-{name}-wf32_af32")) for name in ("sm86", "sm89")]
    before = [plan.stat().st_mtime_ns for plan in plans]
    card_path(plans[0]).unlink()
    _optimized(folder, FP32)
    after = [plan.stat().st_mtime_ns for plan in plans]
    assert after[0] > before[0]
    assert after[1] == before[1]
    assert read_card(plans[0]).plan_sha256 == Manifest.load(folder).get("engine-sm86-wf32_af32").sha256


def test_tf32_engine_is_fp32_and_says_tf32(folder: Path) -> None:
    made = _optimized(folder, FP32, TF32)
    plain, fast = (made.get(f"engine-sm86-wf32_{name}") for name in ("af32", "atf32"))
    assert plain.precision is fast.precision is Precision.FP32
    assert read_card(made.path_of(plain)).flags == ()
    assert read_card(made.path_of(fast)).flags == ("TF32",)
    assert fast.provenance["flags"] == ["TF32"]


def test_one_plan_for_all_gpus(folder: Path) -> None:
    made = _optimized(folder, FP32, target="linux-x64-rtx")
    (engine,) = (artifact for artifact in made.artifacts if artifact.recipe == FP32)
    assert engine.id == "engine-all-wf32_af32"
    assert read_card(made.path_of(engine)).capabilities == ("8.0", "8.6", "8.9", "12.0")


def test_cards_of_dropped_plans_go_with_them(folder: Path, npz: Path) -> None:
    made = _optimized(folder, INT8, data=npz)
    plan = made.path_of(made.get("engine-sm86-static_wi8_ai8"))
    assert card_path(plan).is_file()
    # Other pictures give another Q/DQ file; the plans of the former one are removed.
    optimize_folder(OptimizeRequest(folder, TARGET, ("tensorrt_static_wi8_ai8",), str(npz), 3, 5))
    assert Manifest.load(folder).find("engine-sm86-static_wi8_ai8") is None
    assert not plan.exists()
    assert not card_path(plan).exists()
