"""A camera in a process of its own, watched, restarted, and read through a ring."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from camera.account import LineCounter
from camera.base import CameraError, Lost
from camera.config import GrabberSettings, NamedSettings, RingSettings
from camera.grab_process import GrabProcess, in_full
from camera.open import DRIVERS, Driver, driver_of
from camera.restarts import Restarts
from camera.ring import Batch, Policy, RingReader, WriterGone

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEFAULT_RING = RingSettings()
DEFAULT_WATCH = GrabberSettings()

_NS_PER_S = 1_000_000_000
_LOOK_S = 0.1
"""How often the process is looked after while no frames come."""


class Grabber:
    """The line's end of a camera: batches of frames, and everything that was lost between them, in order.

    ```
           spawn           opened            ended
    away ---------> opening -------> running -------> ended
      ^                |                |
      |   back-off     | failed, late   | failed, hung (killed), died
      +----------------+----------------+----------> gone   (not live, or restarts used up)
    ```

    The index of frames only rises, whatever a restarted camera counts: each outage takes at least one index, and
    as many as a camera at `nominal_hz` would have made where that is set. A source that is not live (a file)
    would begin again, so its failure is final.

    The process is looked after inside `claim`, by the caller's thread; there is no other.

    Args:
        settings: Any of `camera.config.CameraSettings`.
        ring: Size and policy of the ring.
        watch: Patience with the driver.
        drivers: The table of drivers.
        clock_ns: A monotonic clock in nanoseconds, for hangs and restarts.

    Raises:
        CameraError: The camera cannot be opened the first time.
    """

    def __init__(
        self,
        settings: NamedSettings,
        *,
        ring: RingSettings = DEFAULT_RING,
        watch: GrabberSettings = DEFAULT_WATCH,
        drivers: Mapping[str, Driver] = DRIVERS,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._settings = settings
        self._ring = ring
        self._watch = watch
        self._driver = driver_of(settings.kind, drivers)  # pyright: ignore[reportAttributeAccessIssue]
        self._is_live = self._driver.is_live(settings)
        self._policy = ring.policy or (Policy.DROP_NEWEST if self._is_live else Policy.WAIT)
        self._clock_ns = clock_ns
        self._refuse_uncounted_losses()

        self._reader: RingReader | None = None
        self._process: GrabProcess | None = None
        self._running = False
        self._look_at_ns = 0  # when one who does not wait may look after the process again
        self._deadline_ns = 0  # of opening, then of the next sign of life, then of stopping
        self._heartbeat = 0
        self._restarts = Restarts(watch)
        self._fault = ""
        self._stopping = False
        self._finished = False
        self._gone = ""
        self._closed = False

        self._counter = LineCounter(settings.name, watch.nominal_hz)
        self._held_back: Batch | Lost | None = None

        self._start()
        try:
            self._await_first_opening()
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        """The camera's name in the line configuration."""
        return self._settings.name

    @property
    def policy(self) -> Policy:
        """What gives way when the ring is full: the ring's own setting, or what suits the source.

        A file waits on its disk until there is room; a live camera loses its newest frame.
        """
        return self._policy

    @property
    def height_px(self) -> int:
        """Rows of every frame."""
        return self.pixels.shape[2]

    @property
    def width_px(self) -> int:
        """Columns of every frame."""
        return self.pixels.shape[3]

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The ring's whole memory, (slots, 1, H, W) uint8, page-aligned; every batch is a piece of it."""
        return self._open_reader().pixels

    @property
    def pid(self) -> int | None:
        """The number of the camera's process; None while there is none."""
        return self._process.pid if self._process is not None else None

    @property
    def ended(self) -> bool:
        """Everything has been claimed and nothing more will come."""
        if self._closed:
            return True
        # Asked before every batch: the ring, which costs a system call, only once the camera's process is gone.
        if not self._finished or self._process is not None:
            return False
        return self._held_back is None and (self._reader is None or not self._reader.pending)

    def claim(self, max_frames: int, timeout_s: float, *, fill_s: float = 0.0) -> Batch | Lost | None:
        """The next frames that lie side by side in the ring, or the next frames that were lost.

        Args:
            max_frames: Most frames in a batch.
            timeout_s: Longest wait for the first frame, in seconds.
            fill_s: Longest wait for more once there is one, in seconds (rounded up to a millisecond).

        Returns:
            None if nothing came in time, or if `ended`. A batch is to be released; several may be held.

        Raises:
            CameraError: The camera is gone for good, and everything that it had delivered has been claimed.
        """
        deadline_ns = self._clock_ns() + round(timeout_s * _NS_PER_S)
        while not self._closed:
            event = self._next(max_frames, fill_s)
            # Who does not wait asks between two frames, and is not to be kept by a process that was well a moment ago.
            if event is None and (timeout_s > 0 or not self._running or self._clock_ns() >= self._look_at_ns):
                self._look_after()
                event = self._next(max_frames, fill_s)
            if event is not None:
                return event
            if self._gone:
                raise CameraError(self._gone)
            left_ns = deadline_ns - self._clock_ns()
            if left_ns <= 0 or self.ended:
                break
            self._sleep(min(_LOOK_S, left_ns / _NS_PER_S))
        return None

    def stop(self) -> None:
        """Ask the camera for no more frames; what it has delivered can still be claimed, then `ended` is true."""
        if self._stopping or self._closed:
            return
        self._stopping = True
        self._restarts.cancel()
        self._gone = ""
        if self._process is None:
            self._finished = True
        elif self._running:
            self._open_reader().request_stop()
            self._deadline_ns = self._clock_ns() + round(self._watch.stop_timeout_s * _NS_PER_S)
        else:
            self._lose_process("stopped while it was opening")

    def close(self) -> None:
        """Stop the camera, end its process and free the ring; calling it again does nothing."""
        if self._closed:
            return
        if self._process is not None and self._running:
            self._open_reader().request_stop()
            self._process.wait(self._watch.stop_timeout_s)
        self._closed = True
        if self._process is not None:
            self._process.end()
            self._process = None
        if self._reader is not None:
            self._reader.close()

    def __enter__(self) -> Grabber:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next(self, max_frames: int, fill_s: float) -> Batch | Lost | None:
        """What comes next, in our count."""
        if self._held_back is not None:
            event, self._held_back = self._held_back, None
            return event
        reader = self._reader
        if reader is None:
            return None
        if fill_s > 0:
            self._fill(reader, max_frames, fill_s)
        while isinstance(event := reader.take(max_frames), WriterGone):
            outage = self._counter.outage(event.frames_lost, event.fault) if event.fault else None
            if outage is not None:
                return outage
        if event is None:
            return None
        if self._running:
            self._restarts.worked()
        if isinstance(event, Batch):
            event.first_index, before = self._counter.frames(event.first_index, event.captured_ns)
        else:
            event, before = self._counter.lost(event)
        if before is None:
            return event
        self._held_back = event
        return before

    def _fill(self, reader: RingReader, max_frames: int, fill_s: float) -> None:
        """Wait until a batch is full or cannot grow, at most `fill_s` from now."""
        frames, final = reader.ready(max_frames)
        deadline_ns = self._clock_ns() + round(fill_s * _NS_PER_S)
        while frames and not final and (left_ns := deadline_ns - self._clock_ns()) > 0:
            if not reader.wait(left_ns / _NS_PER_S):
                return
            frames, final = reader.ready(max_frames)

    def _sleep(self, timeout_s: float) -> None:
        """Wait for frames, for news of the process, or for the time."""
        poll = select.poll()
        for source in (self._reader, self._process):
            if source is not None:
                poll.register(source.fileno(), select.POLLIN)
        poll.poll(timeout_s * 1e3)

    def _look_after(self) -> None:
        """Hear what the process says, and see whether it lives."""
        now_ns = self._clock_ns()
        self._look_at_ns = now_ns + round(_LOOK_S * _NS_PER_S)
        if self._process is None:
            if self._restarts.is_due(now_ns):
                self._start()
            return
        for message in self._process.messages():
            self._hear(message, now_ns)
        if self._process is None:
            return
        if self._process.gone:
            self._lose_process("")
            return
        if self._running and not self._stopping:
            heartbeat = self._open_reader().heartbeat
            if heartbeat != self._heartbeat:
                self._heartbeat = heartbeat
                self._deadline_ns = now_ns + round(self._watch.hang_timeout_s * _NS_PER_S)
        if now_ns > self._deadline_ns:
            self._lose_process(
                f"its driver gave no sign of life for {self._watch.hang_timeout_s} s and was killed"
                if self._running
                else f"its driver did not open within {self._watch.open_timeout_s} s and was killed"
            )

    def _await_first_opening(self) -> None:
        while not self._running:
            self._sleep(_LOOK_S)
            self._look_after()
            if self._gone:
                raise CameraError(self._gone)

    def _start(self) -> None:
        self._restarts.cancel()
        self._process = GrabProcess(self._driver, self._settings, self._policy)
        self._deadline_ns = self._clock_ns() + round(self._watch.open_timeout_s * _NS_PER_S)

    def _hear(self, message: dict[str, Any], now_ns: int) -> None:
        match message["event"]:
            case "opened":
                self._begin((message["height_px"], message["width_px"]), now_ns)
            case "failed":
                self._fault = message["detail"]
            case "ended":
                self._finished = True

    def _begin(self, size: tuple[int, int], now_ns: int) -> None:
        """The camera is open: give its process the ring."""
        if self._reader is None:
            self._reader = RingReader(self.name, self._ring.slots, *size)
        elif size != (self.height_px, self.width_px):
            self._lose_process(
                f"it came back with frames of {size[0]} x {size[1]}, expected {self.height_px} x {self.width_px}"
            )
            return
        self._open_process().send_ring(self._reader.handles)
        self._running = True
        self._heartbeat = self._reader.heartbeat
        self._deadline_ns = now_ns + round(self._watch.hang_timeout_s * _NS_PER_S)

    def _lose_process(self, fault: str) -> None:
        """Collect a process that is dead or has to be, and decide what comes after it."""
        ending = self._open_process().end()
        fault = fault or self._fault or f"its process ended with {ending}"
        self._process, self._fault = None, ""
        self._finished = self._finished or self._stopping
        if self._running:
            self._running = False
            self._open_reader().writer_gone("" if self._finished else fault)
        if self._finished:
            return
        if self._reader is None or not self._is_live or self._restarts.used_up:
            self._gone = in_full(self.name, fault)
            return
        self._restarts.plan(self._clock_ns())

    def _refuse_uncounted_losses(self) -> None:
        if self._is_live and not self._driver.counts and self._policy is Policy.WAIT:
            raise CameraError(
                f"camera {self.name}: found the policy 'wait' for a live camera whose driver has no counter, "
                "expected one that drops: what the camera loses while it waits would be counted by nobody. "
                "Set the ring's policy to drop_oldest or drop_newest."
            )

    def _open_reader(self) -> RingReader:
        if self._reader is None:
            raise CameraError(f"camera {self.name}: has no ring yet. This is a fault of the grabber: report it.")
        return self._reader

    def _open_process(self) -> GrabProcess:
        if self._process is None:
            raise CameraError(f"camera {self.name}: has no process. This is a fault of the grabber: report it.")
        return self._process
