"""What is held of a GPU is given back; a fake stands for the GPU (tests/fakes/fake_cuda.py)."""

from contextlib import AbstractContextManager, ExitStack
from typing import Any

import numpy as np
import pytest

from edgepress.cuda.fault import CudaError, CudaFault
from edgepress.cuda.resources import device_memory, event, graph, host_memory, stream
from edgepress.cuda.runtime import Cuda
from tests.fakes.fake_cuda import MIB, Error, FakeCuda, Injection, Kind, Misuse, Pace


def resources(cuda: Cuda) -> list[tuple[Kind, AbstractContextManager[Any]]]:
    return [
        (Kind.DEVICE, device_memory(cuda, 64)),
        (Kind.PINNED, host_memory(cuda, 64)),
        (Kind.STREAM, stream(cuda)),
        (Kind.EVENT, event(cuda)),
    ]


@pytest.mark.parametrize("number", range(4))
def test_each_resource_is_given_back_also_when_its_body_fails(number: int) -> None:
    fake = FakeCuda()
    kind, resource = resources(Cuda(fake))[number]
    with pytest.raises(ValueError, match="body"), resource:
        assert fake.live[kind] == 1
        raise ValueError("body")
    fake.assert_nothing_left()


def test_copies_go_there_and_back_and_events_take_their_time() -> None:
    fake = FakeCuda(pace=Pace(copy_ns=1_000, copy_bytes_per_ns=2, call_ns=0))
    cuda = Cuda(fake)
    with ExitStack() as stack:
        enter = stack.enter_context
        on, start, end = enter(stream(cuda)), enter(event(cuda)), enter(event(cuda))
        source, target, middle = (
            enter(host_memory(cuda, 400)),
            enter(host_memory(cuda, 400)),
            enter(device_memory(cuda, 400)),
        )
        source.array((100,), np.dtype(np.float32))[:] = np.arange(100)
        on.record(start)
        on.upload(source, middle, 400)
        on.record(end)
        on.download(middle, target, 400)
        result = target.array((10, 10), np.dtype(np.float32))
        assert not result.any()  # nothing has been waited for
        on.synchronize()
        np.testing.assert_array_equal(result.ravel(), np.arange(100))
        assert end.ns_since(start) == 1_200
    assert fake.log == ["H2D", "D2H"]
    fake.assert_nothing_left()


def test_ns_since_refuses_events_that_have_not_been_reached() -> None:
    cuda = Cuda(FakeCuda())
    with stream(cuda) as on, event(cuda) as start, event(cuda) as end:
        on.record(start)
        with pytest.raises(CudaError, match="cudaEventElapsedTime gave cudaErrorNotReady"):
            end.ns_since(start)


def test_array_refuses_more_than_there_is() -> None:
    with host_memory(Cuda(FakeCuda()), 8) as held:
        with pytest.raises(ValueError, match="an array of 12 bytes does not fit into 8"):
            held.array((3,), np.dtype(np.float32))


def test_a_graph_repeats_what_was_recorded_and_leaves_nothing() -> None:
    fake = FakeCuda()
    cuda = Cuda(fake)
    with stream(cuda) as on:
        number = on.number
        with graph(cuda, on, lambda: fake.launch(number, 500, lambda: None, "conv")) as recorded:
            on.synchronize()
            assert fake.log == []  # recorded, not run
            on.launch(recorded)
            on.launch(recorded)
            on.synchronize()
    assert fake.log == ["conv", "conv"]
    fake.assert_nothing_left()


def test_a_graph_that_cannot_be_recorded_leaves_the_stream_usable_and_nothing_behind() -> None:
    fake = FakeCuda()
    cuda = Cuda(fake)

    def enqueue() -> None:
        raise ValueError("not now")

    with stream(cuda) as on:
        with pytest.raises(ValueError, match="not now"), graph(cuda, on, enqueue):
            pass
        fake.launch(on.number, 500, lambda: None, "conv")
        on.synchronize()
    assert fake.log == ["conv"]
    fake.assert_nothing_left()


@pytest.mark.parametrize(
    "function", ["cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate"]
)
def test_a_graph_whose_making_fails_leaves_nothing(function: str) -> None:
    fake = FakeCuda(Injection(Error.cudaErrorStreamCaptureInvalidated, 1, function))
    cuda = Cuda(fake)
    with stream(cuda) as on:
        with pytest.raises(CudaError, match=function), graph(cuda, on, lambda: None):
            pass
    fake.assert_nothing_left()


@pytest.mark.parametrize("number", range(1, 9))
def test_whichever_call_fails_nothing_is_left(number: int) -> None:
    """Four resources are made and four given back: the n-th of these calls fails."""
    error = Error.cudaErrorMemoryAllocation if number <= 4 else Error.cudaErrorUnknown
    fake = FakeCuda(Injection(error, number))
    with pytest.raises(CudaError), ExitStack() as stack:
        for _, resource in resources(Cuda(fake)):
            stack.enter_context(resource)
    fake.assert_nothing_left()


def test_out_of_memory_is_told_at_the_allocation() -> None:
    fake = FakeCuda(total_bytes=301 * MIB)
    with pytest.raises(
        CudaError, match="cudaMalloc of 2097152 bytes gave cudaErrorMemoryAllocation"
    ) as caught:
        with device_memory(Cuda(fake), 2 * MIB):
            pass
    assert caught.value.fault is CudaFault.OUT_OF_MEMORY


def test_the_fake_refuses_what_no_correct_program_does() -> None:
    fake = FakeCuda()
    cuda = Cuda(fake)
    with stream(cuda) as on, device_memory(cuda, 16) as there, host_memory(cuda, 64) as here:
        with pytest.raises(Misuse, match="64 bytes reach past the end of 16 of device memory"):
            on.upload(here, there, 64)
        with pytest.raises(Misuse, match="is no pinned memory"):
            cuda.call("cudaMemcpyAsync", there.address, there.address, 8, 1, on.handle)
        with pytest.raises(Misuse, match="default stream"):
            cuda.call("cudaStreamSynchronize", 0)
        with pytest.raises(Misuse, match="default stream"):
            fake.launch(0, 1, lambda: None)
    with pytest.raises(Misuse, match="freed twice"):
        cuda.call("cudaFree", there.address)
    with pytest.raises(Misuse, match="no such stream"):
        on.synchronize()
    address = cuda.call("cudaMalloc", 8)
    with pytest.raises(AssertionError, match=r"left behind: \{'device memory': 1\}"):
        fake.assert_nothing_left()
    cuda.call("cudaFree", address)
