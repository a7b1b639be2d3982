"""The whole line in one process and its camera's: as `runtime.station` puts it together, with a stopwatch at its end.

A frame's clock starts at the end of its exposure and stops when its message has left: after the journal's commit
and after the send.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import zmq

from camera.config import RingSettings, SyntheticCameraSettings
from camera.grabber import Grabber
from camera.promptness import run_when_woken
from camera.ring_memory import Policy
from runtime.delivery.journal import Journal
from runtime.delivery.publisher import Publisher
from runtime.delivery.replay import ReplayServer
from runtime.desk import StationDesk
from runtime.loop import Loop, LoopSettings
from runtime.messages import Inspected, Message, ModelIdentity, RunEnded, RunStarted, StationState

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runtime.pipeline import Answerer, Pipeline

LINE, STATION = "bench", "bench"
ENDPOINT = "tcp://127.0.0.1:*"


@dataclass(frozen=True, slots=True)
class Inspection:
    """What looks at the frames.

    Attributes:
        pipeline: Its engines; stay the caller's.
        answerer: Makes a fresh one, since a run has a state of its own.
        model: Named in the messages.
    """

    pipeline: Pipeline
    answerer: Callable[[], Answerer]
    model: ModelIdentity


@dataclass(frozen=True, slots=True)
class LineRun:
    """What became of one run.

    Attributes:
        captured_ns: (frames,) int64, end of exposure of each inspected frame, monotonic.
        left_ns: (frames,) int64, when its message had left.
        batches: Number of batches in which they came.
        stages_ms: (frames,) float64 by stage, as the messages say.
        cpu_ns: CPU time of this process over the whole run, the camera's process apart.
        ended: The last message.
    """

    captured_ns: NDArray[np.int64]
    left_ns: NDArray[np.int64]
    batches: int
    stages_ms: dict[str, NDArray[np.float64]]
    cpu_ns: int
    ended: RunEnded

    @property
    def frames(self) -> int:
        """Inspected frames."""
        return len(self.left_ns)

    @property
    def latency_ns(self) -> NDArray[np.int64]:
        """From the end of exposure until the message had left."""
        return self.left_ns - self.captured_ns

    def fps(self, skip: int) -> float:
        """Frames a second, from the moment when the first `skip` frames had left to the end.

        Raises:
            ValueError: There are no more frames than that.
        """
        if self.frames <= skip:
            raise ValueError(f"line run: found {self.frames} frames, expected more than the {skip} to warm up.")
        start_ns = self.left_ns[max(skip, 1) - 1]
        counted = int((self.left_ns > start_ns).sum())
        if not counted:
            raise ValueError("line run: all frames left at once. Measure more frames.")
        return counted / ((self.left_ns[-1] - start_ns) / 1e9)


class TimedDesk:
    """Hands everything to the station's own desk, and notes when each frame's message had left.

    Args:
        desk: The station's.
        clock_ns: The clock that stamps the frames.
    """

    def __init__(self, desk: StationDesk, clock_ns: Callable[[], int]) -> None:
        self._desk = desk
        self._clock_ns = clock_ns
        self._captured_ns: list[int] = []
        self.rows: list[tuple[int, int]] = []
        self.stages_ms: list[dict[str, float]] = []
        self.batches = 0

    def envelope(self, captured_ns: int) -> dict[str, Any]:
        """As the station's desk, which is asked once a message, in the messages' order."""
        self._captured_ns.append(captured_ns)
        return self._desk.envelope(captured_ns)

    def publish(self, messages: Sequence[Message]) -> None:
        """As the station's desk."""
        self._desk.publish(messages)
        left_ns = self._clock_ns()
        captured_ns, self._captured_ns = self._captured_ns, []
        before = len(self.rows)
        for message, captured in zip(messages, captured_ns, strict=True):
            if isinstance(message, Inspected):
                self.rows.append((captured, left_ns))
                self.stages_ms.append(message.latency_ms)
        self.batches += len(self.rows) > before

    def idle(self, state: StationState, inspected: int, missed: int) -> None:
        """As the station's desk."""
        self._desk.idle(state, inspected, missed)


def run_line(
    camera: SyntheticCameraSettings,
    inspection: Inspection,
    settings: LoopSettings,
    *,
    ring_slots: int = 64,
    policy: Policy = Policy.WAIT,
    listen: Callable[[str, Callable[[], None]], contextlib.AbstractContextManager[None]] | None = None,
    around: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
    clock_ns: Callable[[], int] = time.monotonic_ns,
) -> LineRun:
    """Run a line from its camera's first frame to its last one.

    Args:
        camera: The camera, in a process of its own.
        inspection: What looks at the frames.
        settings: Batch and deadline.
        ring_slots: Frames that the ring holds.
        policy: What gives way when the ring is full.
        listen: Given the endpoint and something to send heartbeats by; a subscriber that is there within.
        around: Entered around the loop alone, such as a profiler.
        clock_ns: The monotonic clock of frames and messages.

    Raises:
        CameraError, EngineError, JournalError: As the line itself.
    """
    with contextlib.ExitStack() as parts:
        folder = Path(parts.enter_context(TemporaryDirectory(prefix="ferrosight-bench-")))
        journal = parts.enter_context(Journal(folder / "journal.sqlite", LINE))
        context: zmq.Context[zmq.Socket[bytes]] = parts.enter_context(zmq.Context())
        publisher = parts.enter_context(
            Publisher(
                ENDPOINT,
                journal,
                station=STATION,
                context=context,
                clock_ns=clock_ns,
                wall=lambda: datetime.now(timezone.utc),
                heartbeat_s=0.05,
            )
        )
        parts.enter_context(ReplayServer(ENDPOINT, journal.path, context=context))
        own = StationDesk(publisher, line=LINE, run="bench", clock_ns=clock_ns)
        if listen is not None:
            parts.enter_context(listen(publisher.endpoint, lambda: own.idle("ready", 0, 0)))
        desk = TimedDesk(own, clock_ns)
        grabber = parts.enter_context(Grabber(camera, ring=RingSettings(slots=ring_slots, policy=policy)))
        loop = Loop(
            grabber,
            inspection.pipeline,
            inspection.answerer(),
            desk,
            settings,
            lambda envelope: RunStarted(
                **envelope, model=inspection.model, camera=camera.name, mm_per_px=camera.mm_per_px
            ),
            clock_ns,
        )
        with _settled(), around():
            before_ns = time.process_time_ns()
            ended = loop.run()
            cpu_ns = time.process_time_ns() - before_ns
    rows = np.array(desk.rows, np.int64).reshape(-1, 2)
    stages = desk.stages_ms[0] if desk.stages_ms else {}
    return LineRun(
        captured_ns=rows[:, 0],
        left_ns=rows[:, 1],
        batches=desk.batches,
        stages_ms={name: np.array([each[name] for each in desk.stages_ms]) for name in stages},
        cpu_ns=cpu_ns,
        ended=ended,
    )


@contextlib.contextmanager
def _settled() -> Iterator[None]:
    """What lives now is left alone by the garbage collector, and the loop's thread is prompt, as in a station."""
    gc.collect()
    gc.freeze()
    run_when_woken()
    try:
        yield
    finally:
        gc.unfreeze()
