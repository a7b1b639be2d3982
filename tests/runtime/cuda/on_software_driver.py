"""What can be shown of the CUDA libraries only where the driver is the software one.

`test_software_driver.py` runs these in a process that has it; pytest collects this file nowhere else, by its name.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from runtime.cuda import CudaApi, open_cuda
from runtime.cuda.calls import Cuda, Stream
from runtime.cuda.timed import TimedCuda
from runtime.errors import EngineError
from tests.gpu import installed_apis, no_driver, no_gpu
from tests.software_driver.kernels import DriverKernels
from tests.software_driver.library import DEVICE_NAME, LIBRARY


@pytest.fixture(params=installed_apis())
def api(request: pytest.FixtureRequest) -> CudaApi:
    return request.param


@pytest.fixture
def cuda(api: CudaApi) -> Iterator[Cuda]:
    with open_cuda(api) as opened:
        yield opened


@pytest.fixture
def held() -> Iterator[Callable[[Stream], threading.Event]]:
    """Puts into a stream what keeps it from going on until the event is set."""
    kernels, all_held = DriverKernels(), []

    def hold(stream: Stream) -> threading.Event:
        all_held.append(threading.Event())
        kernels.enqueue(stream.handle, "hold", all_held[-1].wait)
        return all_held[-1]

    yield hold
    for each in all_held:
        each.set()


def context_is_there() -> bool:
    flags, active = ctypes.c_uint(), ctypes.c_int()
    assert ctypes.CDLL(LIBRARY).cuDevicePrimaryCtxGetState(0, ctypes.byref(flags), ctypes.byref(active)) == 0
    return active.value != 0


def test_nobody_takes_it_for_a_gpu(cuda: Cuda) -> None:
    assert cuda.gpu.name == DEVICE_NAME
    assert no_driver() == ""
    assert no_gpu() == f"no NVIDIA GPU: this is the {DEVICE_NAME}"


def test_calls_return_before_the_device_has_done_anything(
    cuda: Cuda, held: Callable[[Stream], threading.Event]
) -> None:
    stream, there = cuda.make_stream(), cuda.allocate(64)
    source, target = cuda.allocate_pinned(64), cuda.allocate_pinned(64)
    event, source.array[:] = cuda.make_event(), 5
    release = held(stream)
    cuda.upload(source, there, stream)
    cuda.download(there, target, stream)
    cuda.record(event, stream)
    assert not target.array.any()
    release.set()
    cuda.synchronize(event)
    assert target.array.tolist() == [5] * 64


def test_other_threads_run_while_one_waits_for_the_device(
    cuda: Cuda, held: Callable[[Stream], threading.Event]
) -> None:
    stream, event = cuda.make_stream(), cuda.make_event()
    for wait in (lambda: cuda.synchronize_stream(stream), lambda: cuda.synchronize(event)):
        release = held(stream)
        cuda.record(event, stream)
        threading.Timer(0.05, release.set).start()
        wait()
        assert release.is_set()


def test_a_time_that_is_not_there_yet_is_refused(cuda: Cuda, held: Callable[[Stream], threading.Event]) -> None:
    stream, first, second = cuda.make_stream(), cuda.make_event(timed=True), cuda.make_event(timed=True)
    cuda.record(first, stream)
    release = held(stream)
    cuda.record(second, stream)
    with pytest.raises(EngineError, match=r"(?i)not.ready"):
        cuda.elapsed_ms(first, second)
    release.set()
    cuda.synchronize(second)
    assert cuda.elapsed_ms(first, second) > 0.0


def test_a_batch_is_timed_by_the_clock_of_the_device(cuda: Cuda) -> None:
    timed = TimedCuda(cuda)
    stream, there = timed.make_stream(), timed.allocate(1 << 20)
    source, target = timed.allocate_pinned(1 << 20), timed.allocate_pinned(1 << 20)
    timed.upload(source, there, stream)
    DriverKernels().enqueue(stream.handle, "nothing", lambda: None)
    timed.download(there, target, stream)
    timed.synchronize_stream(stream)
    stages = timed.stages()
    assert stages is not None
    assert min(stages.upload_ms, stages.compute_ms, stages.download_ms) > 0.0


def test_what_the_device_finds_wrong_comes_out_later_and_closing_still_works(
    cuda: Cuda, held: Callable[[Stream], threading.Event]
) -> None:
    ring, stream, there = np.ones(4096, np.uint8), cuda.make_stream(), cuda.allocate(4096)
    cuda.register(ring)
    source = cuda.pinned(ring)
    assert source is not None
    release = held(stream)
    cuda.upload(source, there, stream)
    cuda.hand_over()  # unlocks the ring, which no copy may read any more
    cuda.take_over()
    release.set()
    with pytest.raises(EngineError, match=r"(?i)illegal.(memory.access|address)"):
        cuda.synchronize_stream(stream)
    cuda.close()
    assert not context_is_there()


def test_a_failed_copy_names_what_the_driver_said(cuda: Cuda) -> None:
    stream, there, source = cuda.make_stream(), cuda.allocate(4), cuda.allocate_pinned(5)
    with pytest.raises(EngineError, match=r"(?i)invalid.(value|argument)"):
        cuda.upload(source, there, stream)


def test_what_one_engine_locked_the_other_knows(api: CudaApi) -> None:
    ring = np.zeros(8192, np.uint8)
    with open_cuda(api) as first, open_cuda(api) as second:
        first.register(ring)
        second.register(ring)
        assert second.pinned(ring) is not None


@pytest.mark.parametrize("closed_elsewhere", [False, True])
def test_when_all_are_closed_the_context_is_gone(api: CudaApi, closed_elsewhere: bool) -> None:
    both = [open_cuda(api), open_cuda(api)]
    assert context_is_there()

    def close() -> None:
        for each in both:
            if closed_elsewhere:
                each.take_over()
            each.close()

    if closed_elsewhere:
        for each in both:
            each.hand_over()
        thread = threading.Thread(target=close)
        thread.start()
        thread.join()
    else:
        close()
    assert not context_is_there()


def test_a_thread_is_left_with_no_more_contexts_than_it_had(api: CudaApi) -> None:
    """Each cycle may leave at most what the next one takes the place of: a line opens and closes for months."""
    driver = ctypes.CDLL(LIBRARY)

    def depth() -> int:
        popped: list[ctypes.c_void_p] = []
        while True:
            popped.append(ctypes.c_void_p())
            if driver.cuCtxPopCurrent_v2(ctypes.byref(popped[-1])) != 0:
                return len(popped) - 1

    depth()
    for _ in range(5):
        open_cuda(api).close()
    assert depth() <= 1


def test_an_address_of_the_device_is_none_of_the_host(cuda: Cuda) -> None:
    address = cuda.allocate(4096).address
    with open("/proc/self/maps", encoding="utf-8") as maps:  # noqa: PTH123  not a file of ours
        for line in maps:
            span, rights = line.split()[:2]
            first, last = (int(each, 16) for each in span.split("-"))
            if first <= address < last:
                assert rights.startswith("---")
                return
    pytest.fail("the address is not reserved")
