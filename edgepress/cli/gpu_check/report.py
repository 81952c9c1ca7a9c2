"""gpu-check.json: what one machine with (or without) a GPU gave, to be sent home."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from edgepress.artifact import Precision
from edgepress.doctor.gpu_moment import GpuMoment
from edgepress.engine_card import EngineCard
from edgepress.parity.distance import Distance
from edgepress.runners.runner import LayerTime
from edgepress.target import ComputeCapability
from optimize.build_options import Tf32

REPORT = "gpu-check.json"
SCHEMA_VERSION = 1


class Status(str, Enum):
    """What became of a variant."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class GpuFacts:
    """A GPU, as its driver describes it; null for what it does not tell.

    Attributes:
        name: Of the product.
        compute_capability: Such as "8.6".
        memory_bytes: In total.
    """

    name: str | None
    compute_capability: str | None
    memory_bytes: int | None


@dataclass(frozen=True)
class EnvironmentFacts:
    """An environment of a GPU's runtimes.

    Attributes:
        name: That of its extra.
        state: "complete", "incomplete", "missing" or "broken".
        finding: Versions, or what is wrong.
    """

    name: str
    state: str
    finding: str


@dataclass(frozen=True)
class MachineFacts:
    """The machine, without its name.

    Attributes:
        system: Kernel and architecture.
        board: As the device tree names it; null on a PC.
        jetson: Release of its Linux; null elsewhere.
        cpu: Its name, or why it is not known.
        cores: That may be used; null where that is not known.
        memory_bytes: That may be used; null where that is not known.
        driver: Version of NVIDIA's driver; null without one.
        cuda: The newest CUDA that the driver supports; null without one.
        gpus: Those that the driver sees.
        gpu_absence: Why CUDA can use none; null if it can.
        environments: Those of a GPU's runtimes.
    """

    system: str
    board: str | None
    jetson: str | None
    cpu: str
    cores: float | None
    memory_bytes: int | None
    driver: str | None
    cuda: str | None
    gpus: tuple[GpuFacts, ...]
    gpu_absence: str | None
    environments: tuple[EnvironmentFacts, ...]


@dataclass(frozen=True)
class NetworkFacts:
    """The network that was checked.

    Attributes:
        name: Of the model.
        source: Where its weights came from.
        parameters: How many.
        pictures: How many golden pictures with structure the logits are judged on.
        batch: Of every inference.
    """

    name: str
    source: str
    parameters: int
    pictures: int
    batch: int


@dataclass(frozen=True)
class Times:
    """Samples of one quantity, in ns, in order, and their median.

    Attributes:
        median_ns: Of the samples.
        samples_ns: One for each inference.
    """

    median_ns: float
    samples_ns: tuple[int, ...]


@dataclass(frozen=True)
class EngineContent:
    """What TensorRT made of a network, as its inspector tells.

    Attributes:
        mac_shares: Share in [0, 1] of the multiply-accumulates in fp32, fp16 and int8; null while the
            precision of some layer is not told.
        untold: Layers of the network whose precision is not told.
        fused: Layers of the engine that are several of the network.
        reformats: Layers of the engine that only change how a tensor lies in memory, or its type.
    """

    mac_shares: Mapping[str, float] | None
    untold: tuple[str, ...]
    fused: int
    reformats: int


@dataclass(frozen=True)
class Execution:
    """An engine that ran.

    Attributes:
        evidence: What really ran: TensorRT's version, the GPU, how layers are launched.
        load_ns: Until the engine was ready.
        end_to_end: By the host's clock: input here → scores here.
        upload: By the GPU's clock: input to the GPU.
        compute: By the GPU's clock: from the first kernel to the last.
        download: By the GPU's clock: scores from the GPU.
        speedup: Median compute time of the FP32 engine over that of this one; null where FP32 did not run.
        activation_bytes: Memory on the GPU between layers, as TensorRT tells; null where it does not.
        taken_bytes: By how much free memory of the GPU fell; null where CUDA does not tell.
        before: Clocks, power and slowdowns as the timing began.
        after: Likewise, as it ended.
        layers: Of the engine, timed by TensorRT's profiler in a pass of its own, with the precision that its
            inspector tells.
        content: What the inspector tells of the whole engine; null where its report cannot be read.
        from_fp32: Of its logits from those of FP32 on the CPU; null where they cannot be compared.
        from_emulation: Of its logits from those of the same ONNX file on the CPU; null for FP32's own file.
    """

    evidence: str
    load_ns: int
    end_to_end: Times
    upload: Times
    compute: Times
    download: Times
    speedup: float | None
    activation_bytes: int | None
    taken_bytes: int | None
    before: GpuMoment
    after: GpuMoment
    layers: tuple[LayerTime, ...]
    content: EngineContent | None
    from_fp32: Distance | None
    from_emulation: Distance | None


@dataclass(frozen=True)
class AheadOfTime:
    """A plan that was built for a GPU that is not here.

    Attributes:
        capability: GPU generation.
        card: Of the plan; null if it failed.
        failure: Why nothing came out; null if it did.
    """

    capability: ComputeCapability
    card: EngineCard | None
    failure: str | None


@dataclass(frozen=True)
class Emulation:
    """The logits of a variant's ONNX file on the CPU.

    Attributes:
        runner: That computed them; Q/DQ pairs are computed where they stand, in float.
        from_fp32: Of its logits from those of FP32; null if it could not be run.
        absence: Why it could not be run; null if it was.
    """

    runner: str
    from_fp32: Distance | None
    absence: str | None


@dataclass(frozen=True)
class Instead:
    """What was checked of a variant that did not run.

    Attributes:
        plans: Parsed and built for GPUs that are not here, by the real TensorRT-RTX.
        emulation: Its numbers, on the CPU; null for FP32, which is what the others are compared with.
    """

    plans: tuple[AheadOfTime, ...]
    emulation: Emulation | None


@dataclass(frozen=True)
class VariantRow:
    """One variant.

    Attributes:
        name: E.g. "int8-in-fp16".
        artifact: Id of the ONNX file that it is built from.
        sha256: Of that file.
        precision: Of most of it.
        tf32: Whether the builder may use it.
        least_db: Logit SNR against FP32 on the CPU that is asked for, in dB.
        tolerance: Why so much.
        status: What became of it.
        reason: Why it did not run; null if it did.
        findings: What is wrong: outside of the tolerance, or a fault.
        engine: Card of what was built for the GPU that is here; null if there is none, or it failed.
        execution: What it did there; null if it did not run.
        instead: What was checked where it did not run; null if it ran.
    """

    name: str
    artifact: str
    sha256: str
    precision: Precision
    tf32: Tf32
    least_db: float
    tolerance: str
    status: Status
    reason: str | None
    findings: tuple[str, ...]
    engine: EngineCard | None
    execution: Execution | None
    instead: Instead | None


@dataclass(frozen=True)
class GpuCheck:
    """All that was found.

    Attributes:
        schema_version: Of this file.
        edgepress: Version.
        python: Version.
        tensorrt: What built and ran, e.g. "tensorrt 11.4.0.106"; null if nothing could.
        machine: Where.
        network: What.
        variants: Each, in a fixed order.
    """

    schema_version: int
    edgepress: str
    python: str
    tensorrt: str | None
    machine: MachineFacts
    network: NetworkFacts
    variants: tuple[VariantRow, ...]

    def of_status(self, status: Status) -> tuple[VariantRow, ...]:
        """The rows that ended so."""
        return tuple(row for row in self.variants if row.status is status)
