"""The streams of the CUDA in software: work that runs late, events, and races between them.

What is put into a stream runs only when somebody waits for it, and then in any order that streams and events allow; so
code that forgets an event does not get away with it. Beside that, a happens-before clock for each stream finds races,
whether or not this run would have shown them.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from runtime.errors import EngineError

OPERATION_MS = 1.0
"""What each copy and each compute takes by the device's own clock."""

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
class Operation:
    """What lies in a stream."""

    name: str
    run: Callable[[], None]
    reads: Sequence[Span] = ()
    writes: Sequence[Span] = ()
    records: tuple[int, int] | None = None
    awaits: tuple[int, int] | None = None


@dataclass(slots=True)
class _Queue:
    waiting: deque[Operation] = field(default_factory=deque)
    captured: list[Operation] | None = None
    clock: dict[int, int] = field(default_factory=dict)
    error: Exception | None = None


@dataclass(slots=True)
class _Event:
    timed: bool
    recorded: int = 0
    recorded_in: int = 0
    reached: int = 0
    reached_ms: float | None = None
    clocks: dict[int, Clock] = field(default_factory=dict)


@dataclass(slots=True)
class _Access:
    stream: int
    number: int
    span: Span
    writes: bool
    name: str


class Streams:
    """All streams and events of a device, by their handles.

    Args:
        order: Decides what runs beside what somebody waits for; None runs nothing that nobody waits for.
    """

    def __init__(self, order: random.Random | None) -> None:
        self._order = order
        self._queues: dict[int, _Queue] = {}
        self._events: dict[int, _Event] = {}
        self._now_ms = 0.0
        self._host_clock: dict[int, int] = {}
        self._accesses: list[_Access] = []

    def add_stream(self, handle: int) -> None:
        self._queues[handle] = _Queue()

    def add_event(self, handle: int, *, timed: bool) -> None:
        self._events[handle] = _Event(timed)

    @property
    def capturing(self) -> bool:
        """Whether any stream is captured."""
        return any(queue.captured is not None for queue in self._queues.values())

    def is_capturing(self, stream: int) -> bool:
        """Whether what is put into a stream is only noted."""
        return self._queues[stream].captured is not None

    def begin_capture(self, stream: int) -> None:
        self._queues[stream].captured = []

    def end_capture(self, stream: int) -> list[Operation]:
        """What was put into the stream since its capture began."""
        queue = self._queues[stream]
        if queue.captured is None:
            raise MisuseError("a capture was ended that was not begun")
        captured, queue.captured = queue.captured, None
        return captured

    def waiting(self) -> Iterator[Operation]:
        """What has not run yet."""
        for queue in self._queues.values():
            yield from queue.waiting

    def put(self, stream: int, operation: Operation) -> None:
        """Put work into a stream, or into what is captured of it."""
        queue = self._queues.get(stream)
        if queue is None:
            raise MisuseError(f"{operation.name}: there is no stream {stream}")
        if queue.captured is not None:
            queue.captured.append(operation)
            return
        _merge(queue.clock, self._host_clock)
        number = queue.clock[stream] = queue.clock.get(stream, 0) + 1
        for span, writes in (*((s, False) for s in operation.reads), *((s, True) for s in operation.writes)):
            self._find_race(_Access(stream, number, span, writes, operation.name), queue.clock)
        queue.waiting.append(operation)

    def record(self, event: int, stream: int) -> None:
        found = self._events[event]
        found.recorded += 1
        found.recorded_in = stream
        self.put(stream, Operation("record", lambda: None, records=(event, found.recorded)))
        found.clocks[found.recorded] = dict(self._queues[stream].clock)

    def wait(self, stream: int, event: int) -> None:
        found = self._events[event]
        if found.recorded:
            _merge(self._queues[stream].clock, found.clocks[found.recorded])
            self.put(stream, Operation("wait", lambda: None, awaits=(event, found.recorded)))

    def synchronize(self, event: int) -> None:
        """The host waits for an event's last record."""
        found = self._events[event]
        if not found.recorded:
            return
        self._run_beside()
        self._reach((event, found.recorded))
        _merge(self._host_clock, found.clocks[found.recorded])
        self._raise_error(found.recorded_in)

    def synchronize_stream(self, stream: int) -> None:
        """The host waits for all that a stream holds."""
        self._run_beside()
        self._empty(stream)
        _merge(self._host_clock, self._queues[stream].clock)
        self._raise_error(stream)

    def empty_all(self) -> None:
        """Run what is left; what fails then is told to nobody."""
        for stream in self._queues:
            self._empty(stream)

    def elapsed_ms(self, first: int, second: int) -> float:
        return self._time_of(second) - self._time_of(first)

    def _time_of(self, event: int) -> float:
        found = self._events[event]
        if not found.timed or found.reached_ms is None:
            raise EngineError("CUDA (software): found an event without a time, expected a timed one with a record.")
        if found.reached < found.recorded:
            raise EngineError("CUDA (software): found an event that is not reached, expected one that is.")
        return found.reached_ms

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
        while self._events[event].reached < number:
            handle = next(
                handle
                for handle, queue in self._queues.items()
                if any(each.records is not None and each.records[0] == event for each in queue.waiting)
            )
            self._step(handle)

    def _empty(self, stream: int) -> None:
        while self._queues[stream].waiting:
            self._step(stream)

    def _step(self, stream: int) -> None:
        """Run the first operation of a stream, and before it what it waits for."""
        queue = self._queues[stream]
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
            found = self._events[event]
            found.reached, found.reached_ms = max(found.reached, number), self._now_ms

    def _run_beside(self) -> None:
        """Other streams may be as far ahead as chance has it."""
        if self._order is None:
            return
        for _ in range(self._order.randrange(12)):
            busy = [handle for handle, queue in self._queues.items() if queue.waiting]
            if busy:
                self._step(self._order.choice(busy))

    def _raise_error(self, stream: int) -> None:
        """What failed in a stream comes out once, to whoever waits for it."""
        queue = self._queues[stream]
        error, queue.error = queue.error, None
        if error is not None:
            raise EngineError(f"CUDA (software): {error}") from error


def _merge(clock: dict[int, int], other: Clock) -> None:
    for stream, number in other.items():
        clock[stream] = max(clock.get(stream, 0), number)
