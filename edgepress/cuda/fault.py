"""What can be wrong when CUDA does not give `cudaSuccess`, and what helps."""

from enum import Enum

from edgepress.errors import DeviceFaultError


class CudaFault(Enum):
    """Kinds of errors of CUDA, by what can be done about them; the value says so."""

    OUT_OF_MEMORY = "End what else uses the GPU (see nvidia-smi), or take a smaller batch or precision."
    LAUNCH = (
        "A kernel failed, and nothing more runs in this process: try again, then make the plan anew with the "
        "TensorRT that is here."
    )
    LOST = "The GPU does not answer any more: look for NVRM in dmesg, and restart the machine."
    ABSENT = "Check that the driver sees a GPU (nvidia-smi), and CUDA_VISIBLE_DEVICES."
    OLD_DRIVER = "Update NVIDIA's driver, or install the cuda-python of the driver's CUDA version."
    OTHER = "Look the error up in the list of NVIDIA's CUDA Runtime API; edgepress doctor says what is here."


# Names as in cudaError_t (CUDA Runtime API, "Data types used by CUDA Runtime"). What is not here is OTHER.
_FAULTS = {
    CudaFault.OUT_OF_MEMORY: ("cudaErrorMemoryAllocation",),
    CudaFault.LAUNCH: (
        "cudaErrorAssert",
        "cudaErrorIllegalAddress",
        "cudaErrorIllegalInstruction",
        "cudaErrorInvalidAddressSpace",
        "cudaErrorInvalidPc",
        "cudaErrorLaunchFailure",
        "cudaErrorLaunchOutOfResources",
        "cudaErrorLaunchTimeout",
        "cudaErrorMisalignedAddress",
        "cudaErrorNoKernelImageForDevice",
    ),
    CudaFault.LOST: (
        "cudaErrorContained",
        "cudaErrorDevicesUnavailable",
        "cudaErrorECCUncorrectable",
        "cudaErrorExternalDevice",
        "cudaErrorHardwareStackError",
        "cudaErrorNvlinkUncorrectable",
        "cudaErrorUnknown",  # what a GPU gives that has fallen off the bus
    ),
    CudaFault.ABSENT: ("cudaErrorInvalidDevice", "cudaErrorNoDevice"),
    CudaFault.OLD_DRIVER: (
        "cudaErrorCallRequiresNewerDriver",
        "cudaErrorCompatNotSupportedOnDevice",
        "cudaErrorInsufficientDriver",
        "cudaErrorStubLibrary",
        "cudaErrorSystemDriverMismatch",
    ),
}
_FAULT_OF = {name: fault for fault, names in _FAULTS.items() for name in names}


def fault_of(name: str) -> CudaFault:
    """The kind of an error by its name in `cudaError_t`."""
    return _FAULT_OF.get(name, CudaFault.OTHER)


class CudaError(DeviceFaultError):
    """A call of CUDA that did not give `cudaSuccess`.

    Attributes:
        name: In `cudaError_t`, e.g. "cudaErrorMemoryAllocation".
        fault: Its kind.
    """

    def __init__(self, action: str, name: str) -> None:
        self.name = name
        self.fault = fault_of(name)
        super().__init__(f"CUDA: {action} gave {name}, wanted cudaSuccess. {self.fault.value}")
