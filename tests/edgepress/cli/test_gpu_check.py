"""`edgepress gpu-check`: without a GPU, with the real TensorRT-RTX builder; and as with one, on fakes."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import jsonschema
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from benchmark.protocol import Failure, request_to_json
from benchmark.worker_process import WorkerError, WorkerProcess
from edgepress.artifact import Proof
from edgepress.cli.commands.gpu_check import lines_of, outcome_of
from edgepress.cli.gpu_check import worker
from edgepress.cli.gpu_check.check import Check, checked, started
from edgepress.cli.gpu_check.gpu_check_schema import SCHEMA, gpu_check_schema
from edgepress.cli.gpu_check.machine import facts_of, machine_facts
from edgepress.cli.gpu_check.network import Network, Source
from edgepress.cli.gpu_check.privacy import anonymous
from edgepress.cli.gpu_check.questions import Around, Build, LookAround, Ran, Run
from edgepress.cli.gpu_check.report import REPORT, GpuCheck, MachineFacts, NetworkFacts, Status
from edgepress.cli.gpu_check.row import inspected
from edgepress.cli.gpu_check.variants import VARIANTS
from edgepress.cli.gpu_check.worker import Worker
from edgepress.doctor.fact import Unknown
from edgepress.doctor.gpu_moment import UNTOLD
from edgepress.doctor.hardware import this_hardware
from edgepress.doctor.nvidia_driver import Driver, Gpu
from edgepress.engine_card import BatchRange, EngineCard, HardwareCompatibility, read_card, write_card
from edgepress.inspection.inspection_onnx import inspect_onnx
from edgepress.interface import PLAIN, Activation
from edgepress.local_gpu import LocalGpu
from edgepress.machine import cuda_device_absence
from edgepress.manifest import Manifest, ModelCard
from edgepress.parity.answers import Answers
from edgepress.preprocessing import Preprocessing, PreprocessMode
from edgepress.record import from_json, read_record
from edgepress.runners.runner import LayerTime
from edgepress.runners.tensorrt_runner import TensorRtRunner
from edgepress.target import ComputeCapability
from edgepress.tensorrt_flavour import Flavour
from optimize.build_options import BuildOptions, Tf32, flags_of
from optimize.engine_from_onnx import BuiltPlan
from optimize.recipe import recipe_named
from tests.fakes.fake_cuda import Error, FakeCuda, Injection
from tests.fakes.fake_plan_runtime import KERNEL_NS, LAYERS, FakePlanRuntime, Spec, plan_bytes
from tests.fakes.fake_tensorrt import FAKE_VERSIONS, fake_tensorrt

ROOT = Path(__file__).resolve().parents[3]
Cli = Callable[..., "subprocess.CompletedProcess[str]"]
Reply = TypeVar("Reply")

RIGHT = ((9.0, -2.0, 1.0), (-3.0, 8.0, 2.0), (1.0, -6.0, 7.0))
WRONG = ((9.0, -2.0, 1.0), (-3.0, 8.0, 2.0), (7.0, -6.0, 1.0))
INPUTS = np.random.default_rng(3).random((7, 2, 2, 3), np.float32)
WITH_TENSORRT = Around("3.11.7", "10.3.0", None, "cuda.bindings.runtime")

without_gpu = pytest.mark.skipif(cuda_device_absence() is None, reason="there is a CUDA device here")


@pytest.fixture
def network(tmp_path: Path) -> Network:
    """Means of the channels times weights, as the fake runtime computes: one ONNX file for all variants."""
    weights = np.asarray(RIGHT, np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["means"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [None, 2, 2, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None, 3])],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    logits = INPUTS.mean((1, 2)) @ weights
    card = ModelCard(
        *("tiny", "made here", "0" * 64, 9, 3, None),
        Preprocessing(PreprocessMode.NONE, 2, 2),
        Activation.SOFTMAX,
    )
    source = Source(path, "0" * 64, PLAIN, Answers("onnxruntime", logits))
    sources = {variant.artifact: source for variant in VARIANTS}
    facts = NetworkFacts("tiny", "made here", 9, len(INPUTS), 1)
    return Network(facts, sources, INPUTS, logits, Manifest(tmp_path, card))


@pytest.fixture
def machine() -> MachineFacts:
    """One with a GPU."""
    driver = Driver("580.65", "13.0", (Gpu("RTX A2000", "8.6", Unknown("no NVML")),), None)
    return facts_of(replace(this_hardware(Path()), driver=driver), ())


def build(request: Build, weights: tuple[tuple[float, ...], ...] = RIGHT) -> EngineCard:
    plan = Path(request.plan)
    plan.write_bytes(plan_bytes(Spec(weights)))
    gpu = LocalGpu("RTX A2000", "8.6", "580.65")
    flags = tuple(sorted(flags_of(BuildOptions(request.tf32))))
    version, one = "10.3.0", BatchRange(1, 1, 1)
    made = BuiltPlan(Flavour.TENSORRT_10, version, gpu, HardwareCompatibility.NONE, flags, one, 7)
    card = made.card_of(plan, Path(request.source))
    write_card(card, plan)
    return card


@dataclass
class Desk:
    """Stands for the working processes: the real worker, on fakes of TensorRT and CUDA, in this process."""

    build: Callable[[Build], EngineCard] = build
    around: Around = WITH_TENSORRT
    cuda: Callable[[], FakeCuda] = FakeCuda
    asked: list[object] = field(default_factory=list)
    cudas: list[FakeCuda] = field(default_factory=list)

    def __call__(self, python: str) -> "Desk":
        cuda = self.cuda()
        self.cudas.append(cuda)

        def runner(path: Path, threads: int) -> TensorRtRunner:
            return TensorRtRunner(path, lambda: (FakePlanRuntime(cuda), cuda))

        def profiler(
            path: Path, threads: int, image: NDArray[np.float32], runs: int, scratch: Path
        ) -> tuple[LayerTime, ...]:
            with runner(path, threads) as opened:
                return opened.layer_times(image, runs)

        ticks = itertools.count(0, 5_000_000)
        self._worker = Worker(
            self.build,
            lambda name: (runner, profiler),
            lambda: next(ticks),
            lambda: UNTOLD,
            lambda: self.around,
        )
        return self

    def __enter__(self) -> "Desk":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is held."""

    def ask(self, request: object, reply: type[Reply], patience_s: float = 0.0) -> Reply:
        self.asked.append(request)
        answer = json.loads(json.dumps(self._worker.answered(request_to_json(request))))
        if "failure" in answer:
            raise WorkerError(from_json(Failure, answer["failure"]))
        return from_json(reply, answer["reply"])


def saved(folder: Path) -> GpuCheck:
    """The report as it lies on the disk, which satisfies the published schema."""
    value = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    jsonschema.validate(value, json.loads((ROOT / "docs/reference" / SCHEMA).read_text(encoding="utf-8")))
    return read_record(folder / REPORT, GpuCheck, "report", 1, "")


def variant_of(request: Build) -> str:
    return Path(request.plan).stem


def test_published_schema_is_the_one_of_the_code() -> None:
    assert (ROOT / "docs/reference" / SCHEMA).read_text(encoding="utf-8") == gpu_check_schema(), "make docs"


def test_variants_are_what_the_recipes_make() -> None:
    assert [variant.name for variant in VARIANTS] == [
        *("fp32", "tf32", "fp16", "int8", "int8-convolutions-fp16-dense", "int8-in-fp16"),
    ]
    for variant in VARIANTS:
        assert variant.recipe is None or recipe_named(variant.recipe).artifact_id == variant.artifact
    assert [variant.tf32 for variant in VARIANTS].count(Tf32.ON) == 1


def test_every_variant_is_built_run_judged_and_timed(
    network: Network, machine: MachineFacts, tmp_path: Path
) -> None:
    desk = Desk()
    report = checked(Check(tmp_path, network, machine), desk)
    assert saved(tmp_path) == report
    assert report.tensorrt == "tensorrt 10.3.0"
    assert [row.status for row in report.variants] == [Status.PASSED] * 6
    assert [request.tf32 for request in desk.asked if isinstance(request, Build)] == [
        variant.tf32 for variant in VARIANTS
    ]
    for row, variant in zip(report.variants, VARIANTS, strict=True):
        assert (row.reason, row.findings, row.instead) == (None, (), None)
        assert row.engine is not None
        assert row.engine.version == "10.3.0"
        assert row.engine.flags == (("TF32",) if variant.tf32 is Tf32.ON else ())
        found = row.execution
        assert found is not None
        assert found.evidence.startswith("TensorRT 10 (10.3.0), ")
        assert found.compute.median_ns == KERNEL_NS
        assert tuple(layer.name for layer in found.layers) == LAYERS
        assert found.content is not None, "the fake's inspector names other layers than the network has"
        assert (found.content.mac_shares, found.content.fused, found.content.reformats) == (None, 1, 1)
        assert found.content.untold
        assert row.engine.proof is Proof.INFERRED
        assert len(found.compute.samples_ns) == len(found.end_to_end.samples_ns) >= 50
        assert found.speedup == (None if variant.name == "fp32" else 1.0)
        assert found.from_fp32 is not None
        assert found.from_fp32.snr_db is None or found.from_fp32.snr_db > 120
        assert (found.from_emulation is None) == (variant.recipe is None)
    for cuda in desk.cudas:
        cuda.assert_nothing_left()
    assert not list(tmp_path.glob(".scratch*")), "nor are plans left"
    outcome = outcome_of(report, tmp_path / REPORT)
    assert outcome.exit_code == 0
    assert outcome.lines[1].split()[:4] == ["fp32", "passed", "0.050", "ms"]
    assert outcome.lines[-3] == "tiny, tensorrt 10.3.0: 6 passed, 0 failed, 0 not run"


def test_an_inspector_that_tells_every_layer_proves_the_engine(
    network: Network, machine: MachineFacts, tmp_path: Path
) -> None:
    report = checked(Check(tmp_path, network, machine), Desk())
    card, source = report.variants[0].engine, network.sources["onnx-fp32"].path
    layers = inspect_onnx(source).layers
    operand = {"Format/Datatype": "Row major linear Int8"}
    entries = [{"Name": layer.name, "LayerType": "kgen", "Inputs": [operand]} for layer in layers]
    entries[-1]["Inputs"] = [{"Format/Datatype": "Row major linear FP16 format"}]

    proven, content = inspected(card, source, json.dumps({"Layers": entries, "I/O Tensors": []}))
    assert proven is not None
    assert content is not None
    assert content.mac_shares is not None
    whole, last = sum(layer.macs for layer in layers), layers[-1].macs
    assert content.mac_shares == pytest.approx({"fp32": 0, "fp16": last / whole, "int8": 1 - last / whole})
    assert (proven.proof, content.untold) == (Proof.INSPECTED, ())

    assert inspected(card, source, "") == inspected(card, source, None) == (card, None)


def test_a_variant_outside_of_its_tolerance_is_a_failure(
    network: Network, machine: MachineFacts, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def swapped(request: Build) -> EngineCard:
        return build(request, WRONG if variant_of(request) == "fp16" else RIGHT)

    report = checked(Check(tmp_path, network, machine), Desk(swapped))
    (row,) = report.of_status(Status.FAILED)
    assert row.name == "fp16"
    assert row.findings[0].endswith(" dB against FP32 on the CPU, wanted 45 dB")
    assert row.findings[1].startswith("another top class for ")
    assert row.execution is not None, "what was measured is told all the same"
    assert outcome_of(report, tmp_path / REPORT).exit_code == 1
    assert "fp16: SNR " in caplog.text


def test_logits_that_are_no_numbers_are_a_failure(
    network: Network, machine: MachineFacts, tmp_path: Path
) -> None:
    def broken(request: Build) -> EngineCard:
        return build(request, ((float("nan"),) * 3,) * 3)

    report = checked(Check(tmp_path, network, machine), Desk(broken))
    assert {row.findings for row in report.variants} == {
        ("NaN or infinity among the logits of 7 of 7 pictures",)
    }
    assert saved(tmp_path).variants[0].execution is not None


def test_a_gpu_that_is_lost_costs_one_variant(
    network: Network, machine: MachineFacts, tmp_path: Path
) -> None:
    count = itertools.count()

    def third_is_lost() -> FakeCuda:
        lost = Injection(Error.cudaErrorUnknown, 2, "cudaStreamSynchronize")
        return FakeCuda(lost) if next(count) == 3 else FakeCuda()

    report = checked(Check(tmp_path, network, machine), Desk(cuda=third_is_lost))
    (row,) = report.of_status(Status.FAILED)
    assert row.name == "fp16"
    assert row.engine is not None
    assert row.findings[0].startswith(
        "CUDA: cudaStreamSynchronize gave cudaErrorUnknown, wanted cudaSuccess."
    )
    assert len(report.of_status(Status.PASSED)) == 5


def test_an_interrupted_check_keeps_what_is_finished(
    network: Network, machine: MachineFacts, tmp_path: Path
) -> None:
    def interrupted(request: Build) -> EngineCard:
        if variant_of(request) == "fp16":
            raise KeyboardInterrupt
        return build(request)

    with pytest.raises(KeyboardInterrupt):
        checked(Check(tmp_path, network, machine), Desk(interrupted))
    rows = saved(tmp_path).variants
    assert [row.status for row in rows[:3]] == [Status.PASSED, Status.PASSED, Status.NOT_RUN]
    assert rows[2].reason == "not reached: the check was interrupted"
    assert not list(tmp_path.glob(".scratch*"))


@pytest.mark.parametrize(
    ("around", "reason"),
    [
        (Around("3.11.7", None, None, None), "tensorrt or tensorrt-rtx is not in "),
        (Around("3.11.7", "11.4.0", None, None), "cuda-python is not in "),
    ],
)
def test_a_gpu_without_tensorrt_is_told_with_what_helps(
    around: Around, reason: str, network: Network, machine: MachineFacts, tmp_path: Path
) -> None:
    report = checked(Check(tmp_path, network, machine), Desk(around=around))
    for row in report.variants:
        assert row.status is Status.NOT_RUN
        assert row.reason is not None
        assert row.reason.startswith(reason)
        assert row.reason.endswith(": make setup DEVICE=cuda")
        assert row.instead is not None
        assert [plan.capability.value for plan in row.instead.plans] == ["sm86", "sm89", "sm120"]
    assert outcome_of(report, tmp_path / REPORT).exit_code == 1


def test_tensorrt_rtx_is_taken_where_it_is_alone(
    network: Network, machine: MachineFacts, tmp_path: Path
) -> None:
    desk = Desk(around=Around("3.11.7", None, "1.7.1", "cuda.cudart"))
    assert checked(Check(tmp_path, network, machine), desk).tensorrt == "tensorrt-rtx 1.7.1"
    assert {request.runner for request in desk.asked if isinstance(request, Build)} == {"tensorrt-rtx"}


def test_a_process_that_dies_is_told(network: Network, machine: MachineFacts, tmp_path: Path) -> None:
    def dying(python: str) -> WorkerProcess:
        return WorkerProcess((sys.executable, "-c", "import os; input(); os.abort()"))

    report = checked(Check(tmp_path, network, machine), dying)
    assert report.variants[0].reason == (
        "the Python of TensorRT's environment does not work: its process was ended by SIGABRT"
    )
    assert report.variants[0].instead is not None
    assert report.variants[0].instead.plans[2].failure == "its process was ended by SIGABRT"


@pytest.mark.parametrize("version", FAKE_VERSIONS)
@pytest.mark.parametrize("tf32", Tf32)
def test_worker_builds_for_the_gpu_at_hand_with_the_tensorrt_that_is_there(
    version: str, tf32: Tf32, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = fake_tensorrt(version)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setattr(worker, "local_gpu", lambda: LocalGpu("Orin", "8.7", None))
    source, plan = next(iter(network.sources.values())).path, tmp_path / "m.plan"
    card = worker.build_engine(Build(str(source), str(plan), "tensorrt", tf32, None, "f" * 64))
    assert card == read_card(plan)
    assert (card.version, card.gpu, card.capabilities) == (trt.__version__, "Orin", ("8.7",))
    assert card.flags == (("TF32",) if tf32 is Tf32.ON else ())
    assert card.calibration == "f" * 64
    assert worker.around_here().tensorrt == trt.__version__


def test_worker_without_a_driver_or_tensorrt_says_so(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Build(str(tmp_path / "m.onnx"), str(tmp_path / "m.plan"), "tensorrt", Tf32.OFF, None, None)
    trt = fake_tensorrt("11.1")
    trt.fake.has_driver = False
    monkeypatch.setattr(worker, "local_gpu", lambda: LocalGpu("Orin", "8.7", None))
    for module, reason in (
        (trt, "finds no usable NVIDIA driver here"),
        (None, "'tensorrt' is not installed"),
    ):
        monkeypatch.setitem(sys.modules, "tensorrt", module)
        answer = Worker().answered(request_to_json(request))
        assert answer["failure"]["kind"] == "missing"
        assert reason in answer["failure"]["message"]
    assert not (tmp_path / "m.plan").exists()


@without_gpu
def test_worker_builds_ahead_of_time_and_says_why_nothing_runs(network: Network, tmp_path: Path) -> None:
    source = next(iter(network.sources.values())).path
    inputs, plan = tmp_path / "inputs.npy", tmp_path / "m.plan"
    np.save(inputs, INPUTS)
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(source.read_bytes()[:40])
    with started(sys.executable) as process:
        around = process.ask(LookAround(), Around)
        assert around.tensorrt_rtx is not None
        request = Build(str(source), str(plan), "tensorrt-rtx", Tf32.OFF, ComputeCapability.SM89, None)
        card = process.ask(request, EngineCard)
        assert card == read_card(plan)
        with pytest.raises(WorkerError, match="cannot parse damaged.onnx") as refused:
            process.ask(replace(request, source=str(damaged)), EngineCard)
        assert refused.value.failure.kind.value == "input"
        run = Run(str(plan), "tensorrt-rtx", str(inputs), 1, str(tmp_path / "s.npy"), 0, 0, 1)
        with pytest.raises(WorkerError) as missing:
            process.ask(run, Ran)
        assert missing.value.failure.kind.value == "missing"


@without_gpu
def test_without_a_gpu_every_variant_says_why_and_what_was_checked(
    cli: Cli, digits_folder: Path, copy_of: Callable[[Path], Path], tmp_path: Path
) -> None:
    out = tmp_path / "check"
    done = cli("gpu-check", "--model", copy_of(digits_folder), "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    report = saved(out)
    told = json.loads(done.stdout)
    assert told.pop("report") == str(out / REPORT)
    assert from_json(GpuCheck, told) == report
    assert report.tensorrt is None
    assert report.network.name == "vgg16-digits"
    for row, variant in zip(report.variants, VARIANTS, strict=True):
        assert (row.status, row.findings, row.engine, row.execution) == (Status.NOT_RUN, (), None, None)
        assert row.reason == f"no CUDA device ({cuda_device_absence()})"
        assert row.instead is not None
        assert all(plan.card is not None for plan in row.instead.plans), "really built, by TensorRT-RTX"
        emulation = row.instead.emulation
        assert (emulation is None) == (variant.recipe is None)
        if emulation is not None and emulation.from_fp32 is not None:
            assert emulation.from_fp32.snr_db is not None
            assert emulation.from_fp32.snr_db > variant.tolerance.least_db
    sizes = {
        row.name: plan.card.plan_bytes
        for row in report.variants
        for plan in (row.instead.plans[:1] if row.instead else ())
        if plan.card
    }
    assert sizes["fp16"] < sizes["fp32"]
    assert sizes["int8"] < sizes["fp32"]
    text = (out / REPORT).read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert str(Path.home()) not in text or str(Path.home()) == "/"
    assert os.uname().nodename not in text or os.uname().nodename in {"", "localhost"}
    assert any(line.startswith("not run: no CUDA device (") for line in lines_of(report))


def test_a_folder_without_onnx_is_refused(cli: Cli, tmp_path: Path) -> None:
    done = cli("gpu-check", "--model", tmp_path / "gone", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@without_gpu
def test_machine_here_is_described_without_its_name() -> None:
    found = machine_facts(Path())
    assert found.gpu_absence == cuda_device_absence()
    assert {each.name for each in found.environments} == {"gpu-trt", "gpu-ort", "gpu-tf"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("the plan /home/me/out/m.plan is damaged", "the plan …/m.plan is damaged"),
        ("'/opt/x/lib.so': cannot open", "'…/lib.so': cannot open"),
        ("~/secret/m.plan", "…/m.plan"),
        ("in /my folder/m.plan", "in …/m.plan"),
        ("CUDA 12/13 and/or 3.5/4", "CUDA 12/13 and/or 3.5/4"),
        ("orin-7 said no, storin-7 too", "… said no, storin-7 too"),
    ],
)
def test_what_is_sent_home_names_no_folder_and_no_machine(text: str, told: str) -> None:
    assert anonymous({"a": [text, 1, None]}, ("/my folder",), "orin-7") == {"a": [told, 1, None]}
