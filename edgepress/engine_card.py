"""Engine card: what a TensorRT plan is, and where it can run, in a file beside it.

A plan tells nothing without the TensorRT and the GPU that it was built for, and a damaged one may crash the
process that opens it. So the card is read first, and a plan that cannot run here never gets to TensorRT.
"""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from edgepress.artifact import Proof
from edgepress.errors import InputError
from edgepress.files import sha256_of_file, write_json
from edgepress.local_gpu import LocalGpu
from edgepress.record import read_record, to_json
from edgepress.tensorrt_flavour import FLAVOURS, Flavour

CARD_SUFFIX = ".engine.json"
SCHEMA_VERSION = 1
_VERSION_COMPATIBLE = "VERSION_COMPATIBLE"
_STRIPPED = "STRIP_PLAN"
_WHAT = "engine card"
_AMPERE = (8, 0)
_OPEN_END = (12, 0)


class HardwareCompatibility(str, Enum):
    """On which GPUs beside its own a plan runs; the value is TensorRT's name for it."""

    NONE = "NONE"
    AMPERE_PLUS = "AMPERE_PLUS"
    SAME_COMPUTE_CAPABILITY = "SAME_COMPUTE_CAPABILITY"


@dataclass(frozen=True)
class BatchRange:
    """Batches that a plan takes: the least, the one that it is tuned for, and the most."""

    least: int
    usual: int
    most: int


@dataclass(frozen=True)
class EngineCard:
    """What a plan is.

    Attributes:
        schema_version: Of this file.
        plan_sha256: Of the plan.
        plan_bytes: Size of the plan.
        flavour: TensorRT that it was built with.
        version: Of that TensorRT, to the last digit, e.g. "10.3.0.26".
        system: Operating system and architecture, e.g. "Linux aarch64".
        capabilities: Compute capabilities that it was built for, e.g. ("8.7",).
        gpu: Name of the GPU that it was built on; None without one.
        driver: Version of NVIDIA's driver there; None where that is not known.
        hardware: On which other GPUs it runs.
        flags: Names of the builder's flags, sorted. Their numbers differ between versions.
        batch: That it takes.
        source_sha256: Of the ONNX file.
        calibration: Fingerprint of the ranges in an INT8 plan; None for others.
        build_ns: What building took.
        proof: Whether its layers were read (`inspected`, on a GPU), or concluded from source and size.
    """

    schema_version: int
    plan_sha256: str
    plan_bytes: int
    flavour: Flavour
    version: str
    system: str
    capabilities: tuple[str, ...]
    gpu: str | None
    driver: str | None
    hardware: HardwareCompatibility
    flags: tuple[str, ...]
    batch: BatchRange
    source_sha256: str
    calibration: str | None
    build_ns: int
    proof: Proof

    @property
    def title(self) -> str:
        """TensorRT and its version, as a message calls them."""
        return f"{FLAVOURS[self.flavour].title} ({self.version})"

    @property
    def lines(self) -> tuple[str, ...]:
        """What a person wants to know of the plan, a sentence each."""
        place = f"compute capability {', '.join(self.capabilities)}"
        on = f"{self.gpu}, " if self.gpu is not None else ""
        flags = ", ".join(self.flags) or "none"
        batch = self.batch
        return (
            f"Built with {self.title} on {self.system} for {on}{place}; hardware compatibility: "
            f"{self.hardware.value}; flags: {flags}.",
            f"Takes batches of {batch.least} to {batch.most}, tuned for {batch.usual}."
            if batch.least < batch.most
            else f"Takes batches of {batch.usual}.",
        )


@dataclass(frozen=True)
class EnginePlace:
    """Where a plan is to run.

    Attributes:
        flavour: TensorRT that is there.
        version: Of that TensorRT.
        system: Operating system and architecture.
        gpu: That CUDA runs on.
    """

    flavour: Flavour
    version: str
    system: str
    gpu: LocalGpu

    @property
    def title(self) -> str:
        """TensorRT and its version, as a message calls them."""
        return f"{FLAVOURS[self.flavour].title} ({self.version})"


def card_path(plan: Path) -> Path:
    """The file of a plan's card: beside it, `NAME.engine.json`."""
    return plan.with_suffix(CARD_SUFFIX)


def write_card(card: EngineCard, plan: Path) -> None:
    """Write a plan's card beside it.

    Raises:
        InputError: The folder cannot be written to.
    """
    write_json(card_path(plan), to_json(card))


def unlink_with_card(path: Path) -> None:
    """Remove an artifact's file, and the card beside it where it has one."""
    path.unlink(missing_ok=True)
    card_path(path).unlink(missing_ok=True)


def read_card(plan: Path) -> EngineCard:
    """Read a plan's card. The plan is not looked at.

    Raises:
        InputError: There is none, or it is damaged or of another schema version.
    """
    return read_record(
        card_path(plan), EngineCard, _WHAT, SCHEMA_VERSION, f"Build {plan.name} anew: its card comes with it."
    )


def require_whole(card: EngineCard, plan: Path) -> None:
    """Check a plan against its card, byte by byte.

    Raises:
        InputError: It is missing, truncated, or differs from what was built.
    """
    if not plan.is_file():
        raise InputError(
            f"There is no plan at {plan}. Copy it there together with its card, or build it anew."
        )
    size = plan.stat().st_size
    if size != card.plan_bytes:
        raise InputError(
            f"{plan.name} has {size} bytes, and {card.plan_bytes} were built: it is not whole. Copy it again "
            "or build it anew."
        )
    found = sha256_of_file(plan)
    if found != card.plan_sha256:
        raise InputError(
            f"{plan.name} is not what was built: SHA-256 is {found[:12]}…, its card says "
            f"{card.plan_sha256[:12]}…. Copy it again, or build it anew."
        )


def require_runs_here(card: EngineCard, plan: Path, here: EnginePlace) -> None:
    """Refuse a plan that cannot run here, before TensorRT sees it.

    The checksum comes first, so that a damaged plan never gets to TensorRT.

    Args:
        card: Of the plan.
        plan: The plan itself.
        here: TensorRT, system and GPU that are to run it.

    Raises:
        InputError: The plan is damaged, has no weights, or is for another TensorRT, system or GPU.
    """
    require_whole(card, plan)
    if _STRIPPED in card.flags:
        raise InputError(
            f"{plan.name} cannot run here: its weights were left out when it was built. Put them back from "
            "its ONNX file first, or build it with its weights."
        )
    if (reason := mismatch(card, here)) is not None:
        raise InputError(f"{plan.name} cannot run here: {reason} Build it anew with what is here.")


def mismatch(card: EngineCard, here: EnginePlace) -> str | None:
    """Why a plan that is whole cannot run at a place, a sentence; None if it can."""
    if card.flavour is not here.flavour and not _is_next_major(card, here):
        return f"it was built with {card.title}, and here is {here.title}."
    if card.version != here.version and not _takes_version(card, here):
        return f"it was built with {card.title}, and here is {here.title}; plans are bound to their version."
    if card.system != here.system:
        return f"it was built on {card.system}, and here is {here.system}."
    if not _takes_gpu(card, here.gpu.capability):
        built_for = " and ".join(card.capabilities)
        return (
            f"it was built for compute capability {built_for}, and the {here.gpu.name} here has "
            f"{here.gpu.capability}."
        )
    return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _is_next_major(card: EngineCard, here: EnginePlace) -> bool:
    """NVIDIA's support matrix: a version compatible plan of 10 also loads in 11."""
    is_pair = (card.flavour, here.flavour) == (Flavour.TENSORRT_10, Flavour.TENSORRT_11)
    return is_pair and _VERSION_COMPATIBLE in card.flags


def _takes_version(card: EngineCard, here: EnginePlace) -> bool:
    return _VERSION_COMPATIBLE in card.flags and _numbers(here.version) >= _numbers(card.version)


def _takes_gpu(card: EngineCard, capability: str) -> bool:
    if capability in card.capabilities:
        return True
    if card.hardware is HardwareCompatibility.AMPERE_PLUS:
        return _numbers(capability) >= _AMPERE
    # TensorRT-RTX's plan for all: "8.0, 8.6, 8.9, 12.0, and later" (its guide, CPU-Only AOT).
    is_for_all = card.flavour is Flavour.TENSORRT_RTX and len(card.capabilities) > 1
    return is_for_all and _numbers(capability) >= _OPEN_END
