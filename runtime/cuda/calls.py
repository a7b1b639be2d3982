"""The few CUDA calls that an engine needs, as a protocol, and the handles that they pass around.

Four traps are designed out here rather than remembered everywhere:

* There is one context, the device's primary one, and one thread that owns what was made in it: a call from another
  thread is an error, not a second context. Who is to own it next is said with `hand_over` and `take_over`.
* A copy takes `PinnedMemory`, which only these calls make, so that a copy from pageable memory, which the driver would
  turn into a slow one that waits, does not type-check.
* What was made is known, so that `close` frees it in an order that the driver accepts; nothing is left to the
  interpreter's exit, where freeing in the wrong order aborts the process.
* Graphs are optional: `can_capture` says whether the implementation has them.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from runtime.errors import EngineError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """The GPU that a process runs on.

    Attributes:
        name: As the driver gives it, such as `NVIDIA L4`.
        capability: Compute capability, such as `8.9`.
        driver_cuda: The newest CUDA that the driver serves, such as `13.0`.
        memory_bytes: Of the device.
    """

    name: str
    capability: str
    driver_cuda: str
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Stream:
    """A queue of the device; what lies in one runs in order."""

    handle: int


@dataclass(frozen=True, slots=True)
class Event:
    """A place in a stream that others can wait for."""

    handle: int


@dataclass(frozen=True, slots=True)
class Graph:
    """Captured work that is launched as one."""

    handle: int


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Memory of the device."""

    address: int
    size_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class PinnedMemory:
    """Page-locked memory of the host: the only kind that is copied.

    Attributes:
        address: Where it begins.
        array: (size,) uint8, the memory itself.
    """

    address: int
    array: NDArray[np.uint8]

    @property
    def size_bytes(self) -> int:
        """Its length."""
        return self.array.size

    def first(self, size_bytes: int) -> PinnedMemory:
        """The first bytes of it."""
        return PinnedMemory(self.address, self.array[:size_bytes])


class Cuda(Protocol):
    """The device, its primary context and all that was made in it; belongs to one thread, at first to its opener.

    Every call raises `EngineError` where the driver refuses, where the call comes from another thread, and after
    `close`. Asynchronous calls return at once; what the device then finds wrong comes out of a later `synchronize`.
    """

    @property
    def gpu(self) -> GpuFacts:
        """The device."""
        ...

    @property
    def can_capture(self) -> bool:
        """Whether `begin_capture` works."""
        ...

    def make_stream(self) -> Stream:
        """A stream that waits for no other, least of all for the default one."""
        ...

    @property
    def used_bytes(self) -> int:
        """Memory of the device that is taken now, by this process and all others."""
        ...

    def make_event(self, *, timed: bool = False) -> Event:
        """An event; one that takes no times costs less, and is what a line uses."""
        ...

    def allocate(self, size_bytes: int) -> DeviceMemory:
        """Memory of the device, at least one byte, aligned to 256."""
        ...

    def allocate_pinned(self, size_bytes: int) -> PinnedMemory:
        """Page-locked memory of the host, at least one byte, filled with 0."""
        ...

    def register(self, memory: NDArray[np.uint8]) -> None:
        """Page-lock memory that is there, such as a camera's ring; it must stay mapped until `close`.

        Does nothing where another part of the process has locked it already.
        """
        ...

    def pinned(self, memory: NDArray[np.uint8]) -> PinnedMemory | None:
        """Page-locked memory as what can be copied; None where it is pageable.

        Args:
            memory: C-contiguous, of any shape.
        """
        ...

    def upload(self, source: PinnedMemory, target: DeviceMemory, stream: Stream) -> None:
        """Copy all of `source` to the beginning of `target`; the source must not change until it is done."""
        ...

    def download(self, source: DeviceMemory, target: PinnedMemory, stream: Stream) -> None:
        """Fill all of `target` from the beginning of `source`."""
        ...

    def record(self, event: Event, stream: Stream) -> None:
        """Put the event behind what the stream holds now."""
        ...

    def wait(self, stream: Stream, event: Event) -> None:
        """What is put into the stream from now on runs after the event's last record; the host goes on."""
        ...

    def synchronize(self, event: Event) -> None:
        """Block until the event's last record is reached."""
        ...

    def elapsed_ms(self, first: Event, second: Event) -> float:
        """Milliseconds of the device between two timed events, whose last records were both reached."""
        ...

    def synchronize_stream(self, stream: Stream) -> None:
        """Block until the stream is empty."""
        ...

    def begin_capture(self, stream: Stream) -> None:
        """From now on, what is put into the stream is noted and not run. Only where `can_capture`."""
        ...

    def end_capture(self, stream: Stream) -> Graph:
        """End the capture and make what was noted ready to launch."""
        ...

    def launch(self, graph: Graph, stream: Stream) -> None:
        """Put a graph into a stream."""
        ...

    def hand_over(self) -> None:
        """Let the device go of this thread: the next call is another thread's `take_over`.

        Memory that was registered is unlocked, and no copy of it may be under way.
        """
        ...

    def take_over(self) -> None:
        """Make this thread the owner, after the last one's `hand_over`."""
        ...

    def close(self) -> None:
        """Wait for the device, free what was made here and let the context go; calling it again does nothing."""
        ...

    def __enter__(self) -> Cuda: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Owner:
    """The one thread that may call; made by it."""

    def __init__(self, api: str) -> None:
        self._api = api
        self._thread: int | None = threading.get_ident()
        self._open = True

    @property
    def is_open(self) -> bool:
        """Whether `close` was not called yet."""
        return self._open

    def check(self) -> None:
        """Refuse a call that comes too late, or from another thread.

        Raises:
            EngineError: It does.
        """
        if not self._open:
            raise EngineError(f"CUDA ({self._api}): found it closed, expected it open. Open the engine again.")
        if threading.get_ident() != self._thread:
            raise EngineError(
                f"CUDA ({self._api}): found a call from thread {threading.current_thread().name!r}, expected the "
                "thread that owns the device. Open, use and close an engine in one thread, or hand it over first."
            )

    def hand_over(self) -> None:
        """Nobody owns it until the next `take_over`.

        Raises:
            EngineError: The calling thread does not own it.
        """
        self.check()
        self._thread = None

    def take_over(self) -> None:
        """The calling thread owns it.

        Raises:
            EngineError: Another one still does, or it is closed.
        """
        if not self._open or self._thread is not None:
            found = "it closed" if not self._open else "an owner that has not handed it over"
            raise EngineError(f"CUDA ({self._api}): found {found}, expected it open and free. Hand it over first.")
        self._thread = threading.get_ident()

    def close(self) -> None:
        """Nothing may be called any more."""
        self._open = False
