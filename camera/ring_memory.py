"""The memory of a ring: where pixels, events and a few words lie, and the pipes between two processes.

```
camera process                                             runtime process
  pixels, event ---> shared memory ------------------------> read in place
  token ----------> pipe `filled` (a number of an event) ---> claim
  slot to fill <--- pipe `free`   (a number of a slot) <----- release
```

A token or slot is a few bytes in a pipe, and the kernel moves those whole or not at all: there is no lock
that a killed process could leave behind, no state that could be half written, nobody spins, and a pipe's read
and write order the memory between the processes on every CPU. Memory and pipes have no names: when the last
process that holds them is gone, however it went, the kernel frees them.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from camera.base import CameraError, LostReason

MAX_SLOTS = 1024
"""Most frames in a ring: the pipes then have room for the token of each, and for losses between them."""
TOKEN = struct.Struct("<q")
SLOT = struct.Struct("<i")

_PAGE = 4096
_PIPE_BYTES = 4 * _PAGE  # at most 2,048 tokens wait, at least 1,537: a page is used again once all of it was read
_EVENTS = _PIPE_BYTES // TOKEN.size + 512  # no event is overwritten while its token waits, or is just being read
_EVENT_BYTES = 1024
_EVENT = struct.Struct("<qqqqdiHH")  # sequence, first, stop, captured_ns, position_m, slot, reason, text bytes
_TEXT_BYTES = _EVENT_BYTES - _EVENT.size
_PIXELS = _PAGE + _EVENTS * _EVENT_BYTES  # a whole number of pages
_NOT_YET = -1

_HEARTBEAT, _STOP, _FIRST, _NEXT = (8 * word for word in range(4))
_WORD = struct.Struct("<q")
_REASONS: tuple[LostReason, ...] = get_args(LostReason)


class Policy(str, Enum):
    """What happens to a frame when the ring is full. What is dropped is told as lost, in its place."""

    WAIT = "wait"
    """The camera waits; it may lose frames itself, which its counter shows."""
    DROP_OLDEST = "drop_oldest"
    """The oldest frame that nobody has claimed makes room."""
    DROP_NEWEST = "drop_newest"
    """The new frame is dropped."""


class Event(NamedTuple):
    """One step of the camera's counter: a frame in a slot, or lost frames [first, stop) with slot -1."""

    first: int
    stop: int
    slot: int
    captured_ns: int = 0
    position_m: float = 0.0
    reason: LostReason = "ring_full"
    text: str = ""


@dataclass(frozen=True, slots=True)
class RingHandles:
    """What a process needs to reach a ring: its size, and five file descriptors.

    Attributes:
        slots: Frames that the ring holds.
        height_px: Rows of every frame.
        width_px: Columns of every frame.
        memory: The shared memory.
        filled_out: Reading end of the pipe of tokens.
        filled_in: Writing end of the pipe of tokens.
        free_out: Reading end of the pipe of free slots.
        free_in: Writing end of the pipe of free slots.
    """

    slots: int
    height_px: int
    width_px: int
    memory: int
    filled_out: int
    filled_in: int
    free_out: int
    free_in: int

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All five, in the order of the attributes."""
        return (self.memory, self.filled_out, self.filled_in, self.free_out, self.free_in)

    def close(self) -> None:
        """Give the descriptors back; mapped memory stays until it is unmapped."""
        for descriptor in self.descriptors:
            os.close(descriptor)


def create_ring(slots: int, height_px: int, width_px: int) -> RingHandles:
    """Make the memory and the pipes of a ring, with every slot free.

    Raises:
        CameraError: The size makes no ring, or the system has no memory or descriptors for it.
    """
    if not (1 <= slots <= MAX_SLOTS and height_px >= 1 and width_px >= 1):
        raise CameraError(
            f"ring: found {slots} slots of {height_px} x {width_px}, expected 1 to {MAX_SLOTS} slots of "
            "at least one pixel. Change the number of slots."
        )
    made: list[int] = []
    try:
        made.append(os.memfd_create("ferrosight-ring"))
        os.ftruncate(made[0], _PIXELS + slots * height_px * width_px)
        for _ in range(2):
            made.extend(os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC))
            fcntl.fcntl(made[-1], fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        handles = RingHandles(slots, height_px, width_px, *made)
        memory = RingMemory(handles)
        memory.clear()
        os.write(handles.free_in, b"".join(SLOT.pack(slot) for slot in range(slots)))
    except OSError as error:
        for descriptor in made:
            os.close(descriptor)
        raise CameraError(
            f"ring: no room for {slots} slots of {height_px} x {width_px} ({error.strerror}), expected "
            f"{slots * height_px * width_px / 1e6:.0f} MB of shared memory. Use fewer slots."
        ) from error
    return handles


def read_pipe(descriptor: int, size: int) -> bytes:
    """What lies ready in a pipe, at most `size` bytes; empty when nothing does.

    Raises:
        CameraError: Nobody holds the other end any more.
    """
    try:
        data = os.read(descriptor, size)
    except BlockingIOError:
        return b""
    if not data:
        raise CameraError("ring: the other process is gone, expected it to hold its end. Restart the line.")
    return data


class RingMemory:
    """The mapped memory of a ring; it stays mapped as long as anybody holds a view of its pixels.

    Attributes:
        pixels: (slots, 1, H, W) uint8, C-contiguous, page-aligned: consecutive slots are one array.
    """

    def __init__(self, handles: RingHandles) -> None:
        shape = (handles.slots, 1, handles.height_px, handles.width_px)
        self._map = mmap.mmap(
            handles.memory,
            _PIXELS + handles.slots * handles.height_px * handles.width_px,
            flags=mmap.MAP_SHARED | mmap.MAP_POPULATE,
        )
        self.pixels: NDArray[np.uint8] = np.frombuffer(self._map, np.uint8, offset=_PIXELS).reshape(shape)

    def clear(self) -> None:
        """Forget everything that a writer has said, for the next writer."""
        for word in (_HEARTBEAT, _STOP):
            _WORD.pack_into(self._map, word, 0)
        for word in (_FIRST, _NEXT):
            _WORD.pack_into(self._map, word, _NOT_YET)
        for place in range(_EVENTS):
            _WORD.pack_into(self._map, _event_offset(place), _NOT_YET)

    def write_event(self, sequence: int, event: Event) -> None:
        """Put down an event; its token is to follow."""
        offset = _event_offset(sequence)
        text = _cut(event.text) if event.text else b""
        # A reader that looks a dropped event up must not take half of the next one for it.
        _WORD.pack_into(self._map, offset, _NOT_YET)
        reason = _REASONS.index(event.reason)
        _EVENT.pack_into(
            self._map, offset, sequence, event.first, event.stop, event.captured_ns, event.position_m,
            event.slot, reason, len(text),
        )  # fmt: skip
        if text:
            start = offset + _EVENT.size
            self._map[start : start + len(text)] = text

    def read_event(self, sequence: int) -> Event | None:
        """The event of this number; None if another has taken its place."""
        offset = _event_offset(sequence)
        found, first, stop, captured_ns, position_m, slot, reason, size = _EVENT.unpack_from(self._map, offset)
        if found != sequence:
            return None
        start = offset + _EVENT.size
        text = self._map[start : start + size].decode(errors="replace") if size else ""
        if _WORD.unpack_from(self._map, offset)[0] != sequence:
            return None
        return Event(first, stop, slot, captured_ns, position_m, _REASONS[reason], text)

    @property
    def heartbeat(self) -> int:
        """Rises with every sign of life of the writer."""
        return _WORD.unpack_from(self._map, _HEARTBEAT)[0]

    @heartbeat.setter
    def heartbeat(self, value: int) -> None:
        _WORD.pack_into(self._map, _HEARTBEAT, value)

    @property
    def stop(self) -> bool:
        """Whether the reader wants no more frames."""
        return _WORD.unpack_from(self._map, _STOP)[0] != 0

    @stop.setter
    def stop(self, value: bool) -> None:
        _WORD.pack_into(self._map, _STOP, int(value))

    @property
    def first_index(self) -> int | None:
        """The first frame that the writer ever had; None before it."""
        return self._index(_FIRST)

    @first_index.setter
    def first_index(self, value: int) -> None:
        _WORD.pack_into(self._map, _FIRST, value)

    @property
    def next_index(self) -> int | None:
        """The frame after the last that the writer had, whether or not it still lies in the ring."""
        return self._index(_NEXT)

    @next_index.setter
    def next_index(self, value: int) -> None:
        _WORD.pack_into(self._map, _NEXT, value)

    def _index(self, word: int) -> int | None:
        value = _WORD.unpack_from(self._map, word)[0]
        return None if value == _NOT_YET else value


def _event_offset(sequence: int) -> int:
    return _PAGE + sequence % _EVENTS * _EVENT_BYTES


def _cut(text: str) -> bytes:
    """The text as UTF-8; where it is too long, its beginning and its end."""
    data = text.encode(errors="replace")
    if len(data) <= _TEXT_BYTES:
        return data
    half = (_TEXT_BYTES - 3) // 2
    return data[:half] + "…".encode() + data[-half:]
