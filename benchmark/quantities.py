"""What a row of the results holds: times, verdict, accuracy, memory, throughput and what ran."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from benchmark.memory import Residence
from edgepress.runners.runner import DeviceTime, LayerTime


class Basis(str, Enum):
    """Where a speed-up comes from."""

    PAIRED = "paired"  # median over pairs of neighbouring blocks in two interleaved processes
    DEFINITION = "definition"  # the FP32 artifact against itself
    QUOTIENT = "quotient"  # of two paired speed-ups against the same FP32 artifact


@dataclass(frozen=True)
class Speedup:
    """How many times as fast: above 1 is faster.

    Attributes:
        median: The estimate.
        ci95: Its bootstrap 95 % interval over the restarts of both processes.
        against: Id of the artifact that it is relative to, on the same runner, device and threads.
        basis: How it was found.
        pair_ratios: Per pair of blocks, baseline's median over variant's median; empty unless paired.
        restart_counts: How many of these pairs each restart of both processes holds; empty unless paired.
    """

    median: float
    ci95: tuple[float, float]
    against: str
    basis: Basis
    pair_ratios: tuple[float, ...]
    restart_counts: tuple[int, ...]


@dataclass(frozen=True)
class Latency:
    """One inference after another, input in host memory to logits in host memory.

    Attributes:
        samples_ns: Every counted inference, in order.
        block_counts: How many of them each block holds.
        restart_counts: How many of these blocks each fresh process holds, in order.
        median_ns: Of all samples.
        median_ci95_ns: Its 95 % interval by order statistics; None with too few samples.
        min_ns: Of all samples.
        p90_ns: None where there are too few samples for it.
        p99_ns: Likewise.
        percentile_note: Why a percentile is None; None if none is.
        cv: Coefficient of variation (standard deviation over mean).
        load_ns: From the file to a ready runtime, in the first of the fresh processes.
        first_ns: The very first inference, there.
        warm_up_count: Inferences between the first one and the first block, there.
        others_cpu: Share in [0, 1] of our cores that other processes took meanwhile; None where not known.
    """

    samples_ns: tuple[int, ...]
    block_counts: tuple[int, ...]
    restart_counts: tuple[int, ...]
    median_ns: float
    median_ci95_ns: tuple[float, float] | None
    min_ns: int
    p90_ns: float | None
    p99_ns: float | None
    percentile_note: str | None
    cv: float
    load_ns: int
    first_ns: int
    warm_up_count: int
    others_cpu: float | None


class State(str, Enum):
    """Whether a row's times can be believed."""

    VALID = "valid"
    UNSTABLE = "unstable"  # something disturbed the measurement: measure again
    INVALID = "invalid"  # the numbers do not say what they seem to say


@dataclass(frozen=True)
class Verdict:
    """What to make of a row's times.

    Attributes:
        state: The worst of all reasons.
        reasons: One clause each; empty if valid.
    """

    state: State
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Accuracy:
    """How the logits compare with the reference's, on the same pictures.

    Attributes:
        images: Number of pictures.
        top1: Share of pictures in [0, 1]; None without labels that are the model's.
        top5: Likewise.
        top1_ci95: Wilson's 95 % interval of `top1`.
        top5_ci95: Likewise.
        agreement: Share of pictures with the same top class as the reference.
        logit_snr_db: None where the logits are identical or not finite.
        logits_identical: Whether every logit has the same bits.
        kl_nats: Mean Kullback-Leibler divergence of the softmaxes from the reference's; None if not finite.
        mcnemar_p: Two-sided p-value that top-1 differs from the reference's by chance only.
        resolvable: The smallest difference of top-1, as a share, that so many pictures can show (p < 0.05).
        note: Why something is None.
    """

    images: int
    top1: float | None
    top5: float | None
    top1_ci95: tuple[float, float] | None
    top5_ci95: tuple[float, float] | None
    agreement: float
    logit_snr_db: float | None
    logits_identical: bool
    kl_nats: float | None
    mcnemar_p: float | None
    resolvable: float | None
    note: str | None


@dataclass(frozen=True)
class Memory:
    """The (first) process that measured latency. None where the system does not tell.

    Attributes:
        empty: With the runtime imported, before the model was loaded.
        loaded: After the model was loaded, before the first inference.
        end: After the last block.
        device_bytes: What loading and running the model added to the memory in use on the GPU, by whomever,
            as NVML tells; None on a CPU.
        device_process_bytes: Memory of the GPU that the process held at its end, as NVML tells: the model,
            the runtime's kernels, and the CUDA context.
        device_taken_bytes: By how much free memory of the GPU fell, from the CUDA context without the model
            until the end, as CUDA tells (cudaMemGetInfo); also known on a Jetson.
        device_activation_bytes: Of it, for what lies between layers, as the runtime tells.
    """

    empty: Residence
    loaded: Residence
    end: Residence
    device_bytes: int | None
    device_process_bytes: int | None = None
    device_taken_bytes: int | None = None
    device_activation_bytes: int | None = None

    @property
    def loaded_rss_bytes(self) -> int | None:
        """What loading the model added to the empty process."""
        return _difference(self.loaded.rss_bytes, self.empty.rss_bytes)

    @property
    def loaded_mapped_bytes(self) -> int | None:
        """Of `loaded_rss_bytes`, pages of the model's own file: weights that are mapped, not copied."""
        return self.loaded.model_mapped_bytes

    @property
    def peak_rss_bytes(self) -> int | None:
        """The most that loading and running the model added to the empty process."""
        return _difference(self.end.peak_rss_bytes, self.empty.rss_bytes)


def _difference(value: int | None, other: int | None) -> int | None:
    return None if value is None or other is None else value - other


@dataclass(frozen=True)
class DeviceLatency:
    """Inferences by the GPU's own clock, one after the other, after the blocks. The host's part is not in it.

    Attributes:
        samples: Of each inference, in order, over all fresh processes.
        upload_ns: Median of the copies to the GPU.
        compute_ns: Median from the first kernel to the last.
        download_ns: Median of the copies from the GPU.
    """

    samples: tuple[DeviceTime, ...]
    upload_ns: float
    compute_ns: float
    download_ns: float


@dataclass(frozen=True)
class GpuConduct:
    """What the GPU did before and after each block of a row, in order. Empty where the system does not tell.

    Attributes:
        sm_mhz: Clock of the multiprocessors.
        memory_mhz: Clock of its memory.
        power_mw: What it drew, as its driver averages it.
        slowdowns: Why it was slowed down at any of these moments, each reason once.
    """

    sm_mhz: tuple[int, ...]
    memory_mhz: tuple[int, ...]
    power_mw: tuple[int, ...]
    slowdowns: tuple[str, ...]


@dataclass(frozen=True)
class Throughput:
    """Offline: all pictures are there at once, and are run in batches, one batch after the other.

    Attributes:
        batch: Pictures in a batch.
        samples_ns: Every counted batch, in order.
        images_per_s: Pictures a second, from the median of the samples.
        images_per_s_ci95: Its 95 % interval by order statistics; None with too few samples.
        speedup: Against the FP32 artifact at the same batch; None where there is none.
    """

    batch: int
    samples_ns: tuple[int, ...]
    images_per_s: float
    images_per_s_ci95: tuple[float, float] | None
    speedup: Speedup | None


@dataclass(frozen=True)
class Profile:
    """What ran, node by node, by the runtime's own profiler, in a pass of its own.

    Attributes:
        runs: Inferences that were profiled.
        layers: Nodes in the order of execution. Their times are those of a profiled run, which is slower.
        place_time_shares: Share of the nodes' time in [0, 1] on each execution provider or delegate.
        place_nodes: Number of nodes on each.
        precision_time_shares: Share of the nodes' time in [0, 1] in "int8", "fp16", "fp32", and "unknown".
    """

    runs: int
    layers: tuple[LayerTime, ...]
    place_time_shares: Mapping[str, float]
    place_nodes: Mapping[str, int]
    precision_time_shares: Mapping[str, float]
