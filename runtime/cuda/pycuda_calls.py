"""CUDA by PyCUDA: for machines that have it already; it has no stream capture, so native plans run without graphs."""

from __future__ import annotations

import atexit
import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import pycuda.driver as cu  # pyright: ignore[reportMissingImports] - it has no wheels, so few machines have it

from runtime.cuda.calls import DeviceMemory, Event, GpuFacts, Graph, Owner, PinnedMemory, Stream
from runtime.cuda.driver_calls import DriverCalls
from runtime.errors import EngineError

if TYPE_CHECKING:
    from numpy.typing import NDArray

API = "pycuda"
_NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING, for which PyCUDA has no name."""


def open_device(number: int = 0) -> PyCuda:
    """Open a GPU; see `runtime.cuda.open_cuda`."""
    try:
        cu.init()
        count = cu.Device.count()
    except cu.Error as error:
        raise EngineError(
            f"CUDA ({API}): found no working NVIDIA driver ({error}), expected one. Install the driver, or choose a "
            "backend of the CPU."
        ) from error
    if not 0 <= number < count:
        raise EngineError(f"CUDA ({API}): found {count} GPUs, expected GPU {number} among them. Name another one.")
    return PyCuda(number)


class PyCuda:
    """See `runtime.cuda.calls.Cuda`.

    PyCUDA's objects free themselves when they are collected, in any order and even with the context gone, and a context
    that is still current when the interpreter ends aborts the process. So they are all held here and freed by `close`,
    which runs at the interpreter's exit if nobody called it.
    """

    def __init__(self, number: int) -> None:
        self._owner = Owner(API)
        with _errors("asking for the device"):
            self._gpu = _facts(cu.Device(number))
        self._driver = DriverCalls()
        self._number = number
        with _errors("taking the context"):
            self._context = _retain(number)
        atexit.register(self.close)
        self._streams: dict[int, Any] = {}
        self._events: dict[int, Any] = {}
        self._free: list[Callable[[], None]] = []
        self._registered: list[NDArray[np.uint8]] = []

    @property
    def gpu(self) -> GpuFacts:
        """The device."""
        return self._gpu

    @property
    def can_capture(self) -> bool:
        """It cannot."""
        return False

    def make_stream(self) -> Stream:
        """See `Cuda.make_stream`."""
        self._owner.check()
        with _errors("a stream"):
            stream = cu.Stream(_NON_BLOCKING)
        self._streams[stream.handle] = stream
        return Stream(stream.handle)

    @property
    def used_bytes(self) -> int:
        """See `Cuda.used_bytes`."""
        self._owner.check()
        with _errors("asking for the device's memory"):
            free, total = cu.mem_get_info()
        return total - free

    def make_event(self, *, timed: bool = False) -> Event:
        """See `Cuda.make_event`."""
        self._owner.check()
        with _errors("an event"):
            event = cu.Event(cu.event_flags.DEFAULT if timed else cu.event_flags.DISABLE_TIMING)
        self._events[id(event)] = event
        return Event(id(event))

    def allocate(self, size_bytes: int) -> DeviceMemory:
        """See `Cuda.allocate`."""
        self._owner.check()
        with _errors("device memory"):
            memory = cu.mem_alloc(max(size_bytes, 1))
        self._free.append(memory.free)
        return DeviceMemory(int(memory), size_bytes)

    def allocate_pinned(self, size_bytes: int) -> PinnedMemory:
        """See `Cuda.allocate_pinned`."""
        self._owner.check()
        with _errors("pinned memory"):
            memory = cu.pagelocked_zeros(max(size_bytes, 1), np.uint8, mem_flags=cu.host_alloc_flags.PORTABLE)
        self._free.append(memory.base.free)
        return PinnedMemory(memory.ctypes.data, memory[:size_bytes])

    def register(self, memory: NDArray[np.uint8]) -> None:
        """See `Cuda.register`."""
        self._owner.check()
        if self._driver.lock(memory.ctypes.data, memory.nbytes):
            self._registered.append(memory)

    def pinned(self, memory: NDArray[np.uint8]) -> PinnedMemory | None:
        """See `Cuda.pinned`."""
        self._owner.check()
        address = memory.ctypes.data
        if not (self._driver.is_locked(address) and self._driver.is_locked(address + memory.nbytes - 1)):
            return None
        return PinnedMemory(address, memory.reshape(-1))

    def upload(self, source: PinnedMemory, target: DeviceMemory, stream: Stream) -> None:
        """See `Cuda.upload`."""
        self._owner.check()
        with _errors("an upload"):
            cu.memcpy_htod_async(target.address, source.array, self._streams[stream.handle])

    def download(self, source: DeviceMemory, target: PinnedMemory, stream: Stream) -> None:
        """See `Cuda.download`."""
        self._owner.check()
        with _errors("a download"):
            cu.memcpy_dtoh_async(target.array, source.address, self._streams[stream.handle])

    def record(self, event: Event, stream: Stream) -> None:
        """See `Cuda.record`."""
        self._owner.check()
        with _errors("recording an event"):
            self._events[event.handle].record(self._streams[stream.handle])

    def wait(self, stream: Stream, event: Event) -> None:
        """See `Cuda.wait`."""
        self._owner.check()
        with _errors("waiting for an event"):
            self._streams[stream.handle].wait_for_event(self._events[event.handle])

    def synchronize(self, event: Event) -> None:
        """See `Cuda.synchronize`."""
        self._owner.check()
        with _errors("waiting for the device"):
            self._events[event.handle].synchronize()

    def elapsed_ms(self, first: Event, second: Event) -> float:
        """See `Cuda.elapsed_ms`."""
        self._owner.check()
        with _errors("the time between events"):
            return float(self._events[first.handle].time_till(self._events[second.handle]))

    def synchronize_stream(self, stream: Stream) -> None:
        """See `Cuda.synchronize_stream`."""
        self._owner.check()
        with _errors("waiting for the device"):
            self._streams[stream.handle].synchronize()

    def begin_capture(self, stream: Stream) -> None:  # noqa: ARG002
        """PyCUDA has none."""
        raise _no_capture()

    def end_capture(self, stream: Stream) -> Graph:  # noqa: ARG002
        """PyCUDA has none."""
        raise _no_capture()

    def launch(self, graph: Graph, stream: Stream) -> None:  # noqa: ARG002
        """PyCUDA has none."""
        raise _no_capture()

    def hand_over(self) -> None:
        """See `Cuda.hand_over`; a context that is left on a thread's stack aborts the process when that thread ends."""
        self._owner.check()
        while self._registered:
            self._driver.unlock(self._registered.pop().ctypes.data)
        with _errors("letting the context go"):
            cu.Context.pop()
        self._owner.hand_over()

    def take_over(self) -> None:
        """See `Cuda.take_over`."""
        self._owner.take_over()
        with _errors("taking the context over"):
            self._context.push()

    def close(self) -> None:
        """See `Cuda.close`."""
        if not self._owner.is_open:
            return
        self._owner.check()
        self._owner.close()
        atexit.unregister(self.close)
        with contextlib.suppress(cu.Error):
            cu.Context.synchronize()
        # While the context is still current, and whoever else holds a view of the memory.
        for each in self._registered:
            with contextlib.suppress(EngineError):
                self._driver.unlock(each.ctypes.data)
        for free in reversed(self._free):
            with contextlib.suppress(cu.Error):
                free()
        for held in (self._events, self._streams, self._free, self._registered):
            held.clear()
        if _release(self._number):
            self._driver.pop_context()  # PyCUDA has forgotten it, and left it on the thread's stack

    def __enter__(self) -> PyCuda:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(slots=True)
class _Shared:
    """A device's context, and how many have it open."""

    context: Any
    users: int = 0


_shared: dict[int, _Shared] = {}
"""By device: PyCUDA knows a context by its object, so all that are open on a device must have the same one, or the
first to close takes the context away from under the others."""
_lock = threading.Lock()


def _retain(number: int) -> Any:
    """Make a device's context current in this thread."""
    with _lock:
        shared = _shared.get(number) or _Shared(cu.Device(number).retain_primary_context())
        shared.context.push()
        shared.users += 1
        _shared[number] = shared
        return shared.context


def _release(number: int) -> bool:
    """Undo `_retain`; gives whether this was the last one, and the context is gone."""
    with _lock:
        shared = _shared[number]
        shared.users -= 1
        if shared.users:
            cu.Context.pop()
            return False
        del _shared[number]
        # While it is current: PyCUDA releases nothing from a thread that did not retain it.
        shared.context.detach()
        return True


def _facts(device: Any) -> GpuFacts:
    version = cu.get_driver_version()
    return GpuFacts(
        name=device.name(),
        capability="{}.{}".format(*device.compute_capability()),
        driver_cuda=f"{version // 1000}.{version % 1000 // 10}",
        memory_bytes=device.total_memory(),
    )


def _no_capture() -> EngineError:
    return EngineError(
        f"CUDA ({API}): found a capture of a stream, expected none, because PyCUDA has no such call. Use cuda_bindings "
        "for CUDA graphs."
    )


@contextlib.contextmanager
def _errors(doing: str) -> Iterator[None]:
    """PyCUDA's errors as the line's own."""
    try:
        yield
    except cu.Error as error:
        raise EngineError(f"CUDA ({API}): {doing} failed: {error}.") from error
