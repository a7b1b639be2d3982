"""CUDA in software, for tests: streams that run late, memory of its own, and an eye for misuse.

It keeps the promises of `runtime.cuda.calls.Cuda` and no others. What is put into a stream runs only when somebody
waits for it, and then in any order that streams and events allow; so code that forgets an event does not get away with
it. Beside that, a happens-before clock for each stream finds two accesses to the same memory of which nothing says
which is first, whether or not this run would have shown it.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from runtime.cuda.calls import DeviceMemory, Event, GpuFacts, Graph, Owner, PinnedMemory, Stream
from runtime.errors import EngineError

SOFTWARE_GPU = GpuFacts("Software GPU", "8.9", "13.0", 1 << 30)
OPERATION_MS = 1.0
"""What each copy and each compute takes by the device's own clock."""
POISON = 0xDB
"""What lies in memory that nothing was written to yet: reading too early shows."""
_FIRST_ADDRESS = 0x7F00_0000_0000

Clock = Mapping[int, int]
"""How many operations of each stream have happened before."""


class MisuseError(AssertionError):
    """A mistake that a real device would answer with wrong figures, or not at all."""


@dataclass(frozen=True, slots=True)
class Span:
    """Part of a memory: addresses are unique among host and device."""

    first: int
    size_bytes: int

    def overlaps(self, other: Span) -> bool:
        return self.first < other.first + other.size_bytes and other.first < self.first + self.size_bytes


@dataclass(slots=True)
class _Operation:
    """What lies in a stream."""

    name: str
    run: Callable[[], None]
    reads: tuple[Span, ...] = ()
    writes: tuple[Span, ...] = ()
    records: tuple[int, int] | None = None
    awaits: tuple[int, int] | None = None


@dataclass(slots=True)
class _Queue:
    waiting: deque[_Operation] = field(default_factory=deque)
    captured: list[_Operation] | None = None
    clock: dict[int, int] = field(default_factory=dict)
    error: Exception | None = None


@dataclass(slots=True)
class _Access:
    stream: int
    number: int
    span: Span
    writes: bool
    name: str


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
        self._order = order
        self._gpu = gpu
        self._can_capture = can_capture
        self._next = 1
        self._address = _FIRST_ADDRESS
        self._queues: dict[int, _Queue] = {}
        self._recorded: dict[int, int] = {}
        self._reached: dict[int, int] = {}
        self._recorded_in: dict[int, int] = {}
        self._event_clocks: dict[tuple[int, int], Clock] = {}
        self._timed: set[int] = set()
        self._reached_ms: dict[int, float] = {}
        self._now_ms = 0.0
        self._host_clock: dict[int, int] = {}
        self._memory: dict[int, NDArray[np.uint8]] = {}
        self._locked: list[tuple[Span, NDArray[np.uint8]]] = []
        self._registered: list[tuple[Span, NDArray[np.uint8]]] = []
        self._graphs: dict[int, list[_Operation]] = {}
        self._accesses: list[_Access] = []
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
        self._queues[self._next] = _Queue()
        return Stream(self._next)

    @property
    def used_bytes(self) -> int:
        self._owner.check()
        return sum(memory.size for memory in self._memory.values())

    def make_event(self, *, timed: bool = False) -> Event:
        self._host_call("make_event")
        self._next += 1
        if timed:
            self._timed.add(self._next)
        self._recorded[self._next] = self._reached[self._next] = 0
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
        number = self._recorded[event.handle] = self._recorded[event.handle] + 1
        mark = (event.handle, number)
        self._recorded_in[event.handle] = stream.handle
        self._put(stream.handle, _Operation("record", lambda: None, records=mark))
        self._event_clocks[mark] = dict(self._queues[stream.handle].clock)

    def wait(self, stream: Stream, event: Event) -> None:
        self._no_capture(stream, "wait")
        mark = (event.handle, self._recorded[event.handle])
        if mark[1]:
            _merge(self._queues[stream.handle].clock, self._event_clocks[mark])
            self._put(stream.handle, _Operation("wait", lambda: None, awaits=mark))

    def synchronize(self, event: Event) -> None:
        self._host_call("synchronize")
        number = self._recorded[event.handle]
        if not number:
            return
        self._run_beside()
        self._reach((event.handle, number))
        _merge(self._host_clock, self._event_clocks[(event.handle, number)])
        self._raise_error(self._recorded_in[event.handle])

    def elapsed_ms(self, first: Event, second: Event) -> float:
        self._host_call("elapsed_ms")
        for event in (first, second):
            if event.handle not in self._timed or event.handle not in self._reached_ms:
                raise EngineError("CUDA (software): found an event without a time, expected a timed one with a record.")
            if self._reached[event.handle] < self._recorded[event.handle]:
                raise EngineError("CUDA (software): found an event that is not reached, expected one that is.")
        return self._reached_ms[second.handle] - self._reached_ms[first.handle]

    def synchronize_stream(self, stream: Stream) -> None:
        self._host_call("synchronize_stream")
        self._run_beside()
        self._empty(stream.handle)
        _merge(self._host_clock, self._queues[stream.handle].clock)
        self._raise_error(stream.handle)

    def begin_capture(self, stream: Stream) -> None:
        self._host_call("begin_capture")
        if not self._can_capture:
            raise EngineError("CUDA (software): found a capture, expected none.")
        self._queues[stream.handle].captured = []

    def end_capture(self, stream: Stream) -> Graph:
        self._owner.check()
        queue = self._queues[stream.handle]
        if queue.captured is None:
            raise MisuseError("a capture was ended that was not begun")
        self._next += 1
        self._graphs[self._next], queue.captured = queue.captured, None
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
            waiting = [each for queue in self._queues.values() for each in queue.waiting]
            if any(part.overlaps(span) for each in waiting for part in (*each.reads, *each.writes)):
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
        for handle in self._queues:
            self._empty(handle)
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
        return self._queues[stream].captured is not None

    def enqueue(
        self, stream: int, name: str, run: Callable[[], None], reads: Sequence[Span] = (), writes: Sequence[Span] = ()
    ) -> None:
        """Put work into a stream."""
        self._owner.check()
        operation = _Operation(name, run, tuple(reads), tuple(writes))
        queue = self._queues.get(stream)
        if queue is None:
            raise MisuseError(f"{name}: there is no stream {stream}")
        if queue.captured is not None:
            queue.captured.append(operation)
        else:
            self._put(stream, operation)

    def _put(self, stream: int, operation: _Operation) -> None:
        queue = self._queues[stream]
        _merge(queue.clock, self._host_clock)
        number = queue.clock[stream] = queue.clock.get(stream, 0) + 1
        for span, writes in (*((s, False) for s in operation.reads), *((s, True) for s in operation.writes)):
            self._find_race(_Access(stream, number, span, writes, operation.name), queue.clock)
        queue.waiting.append(operation)

    def _find_race(self, access: _Access, clock: Clock) -> None:
        """An earlier access to the same memory, one of them a write, must have happened before."""
        for earlier in self._accesses:
            if not (earlier.writes or access.writes) or not earlier.span.overlaps(access.span):
                continue
            if clock.get(earlier.stream, 0) < earlier.number:
                raise MisuseError(
                    f"race: {access.name} in stream {access.stream} and {earlier.name} in stream {earlier.stream} use "
                    "the same memory, and nothing says which is first"
                )
        # One access of a kind and place stands for those that happened before it.
        self._accesses = [
            each
            for each in self._accesses
            if (each.span, each.writes) != (access.span, access.writes) or clock.get(each.stream, 0) < each.number
        ]
        self._accesses.append(access)

    def _reach(self, mark: tuple[int, int]) -> None:
        """Run what is needed until an event is reached."""
        event, number = mark
        while self._reached[event] < number:
            handle = next(
                handle
                for handle, queue in self._queues.items()
                if any(each.records is not None and each.records[0] == event for each in queue.waiting)
            )
            self._step(handle)

    def _empty(self, handle: int) -> None:
        while self._queues[handle].waiting:
            self._step(handle)

    def _step(self, handle: int) -> None:
        """Run the first operation of a stream, and before it what it waits for."""
        queue = self._queues[handle]
        operation = queue.waiting[0]
        if operation.awaits is not None:
            self._reach(operation.awaits)
        queue.waiting.popleft()
        if queue.error is None:
            try:
                operation.run()
            except MisuseError:
                raise
            except Exception as error:  # noqa: BLE001  a kernel may fail with anything
                queue.error = error
        if operation.reads or operation.writes:
            self._now_ms += OPERATION_MS
        if operation.records is not None:
            event, number = operation.records
            self._reached[event] = max(self._reached[event], number)
            self._reached_ms[event] = self._now_ms

    def _run_beside(self) -> None:
        """Other streams may be as far ahead as chance has it."""
        if self._order is None:
            return
        for _ in range(self._order.randrange(12)):
            busy = [handle for handle, queue in self._queues.items() if queue.waiting]
            if busy:
                self._step(self._order.choice(busy))

    def _raise_error(self, handle: int) -> None:
        """What failed in a stream comes out once, to whoever waits for it."""
        queue = self._queues[handle]
        error, queue.error = queue.error, None
        if error is not None:
            raise EngineError(f"CUDA (software): {error}") from error

    def _host_call(self, name: str) -> None:
        self._owner.check()
        self._count(name)
        if any(queue.captured is not None for queue in self._queues.values()):
            raise MisuseError(f"{name} is not allowed while a stream is captured")

    def _no_capture(self, stream: Stream, name: str) -> None:
        self._owner.check()
        self._count(name)
        if self._queues[stream.handle].captured is not None:
            raise MisuseError(f"{name}: this software captures compute alone")

    def _check_pinned(self, memory: PinnedMemory) -> None:
        if self.pinned(memory.array) is None:
            raise MisuseError("a copy of memory that is not page-locked, or no longer")

    def _count(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1


def _spans(memory: PinnedMemory) -> tuple[Span]:
    return (Span(memory.address, memory.size_bytes),)


def _merge(clock: dict[int, int], other: Clock) -> None:
    for stream, number in other.items():
        clock[stream] = max(clock.get(stream, 0), number)
