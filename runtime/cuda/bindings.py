"""CUDA by `cuda-bindings`, NVIDIA's own: a wheel, with stream capture."""

from __future__ import annotations

import contextlib
import ctypes
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from cuda.bindings import driver as cu  # pyright: ignore[reportAttributeAccessIssue] - an extension without stubs

from runtime.cuda.calls import DeviceMemory, Event, GpuFacts, Graph, Owner, PinnedMemory, Stream
from runtime.errors import EngineError

if TYPE_CHECKING:
    from numpy.typing import NDArray

API = "cuda_bindings"


def open_device(number: int = 0) -> CudaBindings:
    """Open a GPU; see `runtime.cuda.open_cuda`."""
    try:
        _call(cu.cuInit, 0)
        (count,) = _call(cu.cuDeviceGetCount)
    except EngineError:
        raise
    except RuntimeError as error:  # the library says so where there is no libcuda to load
        raise EngineError(
            f"CUDA ({API}): found no NVIDIA driver (libcuda cannot be loaded), expected one. Install the driver, or "
            "choose a backend of the CPU."
        ) from error
    if not 0 <= number < count:
        raise EngineError(f"CUDA ({API}): found {count} GPUs, expected GPU {number} among them. Name another one.")
    return CudaBindings(number)


class CudaBindings:
    """See `runtime.cuda.calls.Cuda`.

    Whether memory is page-locked is asked of the driver, so that two engines of one process know of the same ring
    whoever of them registered it.
    """

    def __init__(self, number: int) -> None:
        self._owner = Owner(API)
        (self._device,) = _call(cu.cuDeviceGet, number)
        (context,) = _call(cu.cuDevicePrimaryCtxRetain, self._device)
        try:
            _call(cu.cuCtxSetCurrent, context)
            self._context = context
            self._gpu = _facts(self._device)
            read_only = cu.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED
            (self._locks_read_only,) = _call(cu.cuDeviceGetAttribute, read_only, self._device)
        except BaseException:
            _call(cu.cuDevicePrimaryCtxRelease, self._device)
            raise
        # What lies in them is the driver's own type of handle; the ints outside are for TensorRT and for tests.
        self._streams: dict[int, Any] = {}
        self._events: dict[int, Any] = {}
        self._graphs: dict[int, Any] = {}
        self._device_memory: list[int] = []
        self._pinned: list[int] = []
        self._registered: list[tuple[int, NDArray[np.uint8]]] = []

    @property
    def gpu(self) -> GpuFacts:
        """The device."""
        return self._gpu

    @property
    def can_capture(self) -> bool:
        """It can."""
        return True

    def make_stream(self) -> Stream:
        """See `Cuda.make_stream`."""
        self._owner.check()
        (stream,) = _call(cu.cuStreamCreate, int(cu.CUstream_flags.CU_STREAM_NON_BLOCKING))
        self._streams[int(stream)] = stream
        return Stream(int(stream))

    @property
    def used_bytes(self) -> int:
        """See `Cuda.used_bytes`."""
        self._owner.check()
        free, total = _call(cu.cuMemGetInfo)
        return int(total) - int(free)

    def make_event(self, *, timed: bool = False) -> Event:
        """See `Cuda.make_event`."""
        self._owner.check()
        flags = cu.CUevent_flags.CU_EVENT_DEFAULT if timed else cu.CUevent_flags.CU_EVENT_DISABLE_TIMING
        (event,) = _call(cu.cuEventCreate, int(flags))
        self._events[int(event)] = event
        return Event(int(event))

    def allocate(self, size_bytes: int) -> DeviceMemory:
        """See `Cuda.allocate`."""
        self._owner.check()
        (address,) = _call(cu.cuMemAlloc, max(size_bytes, 1))
        self._device_memory.append(int(address))
        return DeviceMemory(int(address), size_bytes)

    def allocate_pinned(self, size_bytes: int) -> PinnedMemory:
        """See `Cuda.allocate_pinned`."""
        self._owner.check()
        (pointer,) = _call(cu.cuMemHostAlloc, max(size_bytes, 1), cu.CU_MEMHOSTALLOC_PORTABLE)
        address = int(pointer)
        self._pinned.append(address)
        memory = np.ctypeslib.as_array((ctypes.c_uint8 * max(size_bytes, 1)).from_address(address))[:size_bytes]
        memory[:] = 0
        return PinnedMemory(address, memory)

    def register(self, memory: NDArray[np.uint8]) -> None:
        """See `Cuda.register`; many a GPU refuses the flag of memory that is only read, and needs none for a view."""
        self._owner.check()
        flags = cu.CU_MEMHOSTREGISTER_PORTABLE
        if self._locks_read_only and not memory.flags.writeable:
            flags |= cu.CU_MEMHOSTREGISTER_READ_ONLY
        address = memory.ctypes.data
        error = cu.cuMemHostRegister(address, memory.nbytes, flags)[0]
        if error == cu.CUresult.CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED:
            return
        _check(error, "cuMemHostRegister")
        self._registered.append((address, memory))

    def pinned(self, memory: NDArray[np.uint8]) -> PinnedMemory | None:
        """See `Cuda.pinned`."""
        self._owner.check()
        address = memory.ctypes.data
        if not (_is_locked(address) and _is_locked(address + memory.nbytes - 1)):
            return None
        return PinnedMemory(address, memory.reshape(-1))

    def upload(self, source: PinnedMemory, target: DeviceMemory, stream: Stream) -> None:
        """See `Cuda.upload`."""
        self._owner.check()
        _call(cu.cuMemcpyHtoDAsync, target.address, source.address, source.size_bytes, self._streams[stream.handle])

    def download(self, source: DeviceMemory, target: PinnedMemory, stream: Stream) -> None:
        """See `Cuda.download`."""
        self._owner.check()
        _call(cu.cuMemcpyDtoHAsync, target.address, source.address, target.size_bytes, self._streams[stream.handle])

    def record(self, event: Event, stream: Stream) -> None:
        """See `Cuda.record`."""
        self._owner.check()
        _call(cu.cuEventRecord, self._events[event.handle], self._streams[stream.handle])

    def wait(self, stream: Stream, event: Event) -> None:
        """See `Cuda.wait`."""
        self._owner.check()
        _call(cu.cuStreamWaitEvent, self._streams[stream.handle], self._events[event.handle], 0)

    def synchronize(self, event: Event) -> None:
        """See `Cuda.synchronize`; the interpreter's lock is free meanwhile."""
        self._owner.check()
        _call(cu.cuEventSynchronize, self._events[event.handle])

    def elapsed_ms(self, first: Event, second: Event) -> float:
        """See `Cuda.elapsed_ms`."""
        self._owner.check()
        (elapsed_ms,) = _call(cu.cuEventElapsedTime, self._events[first.handle], self._events[second.handle])
        return float(elapsed_ms)

    def synchronize_stream(self, stream: Stream) -> None:
        """See `Cuda.synchronize_stream`."""
        self._owner.check()
        _call(cu.cuStreamSynchronize, self._streams[stream.handle])

    def begin_capture(self, stream: Stream) -> None:
        """See `Cuda.begin_capture`; what other threads do meanwhile does not spoil it."""
        self._owner.check()
        mode = cu.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        _call(cu.cuStreamBeginCapture, self._streams[stream.handle], mode)

    def end_capture(self, stream: Stream) -> Graph:
        """See `Cuda.end_capture`."""
        self._owner.check()
        (noted,) = _call(cu.cuStreamEndCapture, self._streams[stream.handle])
        try:
            (graph,) = _call(cu.cuGraphInstantiate, noted, 0)
        finally:
            _call(cu.cuGraphDestroy, noted)
        self._graphs[int(graph)] = graph
        return Graph(int(graph))

    def launch(self, graph: Graph, stream: Stream) -> None:
        """See `Cuda.launch`."""
        self._owner.check()
        _call(cu.cuGraphLaunch, self._graphs[graph.handle], self._streams[stream.handle])

    def hand_over(self) -> None:
        """See `Cuda.hand_over`; the context stays current in this thread, where another device may still use it."""
        self._owner.check()
        while self._registered:
            _call(cu.cuMemHostUnregister, self._registered.pop()[0])
        self._owner.hand_over()

    def take_over(self) -> None:
        """See `Cuda.take_over`."""
        self._owner.take_over()
        _call(cu.cuCtxSetCurrent, self._context)

    def close(self) -> None:
        """See `Cuda.close`."""
        if not self._owner.is_open:
            return
        self._owner.check()
        self._owner.close()
        # After a failed kernel every call fails, freeing too; the process is then at its end and nothing is lost.
        with contextlib.suppress(EngineError):
            _call(cu.cuCtxSynchronize)
        freeing = (
            *((cu.cuGraphExecDestroy, each) for each in self._graphs.values()),
            *((cu.cuMemHostUnregister, each) for each, _ in self._registered),
            *((cu.cuMemFreeHost, each) for each in self._pinned),
            *((cu.cuMemFree, each) for each in self._device_memory),
            *((cu.cuEventDestroy, each) for each in self._events.values()),
            *((cu.cuStreamDestroy, each) for each in self._streams.values()),
            (cu.cuDevicePrimaryCtxRelease, self._device),
        )
        for free, what in freeing:
            with contextlib.suppress(EngineError):
                _call(free, what)
        self._registered.clear()

    def __enter__(self) -> CudaBindings:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _call(function: Any, *arguments: Any) -> tuple[Any, ...]:
    """What a call of the driver gives, without its error code.

    Raises:
        EngineError: The driver refused.
    """
    error, *values = function(*arguments)
    _check(error, function.__name__)
    return tuple(values)


def _check(error: Any, call: str) -> None:
    if error == cu.CUresult.CUDA_SUCCESS:
        return
    said = cu.cuGetErrorString(error)[1]
    text = said.decode() if isinstance(said, bytes) else str(said)
    raise EngineError(f"CUDA ({API}): {call} found {getattr(error, 'name', error)} ({text}), expected success.")


def _is_locked(address: int) -> bool:
    """Whether the driver knows an address as page-locked memory of the host."""
    error, kind = cu.cuPointerGetAttribute(cu.CUpointer_attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address)
    return error == cu.CUresult.CUDA_SUCCESS and int(kind) == int(cu.CUmemorytype.CU_MEMORYTYPE_HOST)


def _facts(device: Any) -> GpuFacts:
    attribute = cu.CUdevice_attribute
    (name,) = _call(cu.cuDeviceGetName, 256, device)
    (major,) = _call(cu.cuDeviceGetAttribute, attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device)
    (minor,) = _call(cu.cuDeviceGetAttribute, attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device)
    (version,) = _call(cu.cuDriverGetVersion)
    (memory_bytes,) = _call(cu.cuDeviceTotalMem, device)
    return GpuFacts(
        name=name.split(b"\0", 1)[0].decode(),
        capability=f"{major}.{minor}",
        driver_cuda=f"{version // 1000}.{version % 1000 // 10}",
        memory_bytes=int(memory_bytes),
    )
