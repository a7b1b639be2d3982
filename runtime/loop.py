"""The inspection loop: grab, batch, infer, decide, publish.

One thread owns the engines. Up to three batches are on their way at a time, so that neighbouring stages overlap:

```
batch k+1   grabbed -> gate ........
batch k                segmenter ..........
batch k-1                          heads, decide, journal, publish
```

Every frame of the camera's counter ends in exactly one `inspected` or inside exactly one `missed`, in the order of
the counter; `Books` refuses anything else.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from camera.base import CameraError, Lost
from runtime.coverage import Books
from runtime.errors import EngineError
from runtime.messages import Missed, RunEnded, RunStarted
from runtime.serving import Serving

if TYPE_CHECKING:
    from camera.ring import Batch
    from runtime.messages import Message, MissedReason, StationState
    from runtime.pipeline import Answerer, Pending, Pipeline
    from runtime.serving import Change

IDLE_S = 0.2
"""Longest wait for a frame before the loop looks after its heartbeat and its orders."""


class Source(Protocol):
    """Where frames come from: a grabber, or anything that behaves like one."""

    @property
    def ended(self) -> bool:
        """Nothing more will ever come."""
        ...

    def claim(self, max_frames: int, timeout_s: float, *, fill_s: float) -> Batch | Lost | None:
        """The next frames that lie side by side in the ring, or what was lost; None when none came in time.

        `timeout_s` is the longest wait for the first frame, `fill_s` the longest for more once there is one.

        Raises:
            CameraError: The camera is gone for good.
        """
        ...

    def stop(self) -> None:
        """Stop the camera; what it has already delivered can still be claimed."""
        ...


class Desk(Protocol):
    """Where messages go: numbered, journaled, then published."""

    def envelope(self, captured_ns: int) -> dict[str, Any]:
        """What every message of the station carries, with the next number."""
        ...

    def publish(self, messages: Sequence[Message]) -> None:
        """Journal the messages in one commit, then publish them."""
        ...

    def idle(self, state: StationState, inspected: int, missed: int) -> None:
        """Send a heartbeat if one is due."""
        ...


@dataclass(slots=True)
class Flight:
    """One batch on its way, and the time at which each stage was done with it."""

    batch: Batch
    pending: Pending | None
    stamps_ns: dict[str, int] = field(default_factory=dict)
    advanced: bool = False
    error: EngineError | None = None


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """How the loop batches, and when it gives up.

    Attributes:
        batch: Most frames in a batch.
        deadline_s: Longest wait for a batch to fill, in seconds; 0 takes what is there at once.
        engine_failures: Batches failed in a row after which the run ends.
    """

    batch: int = 8
    deadline_s: float = 0.0
    engine_failures: int = 3


class Loop:
    """One run of one station, from `run_started` to `run_ended`.

    Args:
        source: Where frames come from.
        pipeline: The engines of the task.
        answerer: Turns a frame's raw outputs into its message; keeps the state that passes from frame to frame.
        desk: Where messages go.
        settings: Batch and patience.
        started: Fills `run_started` once the first envelope is known.
        clock_ns: Monotonic clock, the same that stamps the frames.
        due_change: Asked between batches for a change of the bundle; None says that there is none.
    """

    def __init__(
        self,
        source: Source,
        pipeline: Pipeline,
        answerer: Answerer,
        desk: Desk,
        settings: LoopSettings,
        started: Callable[[dict[str, Any]], RunStarted],
        clock_ns: Callable[[], int] = time.monotonic_ns,
        *,
        due_change: Callable[[], Change[Pipeline] | None] = lambda: None,
    ) -> None:
        self._source = source
        self._serving = Serving(pipeline, answerer)
        self._due_change = due_change
        self._desk = desk
        self._settings = settings
        self._started = started
        self._clock_ns = clock_ns
        self._books = Books()
        self._flights: deque[Flight | Lost] = deque()
        self._failures = 0
        self._found: Counter[str] = Counter()

    @property
    def serving(self) -> Serving[Pipeline]:
        """The bundle at work now, whose engines the caller closes."""
        return self._serving

    def run(self, stopped: Callable[[], bool] = lambda: False) -> RunEnded:
        """Inspect until the camera ends or somebody asks to stop.

        Args:
            stopped: Asked between batches; once it says yes the camera is stopped, and the frames that it had
                delivered are still inspected.

        Returns:
            The last message of the run, as published.

        Raises:
            EngineError: Too many batches failed in a row; their frames and all that were left are published as
                missed, and the run as failed.
            CameraError: The camera is gone for good; the run is published as failed.
        """
        self._desk.publish([self._started(self._desk.envelope(self._clock_ns()))])
        asked = False
        try:
            while not self._source.ended:
                if not asked and stopped():
                    asked = True
                    self._source.stop()
                if (change := self._due_change()) is not None:
                    self._swap(change)
                self._turn(self._next(0.0 if self._flights else IDLE_S))
            self._land()
        except EngineError as error:
            self._abandon("engine_failed", str(error))
            self._end("failed", str(error))
            raise
        except CameraError as error:
            self._land()
            self._end("failed", str(error))
            raise
        return self._end("stopped" if asked else "finished", "")

    def _next(self, timeout_s: float) -> Batch | Lost | None:
        return self._source.claim(self._settings.batch, timeout_s, fill_s=self._settings.deadline_s)

    def _turn(self, event: Batch | Lost | None) -> None:
        """Put what came on its way, and move what was already on its way by one stage."""
        if event is None:
            if not self._flights:
                books = self._books.coverage()
                self._desk.idle("running", books.frames_inspected, books.frames_missed)
                self._serving.engines.keep_awake()
                return
            self._advance(len(self._flights))
            self._settle()
            return
        waiting = len(self._flights)
        self._flights.append(event if isinstance(event, Lost) else self._begin(event))
        self._advance(waiting)
        while len(self._flights) > 2 or (self._flights and self._is_done(self._flights[0])):
            self._settle()

    def _land(self) -> None:
        """Finish every batch that is on its way."""
        while self._flights:
            self._advance(len(self._flights))
            self._settle()

    def _swap(self, change: Change[Pipeline]) -> None:
        """Let another bundle take over, once every batch of the old one is answered."""
        self._land()
        self._serving = change.take(self._serving)
        message = change.message(self._desk.envelope(self._clock_ns()), self._books.next_index)
        self._desk.publish([message])
        change.done(message)

    def _begin(self, batch: Batch) -> Flight:
        flight = Flight(batch, None)
        flight.stamps_ns["wait"] = self._clock_ns()
        try:
            flight.pending = self._serving.engines.start(batch.pixels)
        except EngineError as error:
            flight.error = error
        return flight

    def _advance(self, count: int) -> None:
        """Take the oldest `count` batches through their gate."""
        for flight in list(self._flights)[:count]:
            if isinstance(flight, Lost) or flight.advanced or flight.pending is None:
                continue
            flight.advanced = True
            try:
                self._serving.engines.advance(flight.pending)
            except EngineError as error:
                flight.error, flight.pending = error, None
            flight.stamps_ns["gate"] = self._clock_ns()

    def _is_done(self, flight: Flight | Lost) -> bool:
        """No engine works on it any more, so it costs no wait to answer it."""
        return isinstance(flight, Lost) or flight.pending is None or (flight.advanced and flight.pending.done)

    def _settle(self) -> None:
        """Answer the oldest batch: collect, decide, journal, publish, and give its memory back."""
        flight = self._flights.popleft()
        if isinstance(flight, Lost):
            self._miss_lost(flight)
            return
        try:
            if flight.pending is not None:
                try:
                    raw = self._serving.engines.finish(flight.pending)
                except EngineError as error:
                    flight.error = error
                else:
                    self._answer(flight, raw)
                    self._serving.engines.release(flight.pending)
            if flight.error is not None:
                self._fail(flight, flight.error)
        finally:
            flight.batch.release()

    def _answer(self, flight: Flight, raw: Sequence[Any]) -> None:
        flight.stamps_ns["segment"] = self._clock_ns()
        messages: list[Message] = []
        for frame, output in zip(flight.batch.frames(), raw, strict=True):
            answer = self._serving.answerer.answer(frame, output)
            stamps = {**flight.stamps_ns, "decide": self._clock_ns()}
            messages.append(
                answer.message(self._desk.envelope(frame.captured_ns), latency_ms(frame.captured_ns, stamps))
            )
            self._books.inspected(frame.index)
            self._found.update(answer.new_defects)
        self._desk.publish(messages)
        self._failures = 0

    def _fail(self, flight: Flight, error: EngineError) -> None:
        """The batch becomes missed; too many in a row end the run."""
        self._miss_batch(flight.batch, "engine_failed", str(error))
        self._failures += 1
        if self._failures >= self._settings.engine_failures:
            raise EngineError(f"{self._failures} batches failed in a row, the last so: {error}") from error

    def _abandon(self, reason: MissedReason, detail: str) -> None:
        """Nothing will be inspected any more: name every frame that was still to come."""
        while self._flights:
            flight = self._flights.popleft()
            if isinstance(flight, Lost):
                self._miss_lost(flight)
                continue
            self._miss_batch(flight.batch, reason, detail)
            flight.batch.release()
        self._source.stop()
        while not self._source.ended:
            event = self._next(IDLE_S)
            if isinstance(event, Lost):
                self._miss_lost(event)
            elif event is not None:
                self._miss_batch(event, reason, detail)
                event.release()

    def _miss_lost(self, lost: Lost) -> None:
        self._miss(lost.first_index, lost.stop_index, lost.reason, lost.detail)

    def _miss_batch(self, batch: Batch, reason: MissedReason, detail: str) -> None:
        self._miss(batch.first_index, batch.first_index + len(batch), reason, detail)

    def _miss(self, first: int, stop: int, reason: MissedReason, detail: str) -> None:
        self._serving.answerer.gap()
        self._books.missed(first, stop)
        self._desk.publish(
            [
                Missed(
                    **self._desk.envelope(self._clock_ns()),
                    first_index=first,
                    stop_index=stop,
                    reason=reason,
                    detail=detail,
                )
            ]
        )

    def _end(self, reason: str, detail: str) -> RunEnded:
        ended = RunEnded(
            **self._desk.envelope(self._clock_ns()),
            reason=reason,  # pyright: ignore[reportArgumentType]
            detail=detail,
            coverage=self._books.coverage(),
            defects=dict(sorted(self._found.items())),
        )
        self._desk.publish([ended])
        return ended


def latency_ms(captured_ns: int, stamps_ns: dict[str, int]) -> dict[str, float]:
    """What each stage cost a frame, in milliseconds, in the order of the stages, and their total.

    >>> latency_ms(0, {"wait": 1_000_000, "gate": 9_000_000})
    {'wait': 1.0, 'gate': 8.0, 'total': 9.0}
    """
    costs: dict[str, float] = {}
    before = captured_ns
    for stage, stamp in stamps_ns.items():
        costs[stage] = (stamp - before) / 1e6
        before = stamp
    costs["total"] = (before - captured_ns) / 1e6
    return costs
