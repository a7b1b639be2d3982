"""CUDA in software, for tests: streams that run late, memory of its own, and an eye for misuse.

It keeps the promises of `runtime.cuda.calls.Cuda` and no others. Its streams are `tests/software_streams.py`; a level
below, `tests/software_driver` stands in for the driver itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from runtime.cuda.calls import DeviceMemory, Event, GpuFacts, Graph, Owner, PinnedMemory, Stream
from runtime.errors import EngineError
from tests.software_streams import MisuseError, Operation, Span, Streams

SOFTWARE_GPU = GpuFacts("Software GPU", "8.9", "13.0", 1 << 30)
POISON = 0xDB
"""What lies in memory that nothing was written to yet: reading too early shows."""
_FIRST_ADDRESS = 0x7F00_0000_0000


class SoftwareCuda:
    """See `runtime.cuda.calls.Cuda`.

    Args:
        order: Decides what runs beside what somebody waits for; None runs nothing that nobody waits for.
        gpu: What the device calls itself.
        can_capture: Whether it has graphs.
    """

    def __init__(
        self, order: random.Random | None = None, gpu: GpuFacts = SOFTWARE_GPU, *, can_capture: bool = True
    ) -> None:
        self._owner = Owner("software")
        self._gpu = gpu
        self._can_capture = can_capture
        self._next = 1
        self._address = _FIRST_ADDRESS
        self._streams = Streams(order)
        self._memory: dict[int, NDArray[np.uint8]] = {}
        self._locked: list[tuple[Span, NDArray[np.uint8]]] = []
        self._registered: list[tuple[Span, NDArray[np.uint8]]] = []
        self._graphs: dict[int, list[Operation]] = {}
        self.counts: dict[str, int] = {}

    @property
    def gpu(self) -> GpuFacts:
        return self._gpu

    @property
    def can_capture(self) -> bool:
        return self._can_capture

    @property
    def made(self) -> int:
        """How many things were made so far: it must not grow while a line runs."""
        return self._next + len(self._memory) + len(self._locked)

    def make_stream(self) -> Stream:
        self._host_call("make_stream")
        self._next += 1
        self._streams.add_stream(self._next)
        return Stream(self._next)

    @property
    def used_bytes(self) -> int:
        self._owner.check()
        return sum(memory.size for memory in self._memory.values())

    def make_event(self, *, timed: bool = False) -> Event:
        self._host_call("make_event")
        self._next += 1
        self._streams.add_event(self._next, timed=timed)
        return Event(self._next)

    def allocate(self, size_bytes: int) -> DeviceMemory:
        self._host_call("allocate")
        memory = np.full(max(size_bytes, 1), POISON, np.uint8)
        address, self._address = self._address, self._address + -(-memory.size // 256) * 256 + 256
        self._memory[address] = memory
        return DeviceMemory(address, size_bytes)

    def allocate_pinned(self, size_bytes: int) -> PinnedMemory:
        self._host_call("allocate_pinned")
        memory = np.zeros(max(size_bytes, 1), np.uint8)
        self._locked.append((Span(memory.ctypes.data, memory.size), memory))
        return PinnedMemory(memory.ctypes.data, memory[:size_bytes])

    def register(self, memory: NDArray[np.uint8]) -> None:
        self._host_call("register")
        if self.pinned(memory) is None:
            self._registered.append((Span(memory.ctypes.data, memory.nbytes), memory))
            self._locked.append(self._registered[-1])

    def pinned(self, memory: NDArray[np.uint8]) -> PinnedMemory | None:
        self._owner.check()
        wanted = Span(memory.ctypes.data, memory.nbytes)
        for span, _ in self._locked:
            if span.first <= wanted.first and wanted.first + wanted.size_bytes <= span.first + span.size_bytes:
                return PinnedMemory(wanted.first, memory.reshape(-1))
        return None

    def upload(self, source: PinnedMemory, target: DeviceMemory, stream: Stream) -> None:
        self._check_pinned(source)
        self._count("upload")
        before = source.array.copy()

        def run() -> None:
            if not np.array_equal(before, source.array):
                raise MisuseError("an upload's source was changed before it was read")
            self.at(target.address, source.size_bytes)[:] = source.array

        self.enqueue(stream.handle, "upload", run, _spans(source), [Span(target.address, source.size_bytes)])

    def download(self, source: DeviceMemory, target: PinnedMemory, stream: Stream) -> None:
        self._check_pinned(target)
        self._count("download")
        # What was there before is nobody's to read from here on.
        target.array[:] = POISON

        def run() -> None:
            target.array[:] = self.at(source.address, target.size_bytes)

        self.enqueue(stream.handle, "download", run, [Span(source.address, target.size_bytes)], _spans(target))

    def record(self, event: Event, stream: Stream) -> None:
        self._no_capture(stream, "record")
        self._streams.record(event.handle, stream.handle)

    def wait(self, stream: Stream, event: Event) -> None:
        self._no_capture(stream, "wait")
        self._streams.wait(stream.handle, event.handle)

    def synchronize(self, event: Event) -> None:
        self._host_call("synchronize")
        self._streams.synchronize(event.handle)

    def elapsed_ms(self, first: Event, second: Event) -> float:
        self._host_call("elapsed_ms")
        return self._streams.elapsed_ms(first.handle, second.handle)

    def synchronize_stream(self, stream: Stream) -> None:
        self._host_call("synchronize_stream")
        self._streams.synchronize_stream(stream.handle)

    def begin_capture(self, stream: Stream) -> None:
        self._host_call("begin_capture")
        if not self._can_capture:
            raise EngineError("CUDA (software): found a capture, expected none.")
        self._streams.begin_capture(stream.handle)

    def end_capture(self, stream: Stream) -> Graph:
        self._owner.check()
        captured = self._streams.end_capture(stream.handle)
        self._next += 1
        self._graphs[self._next] = captured
        return Graph(self._next)

    def launch(self, graph: Graph, stream: Stream) -> None:
        self._owner.check()
        self._count("launch")
        for each in self._graphs[graph.handle]:
            self.enqueue(stream.handle, each.name, each.run, each.reads, each.writes)

    def hand_over(self) -> None:
        self._host_call("hand_over")
        while self._registered:
            span, _ = registered = self._registered.pop()
            if any(part.overlaps(span) for each in self._streams.waiting() for part in (*each.reads, *each.writes)):
                raise MisuseError("memory was unlocked while a copy of it was under way")
            self._locked = [each for each in self._locked if each is not registered]
        self._owner.hand_over()

    def take_over(self) -> None:
        self._owner.take_over()
        self._count("take_over")

    def close(self) -> None:
        if not self._owner.is_open:
            return
        self._owner.check()
        self._streams.empty_all()
        self._owner.close()
        self._memory.clear()
        self._locked.clear()

    def __enter__(self) -> SoftwareCuda:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What the software TensorRT, which is to this device what a kernel is to a real one, may do.

    def at(self, address: int, size_bytes: int) -> NDArray[np.uint8]:
        """Memory of the device, for an operation that runs.

        Raises:
            MisuseError: There is none, or it is shorter.
        """
        for first, memory in self._memory.items():
            if first <= address and address + size_bytes <= first + memory.size:
                return memory[address - first : address - first + size_bytes]
        raise MisuseError(f"{size_bytes} bytes at {address:#x} are not in any memory of the device")

    def is_capturing(self, stream: int) -> bool:
        """Whether what is put into a stream is only noted."""
        return self._streams.is_capturing(stream)

    def enqueue(
        self, stream: int, name: str, run: Callable[[], None], reads: Sequence[Span] = (), writes: Sequence[Span] = ()
    ) -> None:
        """Put work into a stream."""
        self._owner.check()
        self._streams.put(stream, Operation(name, run, tuple(reads), tuple(writes)))

    def _host_call(self, name: str) -> None:
        self._owner.check()
        self._count(name)
        if self._streams.capturing:
            raise MisuseError(f"{name} is not allowed while a stream is captured")

    def _no_capture(self, stream: Stream, name: str) -> None:
        self._owner.check()
        self._count(name)
        if self._streams.is_capturing(stream.handle):
            raise MisuseError(f"{name}: this software captures compute alone")

    def _check_pinned(self, memory: PinnedMemory) -> None:
        if self.pinned(memory.array) is None:
            raise MisuseError("a copy of memory that is not page-locked, or no longer")

    def _count(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1


def _spans(memory: PinnedMemory) -> tuple[Span]:
    return (Span(memory.address, memory.size_bytes),)
