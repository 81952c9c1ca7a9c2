"""What the command and its working processes say to each other. Files are on the disk of both."""

from dataclasses import dataclass

from edgepress.doctor.gpu_moment import GpuMoment
from edgepress.runners.runner import LayerTime
from edgepress.target import ComputeCapability
from optimize.build_options import Tf32


@dataclass(frozen=True)
class LookAround:
    """Tell what is installed → `Around`."""


@dataclass(frozen=True)
class Around:
    """What an interpreter's environment has; None for what is not there.

    Attributes:
        python: Version.
        tensorrt: Version of what can be imported.
        tensorrt_rtx: Likewise.
        cuda_python: Where the runtime API of CUDA is imported from.
    """

    python: str
    tensorrt: str | None
    tensorrt_rtx: str | None
    cuda_python: str | None


@dataclass(frozen=True)
class Build:
    """Build an engine → its `EngineCard`, which is also written beside it.

    Attributes:
        source: ONNX file.
        plan: New file.
        runner: Name of the runner that it is for.
        tf32: Whether the builder may use it.
        capability: GPU generation; None for the GPU that is here.
        calibration: Fingerprint of the ranges in the source; None for one without.
    """

    source: str
    plan: str
    runner: str
    tf32: Tf32
    capability: ComputeCapability | None
    calibration: str | None


@dataclass(frozen=True)
class Run:
    """Run an engine: on every input once, then on the first one for some time → `Ran`.

    Attributes:
        plan: Its file.
        runner: Name of its runner.
        inputs: An .npy file.
        batch: How many of them go in at once.
        scores: New .npy file of float32, one row for each input.
        warm_up_ns: Time that does not count.
        duration_ns: Time that counts, at least.
        count: Inferences that count, at least.
    """

    plan: str
    runner: str
    inputs: str
    batch: int
    scores: str
    warm_up_ns: int
    duration_ns: int
    count: int


@dataclass(frozen=True)
class Ran:
    """What was seen. Samples are in ns, one for each inference, in order.

    Attributes:
        evidence: What really ran, as the runner tells.
        load_ns: Until the engine was ready for its first inference.
        end_to_end_ns: By the host's clock: input here → scores here.
        upload_ns: By the GPU's clock: input to the GPU.
        compute_ns: By the GPU's clock: from the first kernel to the last.
        download_ns: By the GPU's clock: scores from the GPU.
        activation_bytes: Memory on the GPU for what lies between layers, as TensorRT tells.
        taken_bytes: By how much free memory of the GPU fell, from before the engine was loaded.
        before: Clocks, power and slowdowns as the timing began.
        after: Likewise, as it ended.
        layers: By TensorRT's own profiler, in a pass of its own before.
        inspector: What its inspector says of the engine, as JSON; None where the runner has none.
    """

    evidence: str
    load_ns: int
    end_to_end_ns: tuple[int, ...]
    upload_ns: tuple[int, ...]
    compute_ns: tuple[int, ...]
    download_ns: tuple[int, ...]
    activation_bytes: int | None
    taken_bytes: int | None
    before: GpuMoment
    after: GpuMoment
    layers: tuple[LayerTime, ...]
    inspector: str | None
