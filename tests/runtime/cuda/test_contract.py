"""What `runtime.cuda.calls.Cuda` promises, asked of the software device, and of every implementation that has a driver.

`test_software_driver.py` beside this runs it once more, with the software driver in the place of NVIDIA's.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from runtime.cuda import CUDA_APIS, CudaApi, open_cuda
from runtime.cuda.calls import Cuda
from runtime.cuda.timed import TimedCuda
from runtime.errors import EngineError
from tests.gpu import installed_apis, needs_driver
from tests.software_cuda import SoftwareCuda

OPENERS: dict[str, Callable[[], Cuda]] = {
    "software": SoftwareCuda,
    "timed": lambda: TimedCuda(SoftwareCuda()),
    **{api: functools.partial(open_cuda, api) for api in installed_apis()},
}


@pytest.fixture(params=[pytest.param(name, marks=needs_driver if name in CUDA_APIS else ()) for name in OPENERS])
def opener(request: pytest.FixtureRequest) -> Callable[[], Cuda]:
    return OPENERS[request.param]


@pytest.fixture
def cuda(opener: Callable[[], Cuda]) -> Iterator[Cuda]:
    with opener() as opened:
        yield opened


def some_bytes(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, count, dtype=np.uint8)


def test_the_device_says_what_it_is(cuda: Cuda) -> None:
    assert cuda.gpu.name
    major, _, minor = cuda.gpu.capability.partition(".")
    assert major.isdigit()
    assert minor.isdigit()
    assert cuda.gpu.memory_bytes > 1 << 20


def test_bytes_go_up_and_come_back(cuda: Cuda) -> None:
    stream, there = cuda.make_stream(), cuda.allocate(5000)
    source, target = cuda.allocate_pinned(5000), cuda.allocate_pinned(5000)
    source.array[:] = some_bytes(5000)
    cuda.upload(source, there, stream)
    cuda.download(there, target, stream)
    cuda.synchronize_stream(stream)
    assert np.array_equal(target.array, some_bytes(5000))


def test_part_of_a_memory_is_copied(cuda: Cuda) -> None:
    stream, there = cuda.make_stream(), cuda.allocate(100)
    source, target = cuda.allocate_pinned(100), cuda.allocate_pinned(100)
    source.array[:] = 7
    cuda.upload(source, there, stream)
    source_part = source.first(40)
    cuda.synchronize_stream(stream)
    source.array[:] = 9
    cuda.upload(source_part, there, stream)
    cuda.download(there, target, stream)
    cuda.synchronize_stream(stream)
    assert target.array.tolist() == [9] * 40 + [7] * 60


def test_pinned_memory_begins_black(cuda: Cuda) -> None:
    assert not cuda.allocate_pinned(1000).array.any()


def test_a_stream_waits_for_anothers_event(cuda: Cuda) -> None:
    first, second, event = cuda.make_stream(), cuda.make_stream(), cuda.make_event()
    there, source, target = cuda.allocate(1 << 20), cuda.allocate_pinned(1 << 20), cuda.allocate_pinned(1 << 20)
    source.array[:] = some_bytes(1 << 20)
    cuda.upload(source, there, first)
    cuda.record(event, first)
    cuda.wait(second, event)
    cuda.download(there, target, second)
    cuda.synchronize_stream(second)
    assert np.array_equal(target.array, source.array)


def test_an_event_that_was_never_recorded_holds_nobody_up(cuda: Cuda) -> None:
    stream, event = cuda.make_stream(), cuda.make_event()
    cuda.wait(stream, event)
    cuda.synchronize(event)
    cuda.synchronize_stream(stream)


def test_timed_events_tell_how_long_the_device_took(cuda: Cuda) -> None:
    stream, there, source = cuda.make_stream(), cuda.allocate(1 << 22), cuda.allocate_pinned(1 << 22)
    first, second, third = (cuda.make_event(timed=True) for _ in range(3))
    cuda.record(first, stream)
    cuda.upload(source, there, stream)
    cuda.record(second, stream)
    cuda.upload(source, there, stream)
    cuda.record(third, stream)
    cuda.synchronize(third)
    parts = cuda.elapsed_ms(first, second), cuda.elapsed_ms(second, third)
    assert min(parts) > 0.0
    assert cuda.elapsed_ms(first, third) == pytest.approx(sum(parts), abs=1e-3)


def test_an_event_without_times_tells_none(cuda: Cuda) -> None:
    stream, timed, plain = cuda.make_stream(), cuda.make_event(timed=True), cuda.make_event()
    for event in (timed, plain):
        cuda.record(event, stream)
    cuda.synchronize_stream(stream)
    with pytest.raises(EngineError):
        cuda.elapsed_ms(timed, plain)
    with pytest.raises(EngineError):
        cuda.elapsed_ms(timed, cuda.make_event(timed=True))


def test_memory_that_is_taken_shows(cuda: Cuda) -> None:
    before = cuda.used_bytes
    cuda.allocate(1 << 26)
    assert cuda.used_bytes - before >= 1 << 26


def test_pageable_memory_is_known_and_can_be_locked(cuda: Cuda) -> None:
    ring = np.zeros((4, 1, 64, 1024), np.uint8)
    assert cuda.pinned(ring) is None
    cuda.register(ring)
    cuda.register(ring)
    locked = cuda.pinned(ring[1:3])
    assert locked is not None
    assert locked.address == ring[1:].ctypes.data
    assert locked.size_bytes == 2 * 64 * 1024
    assert cuda.pinned(np.zeros(1 << 16, np.uint8)) is None


def test_registered_memory_is_read_where_it_lies(cuda: Cuda) -> None:
    ring = some_bytes(1 << 16).reshape(4, -1)
    cuda.register(ring)
    stream, there, target = cuda.make_stream(), cuda.allocate(1 << 14), cuda.allocate_pinned(1 << 14)
    for number in range(4):
        source = cuda.pinned(ring[number])
        assert source is not None
        cuda.upload(source, there, stream)
        cuda.download(there, target, stream)
        cuda.synchronize_stream(stream)
        assert np.array_equal(target.array, ring[number])


def test_a_graph_repeats_what_was_captured(cuda: Cuda) -> None:
    if not cuda.can_capture:
        with pytest.raises(EngineError, match="no such call"):
            cuda.begin_capture(cuda.make_stream())
        return
    stream, there, target = cuda.make_stream(), cuda.allocate(64), cuda.allocate_pinned(64)
    source = cuda.allocate_pinned(64)
    source.array[:] = 5
    cuda.upload(source, there, stream)
    cuda.synchronize_stream(stream)
    cuda.begin_capture(stream)
    graph = cuda.end_capture(stream)
    cuda.launch(graph, stream)
    cuda.download(there, target, stream)
    cuda.synchronize_stream(stream)
    assert target.array.tolist() == [5] * 64


def test_a_graph_holds_copies_that_run_each_time_it_is_launched(cuda: Cuda) -> None:
    if not cuda.can_capture:
        pytest.skip("it has no graphs")
    if isinstance(cuda, TimedCuda):
        pytest.skip("it times copies outside of graphs")
    stream, there = cuda.make_stream(), cuda.allocate(64)
    source, target = cuda.allocate_pinned(64), cuda.allocate_pinned(64)
    source.array[:] = 5
    cuda.begin_capture(stream)
    cuda.upload(source, there, stream)
    cuda.download(there, target, stream)
    graph = cuda.end_capture(stream)
    for _ in range(2):
        target.array[:] = 0
        cuda.synchronize_stream(stream)
        assert not target.array.any()
        cuda.launch(graph, stream)
        cuda.synchronize_stream(stream)
        assert target.array.tolist() == [5] * 64


def test_a_view_that_nobody_may_write_is_locked_too(cuda: Cuda) -> None:
    ring = np.full((4, 4096), 3, np.uint8)
    ring.flags.writeable = False
    cuda.register(ring)
    source = cuda.pinned(ring[1])
    assert source is not None
    stream, there, target = cuda.make_stream(), cuda.allocate(4096), cuda.allocate_pinned(4096)
    cuda.upload(source, there, stream)
    cuda.download(there, target, stream)
    cuda.synchronize_stream(stream)
    assert np.array_equal(target.array, ring[1])


def copies(cuda: Cuda) -> bool:
    stream, there = cuda.make_stream(), cuda.allocate(100)
    source, target = cuda.allocate_pinned(100), cuda.allocate_pinned(100)
    source.array[:] = 9
    cuda.upload(source, there, stream)
    cuda.download(there, target, stream)
    cuda.synchronize_stream(stream)
    return target.array.tolist() == [9] * 100


@pytest.mark.parametrize("first_to_go", [0, 1])
def test_two_engines_of_a_thread_have_the_device_side_by_side(opener: Callable[[], Cuda], first_to_go: int) -> None:
    both = [opener(), opener()]
    with both[0], both[1]:
        assert [copies(each) for each in both] == [True, True]
        both[first_to_go].close()
        assert copies(both[1 - first_to_go])


def in_a_thread(work: Callable[[], object]) -> None:
    """Run something in a thread of its own; what it raises comes out here."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def test_an_engine_that_was_made_in_one_thread_serves_beside_one_of_another(opener: Callable[[], Cuda]) -> None:
    made: list[Cuda] = []

    def make() -> None:
        made.append(opener())
        made[0].hand_over()

    with opener() as old:
        in_a_thread(make)
        made[0].take_over()
        with made[0] as new:
            assert copies(old)
            old.close()
            assert copies(new)


def test_memory_comes_back_when_another_thread_closes(opener: Callable[[], Cuda]) -> None:
    with opener() as watching:
        before = watching.used_bytes
        other = opener()
        other.allocate(1 << 26)
        other.hand_over()

        def close() -> None:
            other.take_over()
            other.close()

        in_a_thread(close)
        assert watching.used_bytes - before < 1 << 26


def test_another_thread_is_refused_and_has_no_context_of_its_own(cuda: Cuda) -> None:
    said: list[str] = []

    def call() -> None:
        try:
            cuda.make_stream()
        except EngineError as error:
            said.append(str(error))

    thread = threading.Thread(target=call, name="stranger")
    thread.start()
    thread.join()
    assert len(said) == 1
    assert "found a call from thread 'stranger'" in said[0]


def test_what_one_thread_made_another_uses_and_closes_once_it_is_handed_over(cuda: Cuda) -> None:
    stream, there, target = cuda.make_stream(), cuda.allocate(64), cuda.allocate_pinned(64)
    ring = np.full((4, 64), 7, np.uint8)
    cuda.register(ring)
    cuda.hand_over()
    with pytest.raises(EngineError, match="expected the thread that owns the device"):
        cuda.make_stream()

    def work() -> None:
        cuda.take_over()
        assert cuda.pinned(ring[0]) is None  # what was registered is the next owner's to register again
        cuda.register(ring)
        source = cuda.pinned(ring[0])
        assert source is not None
        cuda.upload(source, there, stream)
        cuda.download(there, target, stream)
        cuda.synchronize_stream(stream)
        cuda.hand_over()

    in_a_thread(work)
    cuda.take_over()
    assert target.array.tolist() == [7] * 64


def test_what_is_owned_is_not_taken(cuda: Cuda) -> None:
    with pytest.raises(EngineError, match="an owner that has not handed it over"):
        cuda.take_over()


def test_close_may_be_called_again_and_nothing_after_it(cuda: Cuda) -> None:
    stream = cuda.make_stream()
    cuda.close()
    cuda.close()
    with pytest.raises(EngineError, match="found it closed"):
        cuda.synchronize_stream(stream)


@pytest.mark.parametrize("api", [pytest.param(api, marks=needs_driver) for api in installed_apis()])
def test_a_gpu_that_is_not_there_is_refused_and_another_opens_after_it(api: CudaApi) -> None:
    with pytest.raises(EngineError, match=r"found \d+ GPUs, expected GPU 99 among them"):
        open_cuda(api, number=99)
    with open_cuda(api) as cuda:
        assert copies(cuda)
