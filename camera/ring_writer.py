"""The camera's end of the ring: frames and losses go in, and a policy rules when there is no room."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from camera.account import joined
from camera.base import CameraError, Frame, Lost
from camera.ring_memory import SLOT, TOKEN, Event, Policy, RingHandles, RingMemory, read_pipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

RING_FULL = "the inspection was slower than the camera"
_MOST_PENDING = 64


class RingWriter:
    """Puts frames and losses into a ring, in order; there is one writer at a time.

    Args:
        camera: Named in losses.
        handles: The ring.
        policy: What to do when there is no room.
    """

    def __init__(self, camera: str, handles: RingHandles, policy: Policy) -> None:
        self._camera = camera
        self._handles = handles
        self._memory = RingMemory(handles)
        self._size = (handles.height_px, handles.width_px)
        self._slots = [pixels[0] for pixels in self._memory.pixels]
        self._make_room: Callable[[], bool] = {
            Policy.WAIT: lambda: False,
            Policy.DROP_OLDEST: self._drop_oldest,
            Policy.DROP_NEWEST: lambda: False,
        }[policy]
        self._waits = policy is Policy.WAIT
        self._free = bytearray(handles.slots)
        self._last_slot = handles.slots - 1
        self._sequence = 0
        self._pending: list[Lost] = []
        self._saw_any = False

    @property
    def stop_requested(self) -> bool:
        """Whether the reader wants no more frames."""
        return self._memory.stop

    def beat(self) -> None:
        """Give a sign of life."""
        self._memory.heartbeat += 1

    def lend(self) -> NDArray[np.uint8] | None:
        """The slot that the next frame goes to, (H, W) uint8, for a driver that can put its pixels there by itself.

        Returns:
            Memory to write to until the next `put`; None while the ring is full.
        """
        slot = self._free_slot()
        return None if slot is None else self._slots[slot]

    def put(self, frame: Frame, timeout_s: float = 0.0) -> bool:
        """Copy a frame into the ring, unless it was made where it belongs, or drop what the policy drops.

        Returns:
            True once the frame is answered for. False where the policy is to wait and there was no room in
            time: nothing has changed, call again with the same frame.

        Raises:
            CameraError: The frame has another size than the ring, or the reader is gone.
        """
        if frame.pixels.shape != self._size or frame.pixels.dtype != np.uint8:
            raise CameraError(
                f"camera {self._camera}: found a frame {frame.pixels.shape} of {frame.pixels.dtype}, "
                f"expected {self._size} of uint8. This is a fault of the driver: report it."
            )
        self._saw(frame.index, frame.index + 1)
        slot = self._slot_for_next(timeout_s)
        told = slot is not None and self.flush(timeout_s)
        if slot is not None and told:
            if frame.pixels is not self._slots[slot]:
                self._slots[slot][:] = frame.pixels
            event = Event(frame.index, frame.index + 1, slot, frame.captured_ns, frame.position_m, text=frame.source)
            if self._publish(event, timeout_s):
                self._free[slot] = 0
                self._last_slot = slot
                return True
        if self._waits:
            return False
        self._keep(Lost(self._camera, frame.index, frame.index + 1, "ring_full", RING_FULL))
        return True

    def lose(self, lost: Lost, timeout_s: float = 0.0) -> bool:
        """Tell of lost frames, in their place among the frames.

        Returns:
            As for `put`.
        """
        self._saw(lost.first_index, lost.stop_index)
        if not self.flush(timeout_s) and self._waits:
            return False
        self._keep(lost)
        return True

    def flush(self, timeout_s: float = 0.0) -> bool:
        """Tell what has been lost up to now, without waiting for the next frame.

        Returns:
            Whether everything has been told.
        """
        while self._pending:
            lost = self._pending[0]
            event = Event(lost.first_index, lost.stop_index, -1, reason=lost.reason, text=lost.detail)
            if not self._publish(event, timeout_s):
                return False
            self._pending.pop(0)
        return True

    def _slot_for_next(self, timeout_s: float) -> int | None:
        """A free slot, by the policy; None if there is none in time."""
        slot = self._free_slot()
        if slot is None and self._waits and _ready(self._handles.free_out, select.POLLIN, timeout_s):
            slot = self._free_slot()
        while slot is None and self._make_room():
            slot = self._free_slot()
        return slot

    def _free_slot(self) -> int | None:
        """The slot after the last if it is free, so that frames lie in one piece; else a long run's first."""
        free = self._free
        wanted = self._last_slot + 1
        if wanted == len(free):
            wanted = 0
        if free[wanted]:
            return wanted
        for (slot,) in SLOT.iter_unpack(read_pipe(self._handles.free_out, SLOT.size * len(free))):
            free[slot] = 1
        if free[wanted]:
            return wanted
        longest = max(bytes(free).split(b"\0"), key=len)
        return free.find(longest) if longest else None

    def _drop_oldest(self) -> bool:
        """Take the oldest token back before the reader claims it; the reader sees the hole in the numbers."""
        token = read_pipe(self._handles.filled_out, TOKEN.size)
        if not token:
            return False
        event = self._memory.read_event(TOKEN.unpack(token)[0])
        if event is not None and event.slot >= 0:
            self._free[event.slot] = 1
        return True

    def _publish(self, event: Event, timeout_s: float) -> bool:
        """Number an event and send its token; False if the pipe is full of tokens and stays so."""
        self._memory.write_event(self._sequence, event)
        token = TOKEN.pack(self._sequence)
        while True:
            try:
                os.write(self._handles.filled_in, token)
            except BlockingIOError:
                if self._make_room():
                    continue
                if self._waits and _ready(self._handles.filled_in, select.POLLOUT, timeout_s):
                    continue
                return False
            self._sequence += 1
            return True

    def _keep(self, lost: Lost) -> None:
        """Remember a loss until the next frame, so that a long one is told once."""
        self._pending[-1:] = joined([*self._pending[-1:], lost])
        if len(self._pending) > _MOST_PENDING:
            first, last = self._pending[0], self._pending[-1]
            self._pending = [replace(first, stop_index=last.stop_index, reason="ring_full", detail=RING_FULL)]

    def _saw(self, first: int, stop: int) -> None:
        """Write down how far the camera has come, for the reader of a ring whose writer was killed."""
        if not self._saw_any:
            self._memory.first_index = first
            self._saw_any = True
        self._memory.next_index = stop


def _ready(descriptor: int, what: int, timeout_s: float) -> bool:
    """Wait until a pipe can be read or written."""
    if timeout_s <= 0:
        return False
    poll = select.poll()
    poll.register(descriptor, what)
    return bool(poll.poll(timeout_s * 1e3))
