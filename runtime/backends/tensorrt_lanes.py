"""A TensorRT plan on streams: the device's half of an engine, one lane for each slot.

```
lane 0   upload k | compute k  | download k |
lane 1            | upload k+1 | compute k+1 | download k+1 |
```

A lane is a stream with device and pinned memory of its own, so that the copies of one batch overlap with the compute of
its neighbour. Computes run one after another, in the order of submission: two at a time would slow each other down, and
the first would come late for nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from runtime.backends.run_sizes import run_as, run_sizes
from runtime.cuda.calls import Cuda, DeviceMemory, Event, Graph, PinnedMemory, Stream
from runtime.errors import EngineError

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEEP_AWAKE_NS = 1_000_000_000
"""Idle time after which the device is given something to do: it drops its clocks some seconds later."""
SETTLING_RUNS = 2
"""The first run of a shape compiles or settles; a flavour that captures by itself does so on the next."""


class Context(Protocol):
    """What is used of TensorRT's `IExecutionContext`."""

    def set_input_shape(self, name: str, shape: Sequence[int], /) -> bool:
        """Set the shape of an input; False where the profile does not allow it."""
        ...

    def get_tensor_shape(self, name: str, /) -> Sequence[int]:
        """The shape of a tensor, once those of the inputs are set."""
        ...

    def set_tensor_address(self, name: str, address: int, /) -> bool:
        """Where a tensor lies on the device."""
        ...

    def execute_async_v3(self, stream_handle: int, /) -> bool:
        """Put the network into a stream; False where TensorRT refuses."""
        ...


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output, for one frame."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def size_bytes(self, count: int) -> int:
        """Of a batch."""
        return count * int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


MakeContext = Callable[[int, Stream, DeviceMemory | None], Context]
"""A context for the profile of a number, switched to it in a stream, in a workspace of the lane's where it brings none
of its own."""


@dataclass(frozen=True, slots=True)
class Program:
    """An opened plan, as the lanes see it.

    Attributes:
        input: The frames.
        outputs: In the contract's order.
        profile_of: The number of the profile that a batch is run with.
        make_context: Makes one.
        workspace_bytes: Memory that a context works in; None where each context brings its own.
        capture: Whether computes are captured as graphs here; each then has a context of its own, because a graph
            stays good only while its context keeps the shape, and all contexts of a lane share its workspace.
        complaints: What TensorRT has said since it was last asked.
    """

    input: Tensor
    outputs: tuple[Tensor, ...]
    profile_of: Callable[[int], int]
    make_context: MakeContext
    workspace_bytes: int | None
    capture: bool
    complaints: Callable[[], str]


@dataclass(slots=True)
class _Shaped:
    """A context, and the batch to which its input is set."""

    context: Context
    size: int


@dataclass(slots=True)
class _Lane:
    """One slot's share of the device."""

    stream: Stream
    computed: Event
    done: Event
    staging: PinnedMemory
    frames: DeviceMemory
    results: Mapping[str, DeviceMemory]
    pinned: Mapping[str, PinnedMemory]
    downloads: tuple[tuple[tuple[DeviceMemory, PinnedMemory], ...], ...]
    contexts: dict[int, _Shaped]
    graphs: dict[int, Graph]


class Lanes:
    """See `runtime.backends.slots.Device`; everything is allocated, compiled and captured here, at the beginning.

    Args:
        cuda: The device; closed with the lanes.
        program: The opened plan.
        max_batch: The largest batch.
        slots: How many lanes.
        ended: Called when all contexts are gone and before the device is: keeps what the plan wants kept.
        clock_ns: Monotonic clock, for how long nothing was asked of the device.
    """

    def __init__(
        self,
        cuda: Cuda,
        program: Program,
        max_batch: int,
        slots: int,
        ended: Callable[[], None] = lambda: None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._cuda = cuda
        self._program = program
        self._run_as = run_as(max_batch)
        self._ended = ended
        self._clock_ns = clock_ns
        self._busy_ns = clock_ns()
        self._lanes: list[_Lane] = []
        self._last: _Lane | None = None
        try:
            for _ in range(slots):
                self._lanes.append(self._make_lane(max_batch))
            for lane in self._lanes:
                for size in run_sizes(max_batch):
                    self._settle(lane, size)
        except BaseException:
            # Contexts must go before the device does, and whoever keeps the error keeps this object too.
            self._drop_contexts()
            raise

    @property
    def buffers(self) -> tuple[dict[str, NDArray[Any]], ...]:
        """The pinned output buffers of each slot, by name, (max_batch, ...)."""
        return tuple(
            {
                output.name: lane.pinned[output.name].array.view(output.dtype).reshape(-1, *output.shape)
                for output in self._program.outputs
            }
            for lane in self._lanes
        )

    @property
    def graph_count(self) -> int:
        """Graphs that were captured here."""
        return sum(len(lane.graphs) for lane in self._lanes)

    def register(self, memory: NDArray[np.uint8]) -> None:
        """Page-lock memory from which frames will come, so that they are uploaded from where they lie.

        Raises:
            EngineError: The driver cannot; frames then take the way over the staging memory.
        """
        self._cuda.register(memory)

    def keep_awake(self) -> None:
        """See `Device.keep_awake`: runs one frame, whatever is left of the last one, and nobody sees the outcome."""
        if self._clock_ns() - self._busy_ns < KEEP_AWAKE_NS:
            return
        lane = self._lanes[0]
        self._compute(lane, 1)
        self._cuda.synchronize_stream(lane.stream)
        self._busy_ns = self._clock_ns()

    def start(self, slot: int, frames: NDArray[np.uint8]) -> None:
        """See `Device.start`."""
        lane, count = self._lanes[slot], len(frames)
        size = self._run_as[count - 1]
        cuda = self._cuda
        try:
            cuda.upload(cuda.pinned(frames) or _staged(lane, frames), lane.frames, lane.stream)
            if self._last is not None:
                cuda.wait(lane.stream, self._last.computed)
            self._compute(lane, size)
            cuda.record(lane.computed, lane.stream)
            for source, target in lane.downloads[count - 1]:
                cuda.download(source, target, lane.stream)
            cuda.record(lane.done, lane.stream)
        except BaseException:
            # The slot will be free again, and the frames their owner's: nothing may still read or write them.
            with contextlib.suppress(EngineError):
                cuda.synchronize_stream(lane.stream)
            raise
        self._last = lane
        self._busy_ns = self._clock_ns()

    def wait(self, slot: int) -> None:
        """See `Device.wait`."""
        self._cuda.synchronize(self._lanes[slot].done)

    def hand_over(self) -> None:
        """See `Device.hand_over`."""
        self._cuda.hand_over()

    def take_over(self) -> None:
        """See `Device.take_over`."""
        self._cuda.take_over()

    def close(self) -> None:
        """See `Device.close`; contexts go before the memory that they use, and the device last."""
        self._drop_contexts()
        self._ended()
        self._cuda.close()

    def _drop_contexts(self) -> None:
        for lane in self._lanes:
            lane.contexts.clear()

    def _make_lane(self, max_batch: int) -> _Lane:
        cuda, program = self._cuda, self._program
        stream = cuda.make_stream()
        frames = cuda.allocate(program.input.size_bytes(max_batch))
        results = {each.name: cuda.allocate(each.size_bytes(max_batch)) for each in program.outputs}
        pinned = {each.name: cuda.allocate_pinned(each.size_bytes(max_batch)) for each in program.outputs}
        workspace = None if program.workspace_bytes is None else cuda.allocate(program.workspace_bytes)
        addresses = {name: memory.address for name, memory in {program.input.name: frames, **results}.items()}
        return _Lane(
            stream=stream,
            computed=cuda.make_event(),
            done=cuda.make_event(),
            staging=cuda.allocate_pinned(program.input.size_bytes(max_batch)),
            frames=frames,
            results=results,
            pinned=pinned,
            downloads=tuple(
                tuple((results[each.name], pinned[each.name].first(each.size_bytes(count))) for each in program.outputs)
                for count in range(1, max_batch + 1)
            ),
            contexts=self._make_contexts(run_sizes(max_batch), stream, addresses, workspace),
            graphs={},
        )

    def _make_contexts(
        self, sizes: Sequence[int], stream: Stream, addresses: Mapping[str, int], workspace: DeviceMemory | None
    ) -> dict[int, _Shaped]:
        """The context of each size: its own where it is captured, else that of all sizes with the same profile.

        No context is ever switched to another profile, which could allocate memory and would be met on the line.
        """
        program = self._program
        made: dict[int, _Shaped] = {}
        contexts: dict[int, _Shaped] = {}
        for size in sizes:
            profile = program.profile_of(size)
            key = size if program.capture else profile
            if key not in made:
                made[key] = _Shaped(program.make_context(profile, stream, workspace), 0)
                self._shape(made[key], size)
                for name, address in addresses.items():
                    self._set(made[key].context.set_tensor_address(name, address))
            contexts[size] = made[key]
        return contexts

    def _settle(self, lane: _Lane, size: int) -> None:
        """Run a shape until nothing about it is new, on blank frames, and capture it."""
        cuda = self._cuda
        cuda.upload(lane.staging.first(self._program.input.size_bytes(size)), lane.frames, lane.stream)
        for _ in range(SETTLING_RUNS):
            self._compute(lane, size)
        cuda.synchronize_stream(lane.stream)
        if self._program.capture:
            cuda.begin_capture(lane.stream)
            try:
                self._compute(lane, size)
            finally:
                graph = cuda.end_capture(lane.stream)
            lane.graphs[size] = graph

    def _compute(self, lane: _Lane, size: int) -> None:
        graph = lane.graphs.get(size)
        if graph is not None:
            self._cuda.launch(graph, lane.stream)
            return
        shaped = lane.contexts[size]
        self._shape(shaped, size)
        self._set(shaped.context.execute_async_v3(lane.stream.handle))

    def _shape(self, shaped: _Shaped, size: int) -> None:
        if shaped.size != size:
            name, shape = self._program.input.name, self._program.input.shape
            self._set(shaped.context.set_input_shape(name, (size, *shape)))
            shaped.size = size

    def _set(self, accepted: bool) -> None:
        if not accepted:
            raise EngineError(f"TensorRT refused: {self._program.complaints() or 'it does not say why'}")


def _staged(lane: _Lane, frames: NDArray[np.uint8]) -> PinnedMemory:
    """The frames, copied to the lane's pinned memory."""
    staged = lane.staging.first(frames.nbytes)
    np.copyto(staged.array, frames.reshape(-1))
    return staged
