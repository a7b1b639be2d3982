"""The software device finds the mistakes that it is there to find."""

from __future__ import annotations

import random

import numpy as np
import pytest

from runtime.cuda.calls import PinnedMemory
from tests.software_cuda import POISON, SoftwareCuda
from tests.software_streams import MisuseError


@pytest.fixture
def cuda() -> SoftwareCuda:
    return SoftwareCuda()


def test_nothing_runs_before_somebody_waits(cuda: SoftwareCuda) -> None:
    stream, there = cuda.make_stream(), cuda.allocate(4)
    source, target = cuda.allocate_pinned(4), cuda.allocate_pinned(4)
    source.array[:] = 1
    cuda.upload(source, there, stream)
    cuda.download(there, target, stream)
    assert target.array.tolist() == [POISON] * 4  # read before the copy is done
    cuda.synchronize_stream(stream)
    assert target.array.tolist() == [1] * 4


def test_two_streams_that_share_memory_without_an_event_are_a_race(cuda: SoftwareCuda) -> None:
    first, second = cuda.make_stream(), cuda.make_stream()
    there, source, target = cuda.allocate(4), cuda.allocate_pinned(4), cuda.allocate_pinned(4)
    cuda.upload(source, there, first)
    with pytest.raises(MisuseError, match=r"race: download in stream .* and upload in stream"):
        cuda.download(there, target, second)


def test_two_readers_are_no_race(cuda: SoftwareCuda) -> None:
    first, second, event = cuda.make_stream(), cuda.make_stream(), cuda.make_event()
    there, source = cuda.allocate(4), cuda.allocate_pinned(4)
    cuda.upload(source, there, first)
    cuda.record(event, first)
    cuda.wait(second, event)
    cuda.download(there, cuda.allocate_pinned(4), first)
    cuda.download(there, cuda.allocate_pinned(4), second)
    cuda.synchronize_stream(second)


def test_an_event_recorded_too_early_does_not_help(cuda: SoftwareCuda) -> None:
    first, second, event = cuda.make_stream(), cuda.make_stream(), cuda.make_event()
    there, source = cuda.allocate(4), cuda.allocate_pinned(4)
    cuda.record(event, first)
    cuda.upload(source, there, first)
    cuda.wait(second, event)
    with pytest.raises(MisuseError, match="race"):
        cuda.download(there, cuda.allocate_pinned(4), second)


def test_the_host_orders_what_it_waited_for(cuda: SoftwareCuda) -> None:
    first, second = cuda.make_stream(), cuda.make_stream()
    there, source = cuda.allocate(4), cuda.allocate_pinned(4)
    cuda.upload(source, there, first)
    cuda.synchronize_stream(first)
    cuda.download(there, cuda.allocate_pinned(4), second)
    cuda.synchronize_stream(second)


def test_memory_that_is_borrowed_must_not_change(cuda: SoftwareCuda) -> None:
    stream, there, source = cuda.make_stream(), cuda.allocate(4), cuda.allocate_pinned(4)
    cuda.upload(source, there, stream)
    source.array[0] = 1
    with pytest.raises(MisuseError, match="changed before it was read"):
        cuda.synchronize_stream(stream)


def test_pageable_memory_cannot_be_smuggled_in(cuda: SoftwareCuda) -> None:
    pageable = np.zeros(4, np.uint8)
    with pytest.raises(MisuseError, match="not page-locked"):
        cuda.upload(PinnedMemory(pageable.ctypes.data, pageable), cuda.allocate(4), cuda.make_stream())


def test_waiting_and_allocating_during_a_capture_are_illegal(cuda: SoftwareCuda) -> None:
    stream, other = cuda.make_stream(), cuda.make_stream()
    cuda.begin_capture(stream)
    with pytest.raises(MisuseError, match="not allowed while a stream is captured"):
        cuda.allocate(4)
    with pytest.raises(MisuseError, match="not allowed while a stream is captured"):
        cuda.synchronize_stream(other)


def test_a_copy_beyond_a_memory_is_found(cuda: SoftwareCuda) -> None:
    stream, there, source = cuda.make_stream(), cuda.allocate(4), cuda.allocate_pinned(5)
    cuda.upload(source, there, stream)
    with pytest.raises(MisuseError, match="not in any memory of the device"):
        cuda.synchronize_stream(stream)


def test_streams_run_ahead_as_chance_has_it() -> None:
    """Between two streams that wait for nobody, the order differs from seed to seed."""
    orders: set[tuple[str, ...]] = set()
    for seed in range(20):
        cuda = SoftwareCuda(random.Random(seed))
        first, second, said = cuda.make_stream(), cuda.make_stream(), []
        for name in "ab":
            cuda.enqueue(first.handle, name, lambda name=name, said=said: said.append(name))
            cuda.enqueue(second.handle, name.upper(), lambda name=name, said=said: said.append(name.upper()))
        cuda.synchronize_stream(first)
        cuda.synchronize_stream(second)
        orders.add(tuple(said))
        assert said.index("a") < said.index("b")
        assert said.index("A") < said.index("B")
    assert len(orders) > 2
