"""Which artifact is measured on which runner and device, and which rows are skipped, with the reason."""

from dataclasses import dataclass
from enum import Enum

from edgepress.artifact import Artifact, Device, Format, Runtime
from edgepress.machine import Isa
from edgepress.manifest import Manifest

_DEVICES: dict[tuple[Format, Runtime], tuple[Device, ...]] = {
    (Format.SAVED_MODEL, Runtime.TENSORFLOW): (Device.CPU, Device.CUDA),
    (Format.ONNX, Runtime.ONNXRUNTIME): (Device.CPU,),
    (Format.ONNX, Runtime.ONNXRUNTIME_EMULATION): (Device.CPU,),
    (Format.ONNX, Runtime.ONNXRUNTIME_CUDA): (Device.CUDA,),
    (Format.ONNX, Runtime.ONNXRUNTIME_TENSORRT): (Device.CUDA,),
    (Format.TFLITE, Runtime.LITERT): (Device.CPU,),
    (Format.ENGINE, Runtime.TENSORRT): (Device.CUDA,),
    (Format.ENGINE, Runtime.TENSORRT_RTX): (Device.CUDA,),
}

ACCURACY_ONLY = "accuracy only: TensorRT's graph runs here with float kernels, so its time says nothing"
NO_ENGINE_RUNNER = "this version has no runner for TensorRT engines"


class Purpose(Enum):
    """What a row is for."""

    LATENCY_AND_ACCURACY = "latency and accuracy"
    ACCURACY = "accuracy"


@dataclass(frozen=True)
class Row:
    """One line of the table to come."""

    artifact: Artifact
    runner: Runtime
    device: Device

    @property
    def purpose(self) -> Purpose:
        """An emulation gives a runtime's numbers, never its speed."""
        if self.runner is Runtime.ONNXRUNTIME_EMULATION:
            return Purpose.ACCURACY
        return Purpose.LATENCY_AND_ACCURACY


def rows_of(manifest: Manifest, variants: tuple[str, ...] | None) -> tuple[Row, ...]:
    """All rows of a manifest, in its order; with `variants`, only those of these artifacts.

    Raises:
        InputError: There is no artifact of such an id.
    """
    chosen = manifest.artifacts
    if variants is not None:
        wanted = {manifest.get(variant).id for variant in variants}
        chosen = tuple(artifact for artifact in chosen if artifact.id in wanted)
    return tuple(
        Row(artifact, runtime, device)
        for artifact in chosen
        for runtime in artifact.runtimes
        for device in _DEVICES.get((artifact.format, runtime), ())
    )


def skip_reason(row: Row, device: Device, cuda_absence: str | None) -> str | None:
    """Why a row is not run, or None.

    Args:
        row: The row.
        device: What the user asked for.
        cuda_absence: See `edgepress.machine.cuda_device_absence`.
    """
    if row.device is Device.CUDA and cuda_absence is not None:
        return f"no CUDA device ({cuda_absence})"
    if row.device is not device:
        return f"not asked for: --device {device.value}"
    if row.artifact.format is Format.ENGINE:
        return NO_ENGINE_RUNNER
    return None


def lacks_vnni(isa: str) -> bool:
    """Whether an x86 CPU (value of `Isa`) has no instruction for sums of 8-bit products."""
    return isa in {Isa.X86_AVX2.value, Isa.X86_AVX512.value}
