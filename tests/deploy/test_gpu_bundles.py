"""Bundles for NVIDIA GPUs: their plans are built for real, what runs them is a fake, since no GPU is here."""

import ast
import dataclasses
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from deploy.bundle_target import BundleTarget, bundle_target_of
from deploy.contents import Contents, fill
from deploy.golden import Golden
from deploy.payload import Payload, payload_of
from deploy.selection import Choice, Limits
from deploy.tolerance import Deviation, Tolerance
from deploy.vendored import modules_for
from edgepress.artifact import Artifact, Format, Precision, Runtime, TensorSpec
from edgepress.doctor.memory_state import MemoryState
from edgepress.engine_card import EngineCard, card_path, read_card, write_card
from edgepress.errors import InputError
from edgepress.files import sha256_of_file, write_json
from edgepress.interface import Activation
from edgepress.local_gpu import LocalGpu
from edgepress.machine import cuda_device_absence
from edgepress.manifest import Manifest, ModelCard
from edgepress.preprocessing import Preprocessing, PreprocessMode
from edgepress.target import ComputeCapability
from edgepress.tensorrt_flavour import Flavour
from optimize.engine_from_onnx import engine_from_onnx, tensorrt_rtx
from optimize.recipe import RECIPES, recipe_named
from tests.fakes.computing_means import computing_means
from tests.fakes.fake_cuda import Error as CudaErrorCode
from tests.fakes.fake_cuda import FakeCuda, Injection
from tests.fakes.fake_plan_runtime import FakePlanRuntime, Spec, plan_bytes, write_plan
from tests.fakes.fake_tensorrt import FAKE_VERSIONS, NodeError, fake_tensorrt

ROOT = Path(__file__).resolve().parents[2]
FLAT = ("infer", "verify", "bundle", "checks", "latency", "version_range")
OF_THE_TOOLKIT = ("preprocessing", "interface", "isa")
SIDE = 8
PICTURES = np.random.default_rng(5).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
LOGITS = PICTURES.astype(np.float32).mean((1, 2))
PREPROCESSING = Preprocessing(PreprocessMode.NONE, SIDE, SIDE)
NO_GPU = "no NVIDIA GPU can be used here (libcuda.so.1 not found: no NVIDIA driver)"

needs_builder = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx has no package for this platform"
)
needs_no_gpu = pytest.mark.skipif(cuda_device_absence() is None, reason="there is a GPU")


def save_mean_model(path: Path) -> None:
    """Logits of 8×8 pictures: the mean of each channel."""
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", SIDE, SIDE, 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])
    node = helper.make_node("ReduceMean", ["images"], ["logits"], name="mean", axes=[1, 2], keepdims=0)
    graph = helper.make_graph([node], "mean", [images], [logits])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def artifact_of(path: Path, **changes: Any) -> Artifact:
    artifact = Artifact(
        id=path.stem,
        path=path.name,
        format=Format.ONNX,
        precision=Precision.FP32,
        runtimes=(Runtime.ONNXRUNTIME, Runtime.ONNXRUNTIME_TENSORRT),
        inputs=(TensorSpec("images", (None, SIDE, SIDE, 3), "float32"),),
        outputs=(TensorSpec("logits", (None, 3), "float32"),),
        sha256=sha256_of_file(path),
        size_bytes=path.stat().st_size,
        key="k",
    )
    return dataclasses.replace(artifact, **changes)


def engine_of(path: Path, **changes: Any) -> Artifact:
    own = {
        "format": Format.ENGINE,
        "runtimes": (Runtime.TENSORRT_RTX,),
        "recipe": "engine_wf32_af32",
        "parent": "onnx-fp32",
    }
    return artifact_of(path, **{**own, **changes})


def manifest_in(folder: Path, *engines: Artifact) -> Manifest:
    card = ModelCard("mean", "drawn", "f", 0, 3, None, PREPROCESSING, Activation.NONE)
    return Manifest(folder, card, (artifact_of(folder / "onnx-fp32.onnx"), *engines))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "artifacts"
    made.mkdir()
    save_mean_model(made / "onnx-fp32.onnx")
    return made


@pytest.fixture(scope="module")
def real_plans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plans that TensorRT-RTX built, for 8.6, 8.9, and for many, with their cards. Read-only."""
    made = tmp_path_factory.mktemp("plans")
    save_mean_model(made / "onnx-fp32.onnx")
    for capability in (ComputeCapability.SM86, ComputeCapability.SM89, ComputeCapability.ALL):
        plan = made / f"engine-{capability.value}-wf32_af32.plan"
        built = engine_from_onnx(tensorrt_rtx(), made / "onnx-fp32.onnx", plan, capability)
        write_card(built.card_of(plan, made / "onnx-fp32.onnx"), plan)
    return made


@pytest.fixture
def plans(real_plans: Path, tmp_path: Path) -> Callable[..., Manifest]:
    """Gives a manifest with some of the real plans, in a folder of its own."""

    def made(*names: str) -> Manifest:
        own = tmp_path / "with-plans"
        own.mkdir()
        for path in real_plans.iterdir():
            (own / path.name).write_bytes(path.read_bytes())
        return manifest_in(own, *(engine_of(own / f"engine-{name}-wf32_af32.plan") for name in names))

    return made


def write_bundle(manifest: Manifest, target: BundleTarget, artifact_id: str, out: Path) -> Payload:
    """A bundle's folder as the stage fills it, with golden answers that nothing was run for."""
    artifact = manifest.get(artifact_id)
    choice = target.runtime_of(artifact)
    assert choice is not None
    payload = payload_of(manifest, target, choice, artifact)
    runtime = dataclasses.replace(choice, requirements={**choice.requirements, **payload.requirements})
    near = Deviation(1e-3, 1e-3)
    contents = Contents(
        manifest=manifest,
        target=target,
        runtime=runtime,
        choice=Choice(artifact, "named", {}),
        payload=payload,
        limits=Limits(),
        evidence=None,
        golden=Golden(PICTURES, LOGITS, Tolerance(near, "a thousandth"), "by hand", {}),
        versions={"edgepress": "0"},
        key="k",
    )
    fill(out, contents)
    return payload


def changed(bundle: Path, change: Callable[[Any], None]) -> None:
    value = json.loads((bundle / "manifest.json").read_text())
    change(value)
    write_json(bundle / "manifest.json", value)


# What a bundle carries of the toolkit


ONLY_NUMPY = """
import importlib, sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        known = sys.stdlib_module_names | {"numpy", "edgepress", "optimize"}
        if name.partition(".")[0] not in known:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.path.insert(0, sys.argv[1])
sys.meta_path.insert(0, Nothing())
for name in sys.argv[2:]:
    module = importlib.import_module(name)
    assert module.__file__.startswith(sys.argv[1]), module.__file__
from edgepress.runners.tensorrt_runner import RUNNERS
print(len(RUNNERS))
"""


def test_carried_modules_need_numpy_only(tmp_path: Path) -> None:
    files = modules_for(["deploy.runtime.tensorrt_backend", "deploy.runtime.build"])
    for name, source in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(source.read_bytes())
    names = [name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in files]
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", ONLY_NUMPY, str(tmp_path), *names],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")
    for name, source in files.items():
        ast.parse(source.read_text(), name, feature_version=(3, 10))
    assert sum(source.stat().st_size for source in files.values()) < 250_000


def test_carried_modules_are_what_is_imported_and_no_more() -> None:
    running = modules_for(["deploy.runtime.tensorrt_backend"])
    building = modules_for(["deploy.runtime.tensorrt_backend", "deploy.runtime.build"])
    assert {"edgepress/__init__.py", "edgepress/cuda/__init__.py", "edgepress/engine_card.py"} < set(running)
    assert "edgepress/runners/tensorrt_runner.py" in running
    assert not [name for name in running if name.startswith("optimize")]
    assert {"optimize/__init__.py", "optimize/timing_cache.py", "edgepress/lock.py"} < set(building)
    for name in ("edgepress/api.py", "edgepress/preprocessing.py", "optimize/step.py"):
        assert name not in building
    assert not [name for name in building if name.startswith("deploy")]
    with pytest.raises(ValueError, match="edgepress.nothing is no module of the toolkit"):
        modules_for(["edgepress.nothing"])


# Which ONNX files an engine can be built from


def test_files_for_tensorrt_are_taken_and_those_for_onnx_runtime_are_not(folder: Path) -> None:
    target, source = bundle_target_of("jetson-orin"), folder / "onnx-fp32.onnx"
    assert target.refusal(artifact_of(source)) is None
    for recipe in RECIPES:
        if recipe.format is Format.ONNX:
            made = artifact_of(source, id=recipe.artifact_id, recipe=recipe.name, runtimes=recipe.runtimes)
            is_taken = recipe.family == "tensorrt" or recipe.name == "onnx_wf16_af16"
            assert (target.refusal(made) is None) is is_taken, recipe.name
    engine = recipe_named("engine_wf16_af16")
    made = artifact_of(source, format=Format.ENGINE, runtimes=engine.runtimes)
    assert target.refusal(made) == "is not for tensorrt"


# Plans


@needs_builder
def test_plans_of_one_recipe_go_together_and_what_is_missing_is_named(
    plans: Callable[..., Manifest], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest, target = plans("sm89", "sm86"), bundle_target_of("rtx-desktop")
    payload = write_bundle(manifest, target, "engine-sm89-wf32_af32", tmp_path / "bundle")
    entries = [(plan["file"], plan["capabilities"]) for plan in payload.entries["plans"]]
    assert entries == [("plans/sm86.engine", ["8.6"]), ("plans/sm89.engine", ["8.9"])]
    assert payload.model_file == "plans/sm89.engine"
    assert payload.entries["plans_missing"] == ["12.0"]
    assert payload.steps == (
        "nvidia-smi --query-gpu=compute_cap --format=csv   # there are plans for 8.6, 8.9; none for 12.0",
    )
    assert payload.requirements == {"tensorrt-rtx": f"=={tensorrt_rtx().__version__}"}
    for plan in payload.entries["plans"]:
        path = tmp_path / "bundle" / plan["file"]
        assert sha256_of_file(path) == plan["sha256"] == read_card(path).plan_sha256
    assert caplog.messages == [
        "rtx-desktop: no plan for compute capability 12.0. Make one: edgepress optimize "
        f"{manifest.folder} --target linux-x64-rtx"
    ]
    own = {name for name in payload.files if not name.startswith("plans/")}
    overhead = sum(Path(str(payload.files[name])).stat().st_size for name in own)
    assert overhead < 500_000


@needs_builder
def test_plan_for_many_gpus_serves_those_without_their_own(plans: Callable[..., Manifest]) -> None:
    manifest, target = plans("sm86", "all"), bundle_target_of("rtx-desktop")
    choice = target.runtimes[0]
    both = payload_of(manifest, target, choice, manifest.get("engine-sm86-wf32_af32"))
    assert [plan["file"] for plan in both.entries["plans"]] == ["plans/sm86.engine", "plans/all.engine"]
    assert both.entries["plans_missing"] == []
    alone = payload_of(manifest, target, choice, manifest.get("engine-all-wf32_af32"))
    assert [plan["capabilities"] for plan in alone.entries["plans"]] == [["8.0", "8.6", "8.9", "12.0"]]


@needs_builder
def test_plans_that_do_not_belong_together_are_refused(plans: Callable[..., Manifest]) -> None:
    manifest, target = plans("sm86", "sm89"), bundle_target_of("rtx-desktop")
    chosen = manifest.get("engine-sm86-wf32_af32")
    other = manifest.path_of(manifest.get("engine-sm89-wf32_af32"))
    card = read_card(other)

    def refused(message: str, target: BundleTarget = target) -> None:
        with pytest.raises(InputError, match=message):
            payload_of(manifest, target, target.runtimes[0], chosen)

    for changes, message in (
        (
            {"source_sha256": "0" * 64},
            "engine-sm89-wf32_af32 was built from another onnx-fp32 than there is.",
        ),
        (
            {"version": "1.7.0.1"},
            r"built with TensorRT-RTX \(1\.7\.0\.1\), and engine-sm86.*one bundle takes one",
        ),
        ({"plan_bytes": 3}, r"sm89-wf32_af32\.plan has \d+ bytes, and 3 were built"),
    ):
        write_card(dataclasses.replace(card, **changes), other)
        refused(message)
    card_path(other).unlink()
    refused("No engine card at .*sm89")
    write_card(card, other)
    ours = manifest.path_of(chosen)
    later = dataclasses.replace(target, capabilities=("12.0",))
    refused(
        "engine-sm86-wf32_af32 is for compute capability 8.6, and rtx-desktop has 12.0. Make one: edgepress "
        "optimize .* --target linux-x64-rtx$",
        later,
    )
    refused("No --target of edgepress optimize makes one", dataclasses.replace(target, capabilities=("9.0",)))
    for path in (ours, other):
        write_card(dataclasses.replace(read_card(path), version="1.8.0.1"), path)
    refused(
        r"built with TensorRT-RTX \(1\.8\.0\.1\), and tensorrt-rtx>=1\.7,<1\.8 is wanted\. Build them anew"
    )
    ours.write_bytes(b"other")
    refused("engine-sm86-wf32_af32: .* was changed")


CHECKS = """
import argparse, sys
sys.path.insert(0, sys.argv[1])
import checks
try:
    for name, found in checks.in_order(argparse.Namespace(public_key=None, latency=None, threads=0)):
        print(f"{name}: {found}")
    print("VALID")
except Exception as error:
    print(error.verdict, error, sep=": ")
print(sorted({"tensorrt", "tensorrt_rtx", "cuda", "onnx"} & set(sys.modules)))
"""


def run_isolated(*arguments: str | Path, code: str | None = None) -> "subprocess.CompletedProcess[str]":
    start = [sys.executable, "-I", "-B", *([] if code is None else ["-c", code])]
    return subprocess.run(
        [*start, *map(str, arguments)], cwd="/", capture_output=True, text=True, check=False
    )


@needs_builder
@needs_no_gpu
def test_bundle_of_plans_is_found_whole_where_no_gpu_is(
    plans: Callable[..., Manifest], tmp_path: Path
) -> None:
    bundle, picture = tmp_path / "bundle", tmp_path / "x.npy"
    write_bundle(plans("sm86", "sm89"), bundle_target_of("rtx-desktop"), "engine-sm86-wf32_af32", bundle)
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    done = run_isolated(bundle, code=CHECKS)
    assert done.stderr == ""
    payload, machine, verdict, loaded = done.stdout.splitlines()
    assert payload == ("payload: plans/sm86.engine (8.6), plans/sm89.engine (8.9): as their cards say")
    assert machine.startswith("machine: ")
    assert verdict.startswith(f"COULD NOT RUN: {NO_GPU}, and the bundle is for one. Run it where nvidia-smi")
    assert loaded == "[]"
    np.save(picture, PICTURES)
    asked = run_isolated(bundle / "infer.py", picture)
    assert (asked.returncode, asked.stdout) == (2, "")
    assert asked.stderr.startswith(f"infer: {NO_GPU}")
    assert len(asked.stderr.splitlines()) == 1
    assert {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()} == before


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], SimpleNamespace]]:
    """Gives the scripts of a bundle as modules, loaded as they load each other."""
    names = (*FLAT, *OF_THE_TOOLKIT, "backend", "build")

    def load(bundle: Path) -> SimpleNamespace:
        for name in names:
            sys.modules.pop(name, None)
        monkeypatch.syspath_prepend(str(bundle))
        there = [name for name in names if (bundle / f"{name}.py").is_file()]
        loaded = {name: importlib.import_module(name) for name in there}
        assert {Path(str(module.__file__)).parent for module in loaded.values()} == {bundle}
        manifest = json.loads((bundle / "manifest.json").read_text())
        return SimpleNamespace(manifest=manifest, folder=bundle, **{f"{n}": m for n, m in loaded.items()})

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield load
    for name in names:
        sys.modules.pop(name, None)


@needs_builder
def test_card_that_does_not_fit_its_plan_is_found_without_a_gpu(
    plans: Callable[..., Manifest], tmp_path: Path, scripts: Callable[[Path], SimpleNamespace]
) -> None:
    bundle = tmp_path / "bundle"
    write_bundle(plans("sm86", "sm89"), bundle_target_of("rtx-desktop"), "engine-sm86-wf32_af32", bundle)
    own, plan = scripts(bundle), bundle / "plans" / "sm89.engine"
    card = read_card(plan)
    for changes, message in (
        ({"plan_sha256": "0" * 64}, r"plans/sm89\.engine: SHA-256 is .*…, the card says 000000000000… and"),
        (
            {"capabilities": ("9.0",)},
            r"the card is for compute capability 9\.0, the list of plans says 8\.9\.",
        ),
        (
            {"flavour": Flavour.TENSORRT_11},
            r"it is for TensorRT 11 \(1\.7.*\), and the bundle for tensorrt-rtx",
        ),
        ({"source_sha256": "0" * 64}, "the plans were built from 2 files, wanted one. Unpack"),
    ):
        write_card(dataclasses.replace(card, **changes), plan)
        with pytest.raises(own.bundle.Invalid, match=message):
            own.backend.check_payload(own.manifest, bundle)
    card_path(plan).unlink()
    with pytest.raises(own.bundle.Refusal, match=r"No engine card at .* Unpack the bundle again\."):
        own.backend.check_payload(own.manifest, bundle)
    wrong: dict[str, Any]
    for wrong in ({"plans": []}, {"plans": 3}, {"plans": [{"file": 3}]}, {}):
        manifest = {"target": own.manifest["target"], "files": {}, **wrong}
        with pytest.raises(own.bundle.Refusal, match=r"manifest\.json.* list of plans.* Unpack"):
            own.backend.check_payload(manifest, bundle)


# A device, as far as fakes go


@dataclasses.dataclass
class Device:
    """What a test pretends of the machine."""

    trt: Any
    cuda: FakeCuda
    gpu: LocalGpu
    memory: MemoryState
    absence: str | None = None


Pretend = Callable[..., Device]


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Pretend:
    """Puts fakes of TensorRT, cuda-python and the driver into this process."""

    def put(trt: Any, cuda: FakeCuda, capability: str, machine: str = platform.machine()) -> Device:
        device = Device(
            trt, cuda, LocalGpu("Fake RTX A2000", capability, None), MemoryState(1 << 33, 1 << 33, 0)
        )
        monkeypatch.setitem(sys.modules, trt.__name__, trt)
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda)
        monkeypatch.setattr(platform, "machine", lambda: machine)
        monkeypatch.setattr("edgepress.machine.cuda_device_absence", lambda: device.absence)
        monkeypatch.setattr("edgepress.local_gpu.local_gpu", lambda: device.gpu)
        monkeypatch.setattr("edgepress.doctor.memory_state.memory_state_under", lambda _root: device.memory)
        known = importlib.metadata.version
        cuda_python = {"cuda-python": "12.6.2" if trt.__version__.startswith("10.") else "13.4.4"}
        monkeypatch.setattr(importlib.metadata, "version", lambda name: cuda_python.get(name) or known(name))
        return device

    return put


# A plan is chosen


RTX = "1.7.1.116"


@pytest.fixture
def fake_plans(folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """A bundle whose plans are those of the fake runtime, for 8.6, 8.9 and for many."""

    def made(*names: str) -> Path:
        engines = []
        for name in names:
            weights = tuple(tuple(float(i == j) for j in range(3)) for i in range(3))
            capabilities = ComputeCapability(name).capabilities
            path = write_plan(
                folder / f"engine-{name}-wf32_af32.plan",
                plan_bytes(Spec(weights)) + b" " * len(name),
                flavour=Flavour.TENSORRT_RTX,
                version=RTX,
                capabilities=capabilities,
                source_sha256=sha256_of_file(folder / "onnx-fp32.onnx"),
            )
            engines.append(engine_of(path))
        out, target = tmp_path / "bundle", bundle_target_of("rtx-desktop")
        write_bundle(manifest_in(folder, *engines), target, engines[0].id, out)
        return out

    return made


def rtx(cuda: FakeCuda, version: str = RTX) -> FakePlanRuntime:
    trt = FakePlanRuntime(cuda, version=version)
    trt.__name__ = "tensorrt_rtx"
    return trt


def capability_of(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)


@pytest.mark.parametrize(
    ("capability", "file"),
    [("8.6", "sm86"), ("8.9", "sm89"), ("12.0", "all"), ("8.0", "all"), ("12.1", "all")],
)
def test_the_plan_for_this_gpu_runs(
    capability: str,
    file: str,
    fake_plans: Callable[..., Path],
    scripts: Callable[[Path], SimpleNamespace],
    pretend: Pretend,
) -> None:
    own, cuda = scripts(fake_plans("sm86", "sm89", "all")), FakeCuda(capability=capability_of(capability))
    pretend(rtx(cuda), cuda, capability)
    assert own.backend.versions() == {
        "numpy": np.__version__,
        "tensorrt-rtx": RTX,
        "cuda-python": "13.4.4",
    }
    session = own.backend.open_session(own.manifest, own.folder, 4)
    assert session.where == (
        f"TensorRT-RTX ({RTX}), Fake RTX A2000 ({capability}), TF32 off, queued, one stream, "
        f"plans/{file}.engine"
    )
    inputs = np.random.default_rng(1).random((1, 2, 2, 3), np.float32)
    scores = session.run(inputs)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, inputs.mean((1, 2)), rtol=1e-6)
    with pytest.raises(own.bundle.Refusal, match=r"takes pictures of shape \(2, 2, 3\), got \(3, 2, 3\)"):
        session.run(np.zeros((1, 3, 2, 3), np.float32))
    session.close()
    cuda.assert_nothing_left()


def test_a_gpu_or_version_without_a_plan_is_told_before_tensorrt_sees_one(
    fake_plans: Callable[..., Path], scripts: Callable[[Path], SimpleNamespace], pretend: Pretend
) -> None:
    own = scripts(fake_plans("sm86", "sm89"))
    hopper = FakeCuda(capability=(9, 0))
    trt = pretend(rtx(hopper), hopper, "9.0").trt
    with pytest.raises(own.bundle.CouldNotRun) as failure:
        own.backend.open_session(own.manifest, own.folder)
    assert str(failure.value) == (
        "no plan of this bundle is for the Fake RTX A2000 here (compute capability 9.0): there are plans for "
        "8.6, 8.9. Make a bundle with one for it."
    )
    cuda = FakeCuda()
    later = pretend(rtx(cuda, "1.7.2.1"), cuda, "8.6").trt
    with pytest.raises(
        own.bundle.CouldNotRun,
        match=rf"plans/sm86\.engine cannot run here: it was built with TensorRT-RTX \({RTX}\), and here is "
        r"TensorRT-RTX \(1\.7\.2\.1\); plans are bound to their version\. Run: pip install",
    ):
        own.backend.open_session(own.manifest, own.folder)
    with pytest.raises(
        own.bundle.CouldNotRun, match=rf"tensorrt-rtx is 1\.7\.2\.1, and =={RTX} is wanted\. Run: pip install"
    ):
        own.checks.check_versions(own.manifest)
    with (own.folder / "plans" / "sm86.engine").open("ab") as file:
        file.write(b" ")
    whole = pretend(rtx(cuda), cuda, "8.6").trt
    with pytest.raises(
        own.bundle.Refusal, match=r"sm86\.engine has \d+ bytes, and .* Unpack the bundle again"
    ):
        own.backend.open_session(own.manifest, own.folder)
    assert [each.runtimes for each in (trt, later, whole)] == [0, 0, 0]


def test_what_is_missing_is_told_in_the_order_in_which_it_is_missed(
    fake_plans: Callable[..., Path],
    scripts: Callable[[Path], SimpleNamespace],
    pretend: Pretend,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own, cuda = scripts(fake_plans("sm86")), FakeCuda(devices=0)
    device = pretend(rtx(cuda), cuda, "8.6")

    def told() -> str:
        for ask in (own.backend.versions, lambda: own.backend.open_session(own.manifest, own.folder)):
            with pytest.raises(own.bundle.CouldNotRun) as failure:
                ask()
        return str(failure.value)

    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    monkeypatch.setitem(sys.modules, "cuda.cudart", None)
    device.absence = "cuInit failed with CUDA error 100"
    assert told().startswith("no NVIDIA GPU can be used here (cuInit failed with CUDA error 100), and the")
    device.absence = None
    assert told() == "tensorrt-rtx is not here. Run: pip install -r requirements.txt"
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", device.trt)
    assert told() == "cuda-python is not here. Run: pip install -r requirements.txt"
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda)
    with pytest.raises(own.bundle.CouldNotRun, match=r"no CUDA device \(cudaErrorNoDevice\)\. Check that"):
        own.backend.open_session(own.manifest, own.folder)
    full = FakeCuda(Injection(CudaErrorCode.cudaErrorMemoryAllocation, 1, "cudaMalloc"))
    pretend(rtx(full), full, "8.6")
    with pytest.raises(
        own.bundle.CouldNotRun, match="cudaErrorMemoryAllocation.* End what else uses the GPU"
    ):
        own.backend.open_session(own.manifest, own.folder)
    full.assert_nothing_left()


def test_tensorrt_without_its_libraries_says_so(
    fake_plans: Callable[..., Path],
    scripts: Callable[[Path], SimpleNamespace],
    pretend: Pretend,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    own, cuda = scripts(fake_plans("sm86")), FakeCuda()
    pretend(rtx(cuda), cuda, "8.6")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "tensorrt_rtx.py").write_text(
        "raise ImportError('libtensorrt_rtx.so.1: cannot open shared object file')"
    )
    monkeypatch.delitem(sys.modules, "tensorrt_rtx")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with pytest.raises(
        own.bundle.CouldNotRun,
        match=r"tensorrt-rtx is here and cannot be loaded \(libtensorrt_rtx\.so\.1: .*\)\. Install it again",
    ):
        own.backend.versions()


# An engine is built on the device


@dataclasses.dataclass
class Place:
    """A bundle on a device that is pretended."""

    own: SimpleNamespace
    device: Device
    bundle: Path

    @property
    def engine(self) -> Path:
        return self.bundle / "engine" / "model.engine"

    def build(self, *arguments: str) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["build.py", *arguments])
            former = signal.getsignal(signal.SIGTERM)
            try:
                return int(self.own.build.main())
            finally:
                signal.signal(signal.SIGTERM, former)


TARGETS = {"10.3": ("jetson-orin", "8.7", "aarch64"), "10.13": ("jetson-orin", "8.7", "aarch64")}
TARGETS |= {"11.1": ("nvidia-server", "8.9", "x86_64")}


@pytest.fixture
def place_of(
    folder: Path, tmp_path: Path, scripts: Callable[[Path], SimpleNamespace], pretend: Pretend
) -> Callable[[str], Place]:
    def made(version: str) -> Place:
        name, capability, machine = TARGETS[version]
        bundle = tmp_path / "bundle"
        write_bundle(manifest_in(folder), bundle_target_of(name), "onnx-fp32", bundle)
        cuda, trt = FakeCuda(capability=capability_of(capability)), fake_tensorrt(version)
        trt.fake.capability = capability
        device = pretend(computing_means(trt, cuda), cuda, capability, machine)
        return Place(scripts(bundle), device, bundle)

    return made


@pytest.fixture
def place(place_of: Callable[[str], Place]) -> Place:
    return place_of("10.3")


@pytest.mark.parametrize("version", FAKE_VERSIONS)
def test_engine_is_built_on_the_device_and_runs(
    version: str, place_of: Callable[[str], Place], capsys: pytest.CaptureFixture[str]
) -> None:
    place = place_of(version)
    own, trt = place.own, place.device.trt
    with pytest.raises(
        own.bundle.CouldNotRun, match=r"no engine/model\.engine with its card yet\. Run: python bu"
    ):
        own.backend.open_session(own.manifest, place.bundle)
    assert own.backend.check_payload(own.manifest, place.bundle) == "no engine yet. Run: python build.py"
    assert place.build() == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "build model.onnx: 16 % after 0 s" in said.out
    assert said.out.splitlines()[-1] == "Now run: python verify.py"
    found = list(own.checks.in_order(SimpleNamespace(public_key=None, latency=None, threads=0)))
    assert [name for name, _ in found] == ["payload", "machine", "runtime", "golden"]
    assert f"({trt.__version__}), Fake RTX A2000 ({place.device.gpu.capability}), TF32 off" in found[2][1]
    assert found[2][1].endswith("engine/model.engine")
    card = read_card(place.engine)
    assert (card.source_sha256, card.version) == (own.manifest["model"]["sha256"], trt.__version__)
    (made,) = trt.fake.builds
    assert made.creation_flags == {"STRONGLY_TYPED"}
    assert made.flags == set()
    assert place.build() == 0
    assert "engine/model.engine is up to date (--force builds it anew)" in capsys.readouterr().out
    assert len(trt.fake.builds) == 1
    assert place.build("--force") == 0
    first, second = trt.fake.builds
    assert (first.cache, second.cache) == (b"", b"timings of model.onnx;")
    assert sorted(path.suffix for path in place.engine.parent.iterdir()) == [".engine", ".json", ".timing"]
    place.device.cuda.assert_nothing_left()


def test_options_reach_the_builder_and_another_tf32_is_another_engine(place: Place) -> None:
    assert place.build("--optimization-level", "5", "--workspace", "64") == 0
    (made,) = place.device.trt.fake.builds
    assert made.config["builder_optimization_level"] == 5
    assert made.pools == {"WORKSPACE": 64 << 20}
    assert place.build("--tf32") == 0
    assert place.device.trt.fake.builds[1].flags == {"TF32"}
    session = place.own.backend.open_session(place.own.manifest, place.bundle)
    assert "TF32 on" in session.where
    session.close()
    assert place.build() == 0
    assert len(place.device.trt.fake.builds) == 3


def test_engine_of_a_sibling_runs_and_is_built_anew(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.build()
    place.device.gpu = LocalGpu("Fake RTX A4000", "8.7", None)
    place.own.backend.open_session(place.own.manifest, place.bundle).close()
    capsys.readouterr()
    assert place.build() == 0
    said = capsys.readouterr().out
    assert "building, since the engine was built on a Fake RTX A2000, and here is a Fake RTX A4000\n" in said
    assert read_card(place.engine).gpu == "Fake RTX A4000"


def change_card(place: Place, **changes: Any) -> EngineCard:
    card = dataclasses.replace(read_card(place.engine), **changes)
    write_card(card, place.engine)
    return card


def foreign_source(place: Place) -> None:
    change_card(place, source_sha256="0" * 64)


def other_version(place: Place) -> None:
    change_card(place, version="10.3.0.30")


def other_gpu(place: Place) -> None:
    change_card(place, capabilities=("7.2",))


def damaged_plan(place: Place) -> None:
    place.engine.write_bytes(place.engine.read_bytes()[:-1] + b"x")


def shorter_plan(place: Place) -> None:
    place.engine.write_bytes(b"short")


def missing_card(place: Place) -> None:
    card_path(place.engine).unlink()


def damaged_card(place: Place) -> None:
    card_path(place.engine).write_text("{")


@pytest.mark.parametrize(
    ("spoil", "verdict", "message"),
    [
        (
            foreign_source,
            "CouldNotRun",
            r"was built from another model \(SHA-256 000000000000…, the bundle's is",
        ),
        (
            other_version,
            "CouldNotRun",
            r"built with TensorRT 10 \(10\.3\.0\.30\), and here is TensorRT 10 \(10\.3",
        ),
        (other_gpu, "CouldNotRun", r"for compute capability 7\.2, and the Fake RTX A2000 here has 8\.7\."),
        (damaged_plan, "Refusal", r"model\.engine is not what was built: SHA-256 is"),
        (shorter_plan, "Refusal", r"model\.engine has 5 bytes, and \d+ were built"),
        (missing_card, "CouldNotRun", r"there is no engine/model\.engine with its card yet\."),
        (damaged_card, "Refusal", r"cannot be read"),
    ],
)
def test_engine_that_does_not_fit_is_refused_before_tensorrt_sees_it_and_built_anew(
    spoil: Callable[[Place], None],
    verdict: str,
    message: str,
    place: Place,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place.build()
    own, trt = place.own, place.device.trt
    spoil(place)
    monkeypatch.setattr(trt, "Runtime", None)  # nothing may be opened
    with pytest.raises(getattr(own.bundle, verdict), match=f"{message}.*Run: python build.py$"):
        own.backend.open_session(own.manifest, place.bundle)
    capsys.readouterr()
    assert place.build() == 0
    assert "building, since " in capsys.readouterr().out
    assert len(trt.fake.builds) == 2
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (damaged_plan, "is not what was built"),
        (damaged_card, "cannot be read"),
        (missing_card, "No engine card"),
    ],
)
def test_damaged_engine_is_found_without_a_gpu(
    spoil: Callable[[Place], None], message: str, place: Place
) -> None:
    place.build()
    spoil(place)
    with pytest.raises(place.own.bundle.Refusal, match=f"{message}.*Run: python build.py"):
        place.own.backend.check_payload(place.own.manifest, place.bundle)


def full_gpu(place: Place) -> None:
    place.device.trt.fake.build_failure = ("Error Code 2: OutOfMemory (Requested size was 1 bytes.)",)


def unknown_operator(place: Place) -> None:
    place.device.trt.fake.parser_errors = (NodeError("no importer registered", 3, "x", "Odd"),)


def other_model(place: Place) -> None:
    with (place.bundle / "model.onnx").open("ab") as file:
        file.write(b" ")


def no_driver(place: Place) -> None:
    place.device.absence = "libcuda.so.1 not found: no NVIDIA driver"


def no_device_for_tensorrt(place: Place) -> None:
    place.device.trt.fake.has_driver = False


def orin_of_another_kind(place: Place) -> None:
    place.device.cuda._capability = (7, 2)


def old_tensorrt(place: Place) -> None:
    place.device.trt.__version__ = "8.6.2"


def little_memory(place: Place) -> None:
    place.device.memory = MemoryState(4 << 30, 1_200_000_000, 0)


def small_gpu(place: Place) -> None:
    place.device.cuda._total_bytes = 100


def other_machine(place: Place) -> None:
    changed(place.bundle, lambda value: value["target"].update(machines=["riscv64"]))


def plans_inside(place: Place) -> None:
    changed(place.bundle, lambda value: value["target"].update(delivery="plans"))


@pytest.mark.parametrize(
    ("spoil", "code", "message"),
    [
        (
            full_gpu,
            1,
            r"TensorRT 10 \(10\.3\.0\.26\) ran out of device memory while it built model\.onnx for",
        ),
        (unknown_operator, 1, r"cannot parse model\.onnx: node 3 \(Odd 'x'\): no importer registered"),
        (other_model, 1, r"model\.onnx was changed: SHA-256 is .*Unpack the bundle again"),
        (no_driver, 2, r"no NVIDIA GPU can be used here \(libcuda\.so\.1 not found"),
        (no_device_for_tensorrt, 2, r"no usable NVIDIA driver here: .* Install or update the driver\.$"),
        (
            orin_of_another_kind,
            2,
            r"for compute capability 8\.7, and the Fake RTX A2000 here has 7\.2\. .*build\.py --any-gpu",
        ),
        (old_tensorrt, 2, r"tensorrt is 8\.6\.2, and >=10\.3,<11 is wanted"),
        (little_memory, 2, r"takes about 1\.5 GB of memory, and 1\.2 GB are free\. .*build\.py --force"),
        (small_gpu, 2, "takes at least .* GB of the GPU's memory, and it has 0.0 GB"),
        (other_machine, 2, "the bundle is for riscv64, this machine is aarch64"),
        (plans_inside, 2, "has its plans already"),
    ],
)
def test_build_that_cannot_be_leaves_the_engine_that_was_there(
    spoil: Callable[[Place], None],
    code: int,
    message: str,
    place: Place,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place.build()
    change_card(place, source_sha256="0" * 64)
    before = {path: path.read_bytes() for path in place.engine.parent.iterdir()}
    spoil(place)
    capsys.readouterr()
    assert place.build() == code
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1
    assert re.search(rf"^build: .*{message}", said.err), said.err
    assert {path: path.read_bytes() for path in place.engine.parent.iterdir()} == before


def test_little_disk_is_told_with_numbers(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    assert place.build("--force") == 2
    assert "The engine needs about 0.1 GB of disk, and" in capsys.readouterr().err
    assert not list(place.engine.parent.iterdir())


def test_force_and_any_gpu_build_all_the_same(place: Place) -> None:
    little_memory(place)
    orin_of_another_kind(place)
    place.device.gpu = LocalGpu("Fake RTX A2000", "7.2", None)
    place.device.trt.fake.capability = "7.2"
    assert place.build("--force", "--any-gpu") == 0
    session = place.own.backend.open_session(place.own.manifest, place.bundle)
    assert "(7.2)" in session.where
    session.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_the_engine_that_was_there(
    number: signal.Signals, place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place.build()
    before = {path: path.read_bytes() for path in place.engine.parent.iterdir()}
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    place.device.trt.fake.during_build = lambda: signal.raise_signal(number)
    capsys.readouterr()
    try:
        assert place.build("--force") == 2
    finally:
        signal.signal(signal.SIGINT, former)
    assert capsys.readouterr().err == "build: interrupted; nothing half-written is left\n"
    assert {path: path.read_bytes() for path in place.engine.parent.iterdir()} == before


def test_process_that_is_killed_at_the_end_leaves_nothing_that_looks_like_an_engine(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(_card: EngineCard, _plan: Path) -> None:
        raise Killed

    place.build()
    with monkeypatch.context() as patch:
        patch.setattr("edgepress.engine_card.write_card", die)
        with pytest.raises(Killed):
            place.build("--force")
    own = place.own
    with pytest.raises(
        own.bundle.CouldNotRun, match="no engine/model.engine with its card yet. Run: python bu"
    ):
        own.backend.open_session(own.manifest, place.bundle)
    (place.engine.parent / ".scratch-of-a-killed-one").mkdir()
    assert place.build() == 0
    assert sorted(path.suffix for path in place.engine.parent.iterdir()) == [".engine", ".json", ".timing"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda value: value["target"].pop("capabilities"),
            "manifest.json has no target.capabilities. Unpack",
        ),
        (lambda value: value["target"].pop("delivery"), "manifest.json has no target.delivery. Unpack"),
        (lambda value: value["model"].pop("sha256"), "manifest.json has no model.sha256. Unpack"),
        (lambda value: value["target"].update(runtime="litert"), "target.runtime is no TensorRT"),
    ],
)
def test_manifest_that_lacks_something_is_told_in_one_line(
    change: Callable[[Any], None], message: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(place.bundle, change)
    assert place.build() == 2
    said = capsys.readouterr().err
    assert said.startswith("build: ")
    assert message in said
    assert len(said.splitlines()) == 1


def test_jetson_gets_tensorrt_from_its_system(folder: Path, tmp_path: Path) -> None:
    target, bundle = bundle_target_of("jetson-orin"), tmp_path / "bundle"
    payload = write_bundle(manifest_in(folder), target, "onnx-fp32", bundle)
    assert target.brings == ("tensorrt",)
    assert payload.steps[0].startswith("sudo apt install python3-libnvinfer")
    assert payload.steps[-1].startswith("python build.py")
    assert (payload.model_file, (bundle / "build.py").is_file()) == ("model.onnx", True)
    size = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
    assert size - (bundle / "model.onnx").stat().st_size < 500_000


def test_profile_that_brings_what_nothing_wants_is_refused(tmp_path: Path) -> None:
    whole = (ROOT / "deploy" / "targets" / "jetson-orin.toml").read_text()
    (tmp_path / "mine.toml").write_text(whole.replace('brings = ["tensorrt"]', 'brings = ["cudnn"]'))
    with pytest.raises(InputError, match="brings cudnn, which no runtime requires"):
        bundle_target_of(str(tmp_path / "mine.toml"))


@needs_builder
@needs_no_gpu
@pytest.mark.parametrize(
    ("target", "variant"),
    [("rtx-desktop", "engine-sm86-wf32_af32"), ("nvidia-server", "onnx-fp32")],
)
def test_stage_delivers_what_only_a_gpu_can_run(
    target: str, variant: str, plans: Callable[..., Manifest], tmp_path: Path
) -> None:
    from deploy.stage import BundleRequest, bundle_folder

    manifest = plans("sm86", "sm89")
    manifest.save()
    made = bundle_folder(BundleRequest(manifest.folder, target, tmp_path / "bundle", variant=variant))
    assert made.proof.startswith(f"all files are as they should be; not run here: {NO_GPU}")
    done = run_isolated(tmp_path / "bundle" / "verify.py")
    assert done.returncode == 2, done.stdout + done.stderr
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [
        *("files", "payload", "machine", "failed", "COULD NOT RUN")
    ]
    plan = next((tmp_path / "bundle").rglob("*.onnx" if target == "nvidia-server" else "*.engine"))
    plan.write_bytes(b"x" + plan.read_bytes()[1:])
    assert run_isolated(tmp_path / "bundle" / "verify.py").returncode == 1


WITH_FAKES = """
import importlib.metadata, runpy, sys
bundle, root, script = sys.argv[1:4]
sys.path.insert(0, bundle)
import edgepress.machine, edgepress.local_gpu, optimize
assert edgepress.__file__.startswith(bundle) and optimize.__file__.startswith(bundle)
sys.path.append(root)
from tests.fakes.fake_cuda import FakeCuda
from tests.fakes.fake_tensorrt import fake_tensorrt
cuda, trt = FakeCuda(capability=(8, 9)), fake_tensorrt("11.1")
trt.fake.capability = "8.9"
sys.modules["tensorrt"], sys.modules["cuda.bindings.runtime"] = trt, cuda
edgepress.machine.cuda_device_absence = lambda: None
gpu = edgepress.local_gpu.LocalGpu("Fake RTX A2000", "8.9", None)
edgepress.local_gpu.local_gpu = lambda: gpu
known = importlib.metadata.version
importlib.metadata.version = lambda name: "13.4.4" if name == "cuda-python" else known(name)
sys.argv = [script, *sys.argv[4:]]
runpy.run_path(script, run_name="__main__")
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the fake's card is of this machine")
def test_bundle_builds_with_the_modules_that_it_carries_alone(folder: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    write_bundle(manifest_in(folder), bundle_target_of("nvidia-server"), "onnx-fp32", bundle)
    done = run_isolated(bundle, ROOT, bundle / "build.py", "--force", code=WITH_FAKES)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    card = read_card(bundle / "engine" / "model.engine")
    assert (card.version, card.gpu) == ("11.1.0.106", "Fake RTX A2000")
    again = run_isolated(bundle, ROOT, bundle / "build.py", code=WITH_FAKES)
    assert "is up to date" in again.stdout
    assert not list(bundle.rglob("__pycache__"))
    if cuda_device_absence() is not None:
        alone = run_isolated(bundle / "build.py")
        assert (alone.returncode, len(alone.stderr.splitlines())) == (2, 1)
        assert alone.stderr.startswith(f"build: {NO_GPU}")
        assert os.listdir(bundle / "engine")
