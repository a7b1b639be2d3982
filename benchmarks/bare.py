"""The bare engines: gate and segmenter back to back as fast as they go, with no line around them.

They do the cascade's work and nothing else: the gate sees every frame, the segmenter the frames that pass, which are
known beforehand and lie packed. No ring, no heads, no messages.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runtime.cascade import Wanted
    from runtime.engine import Engine, Ticket

IN_TURN = 0
"""The depth at which nothing overlaps: each batch is through both engines before the next begins."""


@dataclass(frozen=True, slots=True)
class Work:
    """One batch.

    Attributes:
        frames: (n, 1, H, W) uint8, for the gate.
        passing: (m, 1, H, W) uint8, those of them that the segmenter sees; None where none passes.
    """

    frames: NDArray[np.uint8]
    passing: NDArray[np.uint8] | None


def prepare(gate: Engine, frames: NDArray[np.uint8], batch: int, wanted: Wanted) -> list[Work]:
    """Cut frames into batches, and ask the gate once which frames of each pass.

    Args:
        gate: Gives `defect_probability`.
        frames: (N, 1, H, W) uint8.
        batch: Frames in a batch.
        wanted: Which frames pass, from the gate's figures.
    """
    work: list[Work] = []
    for first in range(0, len(frames), batch):
        part = np.ascontiguousarray(frames[first : first + batch])
        ticket = gate.submit(part)
        passes = wanted(gate.collect(ticket)["defect_probability"])
        gate.release(ticket)
        work.append(Work(part, np.ascontiguousarray(part[passes]) if passes.any() else None))
    return work


def drive(gate: Engine, segmenter: Engine, work: Sequence[Work], rounds: int, depth: int) -> int:
    """Put batches through both engines.

    Args:
        gate: Sees every frame.
        segmenter: Sees those that pass.
        work: The batches.
        rounds: How often.
        depth: Most batches in flight at each engine; `IN_TURN` overlaps nothing.

    Returns:
        Frames that went through.
    """
    at_gate: deque[tuple[Ticket, Work]] = deque()
    at_segmenter: deque[Ticket] = deque()

    def leave_gate() -> None:
        ticket, batch = at_gate.popleft()
        gate.collect(ticket)
        gate.release(ticket)
        if batch.passing is not None:
            leave_segmenter(depth - 1)
            at_segmenter.append(segmenter.submit(batch.passing))

    def leave_segmenter(left: int) -> None:
        while len(at_segmenter) > max(left, 0):
            ticket = at_segmenter.popleft()
            segmenter.collect(ticket)
            segmenter.release(ticket)

    frames = 0
    for _ in range(rounds):
        for batch in work:
            at_gate.append((gate.submit(batch.frames), batch))
            while len(at_gate) >= max(depth, 1):
                leave_gate()
            if depth == IN_TURN:
                leave_segmenter(0)
            frames += len(batch.frames)
    while at_gate:
        leave_gate()
    leave_segmenter(0)
    return frames


def bare_fps(
    gate: Engine,
    segmenter: Engine,
    work: Sequence[Work],
    rounds: int,
    depth: int,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> float:
    """Frames a second of the bare engines, from the first submit to the last collect."""
    before_ns = clock_ns()
    frames = drive(gate, segmenter, work, rounds, depth)
    return frames / ((clock_ns() - before_ns) / 1e9)


@dataclass(frozen=True, slots=True)
class BareEngines:
    """The engines and their work, driven for a time instead of a number of rounds."""

    gate: Engine
    segmenter: Engine
    work: list[Work]

    def fps_for(self, seconds: float, depth: int) -> float:
        """Frames a second over about `seconds`, after one round to warm up and to judge the length by."""
        warm_fps = bare_fps(self.gate, self.segmenter, self.work, 1, depth)
        return bare_fps(self.gate, self.segmenter, self.work, self.rounds_for(seconds, warm_fps), depth)

    def rounds_for(self, seconds: float, fps: float) -> int:
        """Rounds of the work that take about `seconds`."""
        return max(1, round(seconds * fps / sum(len(batch.frames) for batch in self.work)))
