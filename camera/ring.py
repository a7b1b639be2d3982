"""The runtime's end of the ring: frames are claimed in batches and read where the camera put them."""

from __future__ import annotations

import math
import os
import select
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from camera.account import Ledger, joined
from camera.base import Frame, Lost
from camera.ring_memory import SLOT, TOKEN, Event, Policy, RingHandles, RingMemory, create_ring, read_pipe
from camera.ring_writer import RING_FULL

__all__ = ["Batch", "Policy", "RingReader", "WriterGone"]

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(slots=True)
class Batch:
    """Consecutive frames, claimed from a ring and lying in one piece of its memory.

    Attributes:
        camera: Name of the camera in the line configuration.
        first_index: The camera's counter at the first frame; it rises by one a frame.
        pixels: (n, 1, H, W) uint8, C-contiguous, in the ring itself: read it until `release`, never write it.
        captured_ns: Monotonic clock at the end of each exposure, in nanoseconds.
        position_m: Place along the strip of each frame's first row, in metres; NaN where nobody measures it.
        sources: Where each picture came from, empty for a live camera.
    """

    camera: str
    first_index: int
    pixels: NDArray[np.uint8]
    captured_ns: tuple[int, ...]
    position_m: tuple[float, ...]
    sources: tuple[str, ...]
    _release: Callable[[], None] | None

    def __len__(self) -> int:
        return len(self.captured_ns)

    def frames(self) -> Iterator[Frame]:
        """The frames one by one, borrowed as the batch is."""
        for number, captured_ns in enumerate(self.captured_ns):
            yield Frame(
                self.camera,
                self.first_index + number,
                captured_ns,
                self.pixels[number, 0],
                self.position_m[number],
                self.sources[number],
            )

    def release(self) -> None:
        """Give the slots back to the camera: the pixels are dead. Batches may be released in any order."""
        release, self._release = self._release, None
        if release is not None:
            release()


@dataclass(frozen=True, slots=True)
class WriterGone:
    """The place in the order of events where one writer stopped and another may begin.

    Attributes:
        frames_lost: Frames that the writer had grabbed and that never came out of the ring.
        fault: Why it stopped; empty if it came to an orderly end.
    """

    frames_lost: int
    fault: str


class RingReader:
    """Makes a ring and reads it; there is one reader, and any thread of it may release batches.

    Args:
        camera: Named in frames and losses.
        slots: Frames that the ring holds, 1 to 1,024.
        height_px: Rows of every frame.
        width_px: Columns of every frame.

    Raises:
        CameraError: There is no memory for it.
    """

    def __init__(self, camera: str, slots: int, height_px: int, width_px: int) -> None:
        self._camera = camera
        self._handles = create_ring(slots, height_px, width_px)
        self._memory = RingMemory(self._handles)
        self._events: deque[Event | Lost | WriterGone] = deque()
        self._held: set[int] = set()
        self._releasing = threading.Lock()
        self._ledger = Ledger(camera)
        self._sequence = 0
        self._poll = select.poll()
        self._poll.register(self._handles.filled_out, select.POLLIN)
        self._closed = False

    @property
    def handles(self) -> RingHandles:
        """What a writer needs; the descriptors stay the reader's, and a writer's process gets its own."""
        return self._handles

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The whole ring, (slots, 1, H, W) uint8, page-aligned, for a device that must know its memory."""
        return self._memory.pixels

    @property
    def heartbeat(self) -> int:
        """Rises with every sign of life of the writer."""
        return self._memory.heartbeat

    def request_stop(self) -> None:
        """Ask the writer for no more frames; what lies in the ring can still be claimed."""
        self._memory.stop = True

    @property
    def pending(self) -> bool:
        """Whether `take` would give something now."""
        return bool(self._events) or self.wait(0.0)

    def fileno(self) -> int:
        """Becomes readable when the writer has put something in."""
        return self._handles.filled_out

    def wait(self, timeout_s: float) -> bool:
        """Sleep until the writer has put more in, at most `timeout_s` (rounded up to a millisecond)."""
        return bool(self._poll.poll(math.ceil(max(timeout_s, 0.0) * 1e3)))

    def ready(self, max_frames: int) -> tuple[int, bool]:
        """How many frames `take` would give now, and whether waiting could not make them more."""
        run = self._run(max_frames)
        ends = bool(run) and run[-1].slot + 1 == self._handles.slots
        return len(run), ends or len(run) == max_frames or len(run) < len(self._events)

    def take(self, max_frames: int) -> Batch | Lost | WriterGone | None:
        """What comes next in order: frames that lie in one piece, lost frames, or the end of a writer.

        Returns:
            None if nothing has come; `wait` for it.
        """
        run = self._run(max_frames)
        if not run:
            return self._events.popleft() if self._events else None  # pyright: ignore[reportReturnType]
        for _ in run:
            self._events.popleft()
        slot, stop = run[0].slot, run[-1].slot + 1
        indexes, _, _, captured_ns, position_m, _, sources = zip(*run, strict=True)
        return Batch(
            self._camera,
            indexes[0],
            self._memory.pixels[slot:stop],
            captured_ns,
            position_m,
            sources,
            lambda: self._release(slot, stop),
        )

    def writer_gone(self, fault: str) -> None:
        """Take over from a writer that is dead: keep what it put in, and free what it held for the next one.

        To be called only when the writer's process has ended. A `WriterGone` follows its last event.
        """
        while self._read(self._handles.slots):
            pass
        grabbed = self._memory.next_index
        delivered = self._ledger.next_index
        if delivered is None:
            delivered = self._memory.first_index
        lost = grabbed - delivered if grabbed is not None and delivered is not None else 0
        self._events.append(WriterGone(lost, fault))
        self._ledger = Ledger(self._camera)
        self._sequence = 0
        self._memory.clear()
        with self._releasing:
            while read_pipe(self._handles.free_out, SLOT.size * self._handles.slots):
                pass
            self._free(slot for slot in range(self._handles.slots) if slot not in self._held)

    def close(self) -> None:
        """Give the descriptors back; the memory goes when the last view of it does. Again does nothing."""
        with self._releasing:
            if not self._closed:
                self._closed = True
                self._handles.close()

    def _read(self, max_tokens: int) -> int:
        """Turn the tokens that lie ready into events, and give how many; what a policy dropped comes as lost."""
        tokens = read_pipe(self._handles.filled_out, TOKEN.size * max_tokens)
        for (sequence,) in TOKEN.iter_unpack(tokens):
            event = self._memory.read_event(sequence)
            if event is None:
                raise RuntimeError(f"ring: event {sequence} was overwritten before it was read")
            if sequence != self._sequence:
                self._events.extend(self._dropped(sequence, event.first))
            self._sequence = sequence + 1
            if event.slot < 0:
                lost = Lost(self._camera, event.first, event.stop, event.reason, event.text)
                before, told = self._ledger.lost(lost), lost
            else:
                self._held.add(event.slot)
                before, told = self._ledger.frame(event.first), event
            if before is not None:
                self._events.append(before)
            self._events.append(told)
        return len(tokens) // TOKEN.size

    def _dropped(self, sequence: int, first_index: int) -> list[Lost]:
        """What the writer took back before it was claimed: the events between the last one read and this."""
        start = self._ledger.next_index
        if start is None:
            start = self._memory.first_index
        if start is None or start >= first_index:
            return []
        losses: list[Lost] = []
        place = start
        for number in range(self._sequence, sequence):
            event = self._memory.read_event(number)
            if event is None or event.first != place:
                break
            reason, detail = ("ring_full", RING_FULL) if event.slot >= 0 else (event.reason, event.text)
            losses.append(Lost(self._camera, event.first, event.stop, reason, detail))
            place = event.stop
        if place != first_index:  # so many were dropped that their events were overwritten: one loss for all
            losses = [Lost(self._camera, start, first_index, "ring_full", RING_FULL)]
        losses = joined(losses)
        for lost in losses:
            self._ledger.lost(lost)
        return losses

    def _run(self, max_frames: int) -> list[Event]:
        """The frames at the head of the events that lie in one piece; more are read only where they may join."""
        run: list[Event] = []
        place = 0
        emptied = False
        while len(run) < max_frames:
            if place == len(self._events):
                if run and run[-1].slot + 1 == self._handles.slots:
                    break
                # A pipe that gave less than it was asked for was empty a moment ago.
                asked = max_frames - len(run)
                if emptied or not (read := self._read(asked)):
                    break
                emptied = read < asked
            event = self._events[place]
            if not isinstance(event, Event):
                break
            if run and (event.first != run[-1].stop or event.slot != run[-1].slot + 1):
                break
            run.append(event)
            place += 1
        return run

    def _release(self, first: int, stop: int) -> None:
        with self._releasing:
            given = [slot for slot in range(first, stop) if slot in self._held]
            self._held.difference_update(given)
            self._free(given)

    def _free(self, slots: Iterator[int] | list[int]) -> None:
        data = b"".join(SLOT.pack(slot) for slot in slots)
        if data and not self._closed:
            os.write(self._handles.free_in, data)
