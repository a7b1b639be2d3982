"""The part of an engine that is the same on every backend: slots, tickets, buffers and their checks."""

from __future__ import annotations

import contextlib
import enum
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from runtime.engine import EngineSettings, Ticket
from runtime.errors import EngineError
from runtime.spec import GraphSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

OutputShapes = Mapping[str, tuple[int, ...]]


class Device(Protocol):
    """What a backend itself does; it counts slots from 0 and is never asked twice for the same one."""

    def start(self, slot: int, frames: NDArray[np.uint8]) -> None:
        """Start a batch in a slot and return at once; `frames` stay until `wait`."""
        ...

    def wait(self, slot: int) -> None:
        """Wait until the outputs of a slot are in its buffers; raises what the library raises."""
        ...

    def keep_awake(self) -> None:
        """Nothing is in flight: do what keeps the next batch from being a slow one; may do nothing."""
        ...

    def register(self, memory: NDArray[np.uint8]) -> None:
        """Make ready to read frames from this memory where they lie; may do nothing."""
        ...

    def hand_over(self) -> None:
        """Let go of the calling thread and of registered memory; nothing is in flight. May do nothing."""
        ...

    def take_over(self) -> None:
        """The calling thread is the owner from now on; may do nothing."""
        ...

    def close(self) -> None:
        """Free everything; nothing is in flight."""
        ...


class _State(enum.Enum):
    FREE = "free"
    IN_FLIGHT = "in flight"
    COLLECTED = "collected"


@dataclass(slots=True)
class _Slot:
    """One batch's place.

    Attributes:
        views: Its output buffers cut to n frames, at n - 1; made once, so that a batch makes none.
        frames: The caller's memory, kept alive while the device reads it.
    """

    views: tuple[Mapping[str, NDArray[Any]], ...]
    state: _State = _State.FREE
    serial: int = -1
    frames: NDArray[np.uint8] | None = None


def output_buffers(
    graph: GraphSpec, shapes: OutputShapes, settings: EngineSettings
) -> tuple[dict[str, NDArray[Any]], ...]:
    """The output buffers of an engine: for each slot, by name, (max_batch, ...).

    They are written once here, so that the first batch on the line pays for no page.
    """
    return tuple(
        {
            output.name: np.full((settings.max_batch, *shapes[output.name]), 0, dtype=output.dtype)
            for output in graph.outputs
        }
        for _ in range(settings.slots)
    )


class SlottedEngine:
    """An `Engine` over a `Device`: checks what comes in, hands out slots, and never loses one.

    Args:
        owner: How errors name this engine.
        backend: Key of the backend.
        precision: Arithmetic of the graph.
        graph: Its contract.
        settings: How it was opened.
        size: Rows and columns of a frame.
        buffers: The output buffers of each slot, which the device writes.
        device: The backend's part.
    """

    def __init__(
        self,
        *,
        owner: str,
        backend: str,
        precision: str,
        graph: GraphSpec,
        settings: EngineSettings,
        size: tuple[int, int],
        buffers: tuple[dict[str, NDArray[Any]], ...],
        device: Device,
    ) -> None:
        self._owner = owner
        self._backend = backend
        self._precision = precision
        self._graph = graph
        self._settings = settings
        self._frame_shape = (1, *size)
        self._device: Device | None = device
        self._slots = tuple(
            _Slot(
                tuple(
                    {name: buffer[:count] for name, buffer in outputs.items()}
                    for count in range(1, settings.max_batch + 1)
                )
            )
            for outputs in buffers
        )
        self._serial = 0
        self._warm_up()

    @property
    def graph(self) -> GraphSpec:
        """The contract of the graph."""
        return self._graph

    @property
    def backend(self) -> str:
        """The key of the backend."""
        return self._backend

    @property
    def precision(self) -> str:
        """The arithmetic of the graph."""
        return self._precision

    @property
    def settings(self) -> EngineSettings:
        """How the engine was opened."""
        return self._settings

    def submit(self, frames: NDArray[np.uint8]) -> Ticket:
        """Start a batch and return at once; see `runtime.engine.Engine`."""
        device = self._open_device()
        self._check(frames)
        index = self._free_slot()
        try:
            device.start(index, frames)
        except Exception as error:  # each library has its own errors, and no common base
            raise self._failure("to start", len(frames), error) from error
        self._serial += 1
        slot = self._slots[index]
        slot.state, slot.serial, slot.frames = _State.IN_FLIGHT, self._serial, frames
        return Ticket(slot=index, serial=self._serial, batch=len(frames))

    def collect(self, ticket: Ticket) -> Mapping[str, NDArray[Any]]:
        """Wait for a batch and give its outputs by name; see `runtime.engine.Engine`."""
        device = self._open_device()
        slot = self._slot_of(ticket, _State.IN_FLIGHT)
        slot.frames = None
        try:
            device.wait(ticket.slot)
        except Exception as error:
            slot.state = _State.FREE
            raise self._failure("to run", ticket.batch, error) from error
        slot.state = _State.COLLECTED
        return slot.views[ticket.batch - 1]

    def release(self, ticket: Ticket) -> None:
        """Give the slot back; see `runtime.engine.Engine`."""
        self._slot_of(ticket, _State.COLLECTED).state = _State.FREE

    def keep_awake(self) -> None:
        """Keep the device from dropping its clocks; see `runtime.engine.Engine`."""
        if any(slot.state is _State.IN_FLIGHT for slot in self._slots):
            return
        try:
            self._open_device().keep_awake()
        except EngineError as error:
            # Nobody's frame is lost yet; the next batch meets the same fault, and that is where it counts.
            log.warning("%s: %s", self._owner, error)

    def register(self, memory: NDArray[np.uint8]) -> None:
        """Tell where frames will come from; see `runtime.engine.Engine`."""
        try:
            self._open_device().register(memory)
        except EngineError as error:
            log.warning("%s: frames are copied once more on their way to the device: %s", self._owner, error)

    def hand_over(self) -> None:
        """Give the engine up; see `runtime.engine.Engine`."""
        taken = [slot.state.value for slot in self._slots if slot.state is not _State.FREE]
        if taken:
            raise EngineError(
                f"{self._owner}: found a batch {taken[0]}, expected none. Collect and release every batch before the "
                "engine is handed over."
            )
        self._open_device().hand_over()

    def take_over(self) -> None:
        """Become its owner; see `runtime.engine.Engine`."""
        self._open_device().take_over()

    def close(self) -> None:
        """Wait for what is in flight and free the device; calling it again does nothing."""
        device, self._device = self._device, None
        if device is None:
            return
        for index, slot in enumerate(self._slots):
            if slot.state is _State.IN_FLIGHT:
                with contextlib.suppress(Exception):  # nobody asks for this batch any more
                    device.wait(index)
            slot.state, slot.frames = _State.FREE, None
        device.close()

    def __enter__(self) -> SlottedEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _warm_up(self) -> None:
        """Run the largest batch and the smallest: a line learns here, not later, that one does not fit."""
        frames = np.zeros((self._settings.max_batch, *self._frame_shape), dtype=np.uint8)
        try:
            for count in {self._settings.max_batch, 1}:
                ticket = self.submit(frames[:count])
                self.collect(ticket)
                self.release(ticket)
        except EngineError:
            self.close()
            raise

    def _open_device(self) -> Device:
        if self._device is None:
            raise EngineError(f"{self._owner}: found it closed, expected it open. Open the engine again.")
        return self._device

    def _check(self, frames: NDArray[np.uint8]) -> None:
        if frames.dtype != np.uint8 or frames.shape[1:] != self._frame_shape or not frames.flags.c_contiguous:
            layout = "" if frames.flags.c_contiguous else " not C-contiguous"
            raise EngineError(
                f"{self._owner}: found frames of {frames.dtype.name} {frames.shape}{layout}, expected "
                f"C-contiguous uint8 (n, {', '.join(map(str, self._frame_shape))}). "
                "Give frames as the camera gives them."
            )
        if not 1 <= len(frames) <= self._settings.max_batch:
            raise EngineError(
                f"{self._owner}: found a batch of {len(frames)}, expected 1 to {self._settings.max_batch}. "
                "Submit fewer frames, or open the engine with a larger max_batch."
            )

    def _free_slot(self) -> int:
        for index, slot in enumerate(self._slots):
            if slot.state is _State.FREE:
                return index
        raise EngineError(
            f"{self._owner}: found all {len(self._slots)} slots taken, expected a free one. "
            "Collect and release a batch first, or open the engine with more slots."
        )

    def _slot_of(self, ticket: Ticket, expected: _State) -> _Slot:
        slot = self._slots[ticket.slot] if 0 <= ticket.slot < len(self._slots) else None
        if slot is None or slot.serial != ticket.serial:
            raise EngineError(
                f"{self._owner}: found ticket {ticket.serial} of slot {ticket.slot}, which no longer holds "
                f"it, expected one that is {expected.value}. Use each ticket once."
            )
        if slot.state is not expected:
            raise EngineError(
                f"{self._owner}: found ticket {ticket.serial} {slot.state.value}, expected it "
                f"{expected.value}. Call submit, collect and release once each, in this order."
            )
        return slot

    def _failure(self, doing: str, batch: int, error: Exception) -> EngineError:
        return EngineError(
            f"{self._owner}: a batch of {batch} failed {doing}: {first_line(error)}. "
            "Its frames were not inspected; open the engine again if this lasts."
        )


def first_line(error: BaseException) -> str:
    """What a library says, on one line: the last with words in it, since libraries put the cause last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).rstrip(".")
