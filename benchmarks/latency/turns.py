"""Several ways to do the same work, timed in turns, so that whatever else the machine does falls on all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from benchmarks.latency.report import LEAST_RUNS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runtime.cuda.timed import StageTimes
    from runtime.engine import Engine, Ticket

TURNS = LEAST_RUNS
"""How often each way has its turn, with at least one batch."""
Clock = Callable[[], int]


class Contender(Protocol):
    """One way to do the work."""

    @property
    def name(self) -> str:
        """As the report calls it."""
        ...

    def time_ns(self) -> int:
        """Do one batch, from frames on the host to outputs on the host, and give how long it took."""
        ...


def take_turns(contenders: Sequence[Contender], runs: int, most_s: float, clock_ns: Clock) -> list[NDArray[np.int64]]:
    """Time every contender.

    Args:
        contenders: Who takes part.
        runs: Batches of each, about.
        most_s: Seconds of each after which it is timed no more; one batch a turn is.
        clock_ns: A clock in nanoseconds.

    Returns:
        For each contender its times in nanoseconds, at least one a turn.
    """
    times: list[list[int]] = [[] for _ in contenders]
    turns = min(TURNS, runs)
    share, share_ns = math.ceil(runs / turns), most_s * 1e9 / turns
    for turn in range(turns):
        for contender, found in zip(contenders, times, strict=True):
            end_ns = clock_ns() + share_ns
            for run in range(min(share, runs - turn * share)):
                if run and clock_ns() > end_ns:
                    break
                found.append(contender.time_ns())
    return [np.array(found, np.int64) for found in times]


@dataclass(slots=True)
class TimedCall:
    """A contender that is one call.

    Attributes:
        name: As the report calls it.
        run: Does one batch.
        clock_ns: A clock in nanoseconds.
    """

    name: str
    run: Callable[[], object]
    clock_ns: Clock

    def time_ns(self) -> int:
        """See `Contender.time_ns`."""
        before_ns = self.clock_ns()
        self.run()
        return self.clock_ns() - before_ns


@dataclass(slots=True)
class TimedEngine:
    """An engine as the line drives it, nothing else in flight.

    Attributes:
        engine: Opened.
        frames: (n, 1, H, W) uint8.
        device_stages: The last batch by the device's clock; asked when the batch is over, so that it costs nothing.
        clock_ns: A clock in nanoseconds.
        submit_ns: Of each batch.
        wait_ns: From the end of submit to the end of collect, of each batch.
        on_device: Of each batch, where there is such a clock.
    """

    engine: Engine
    frames: NDArray[np.uint8]
    device_stages: Callable[[], StageTimes | None]
    clock_ns: Clock
    submit_ns: list[int] = field(default_factory=list)
    wait_ns: list[int] = field(default_factory=list)
    on_device: list[StageTimes] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The backend."""
        return self.engine.backend

    def time_ns(self) -> int:
        """See `Contender.time_ns`."""
        engine, clock_ns = self.engine, self.clock_ns
        begun_ns = clock_ns()
        ticket: Ticket = engine.submit(self.frames)
        submitted_ns = clock_ns()
        engine.collect(ticket)
        done_ns = clock_ns()
        engine.release(ticket)
        self.submit_ns.append(submitted_ns - begun_ns)
        self.wait_ns.append(done_ns - submitted_ns)
        stages = self.device_stages()
        if stages is not None:
            self.on_device.append(stages)
        return done_ns - begun_ns

    def forget(self) -> None:
        """Drop what was measured so far: it was the warm-up."""
        self.submit_ns.clear()
        self.wait_ns.clear()
        self.on_device.clear()
