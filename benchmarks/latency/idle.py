"""The first batch after a line stood still."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from benchmarks.latency.report import AfterIdle

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from runtime.engine import Engine

WARM_BATCHES = 20
"""Before it stands still; on a slow engine as many as fit into `WARM_S`."""
WARM_S = 2.0
NAP_S = 0.2
"""How often a line that stands still looks after its engine."""


def run_once(engine: Engine, frames: NDArray[np.uint8]) -> None:
    """One batch through the engine, start to end."""
    ticket = engine.submit(frames)
    engine.collect(ticket)
    engine.release(ticket)


def after_idle(
    engine: Engine,
    frames: NDArray[np.uint8],
    idle_s: float,
    *,
    clock_ns: Callable[[], int],
    sleep: Callable[[float], None],
) -> AfterIdle:
    """Time the first batch after idling, left alone and kept awake; takes twice the idling.

    Args:
        engine: Opened, nothing in flight.
        frames: (n, 1, H, W) uint8.
        idle_s: How long it stands still.
        clock_ns: A clock in nanoseconds.
        sleep: Waits so many seconds.
    """
    found_ms: dict[bool, float] = {}
    for kept_awake in (False, True):
        warm_until_ns = clock_ns() + WARM_S * 1e9
        for _ in range(WARM_BATCHES):
            run_once(engine, frames)
            if clock_ns() > warm_until_ns:
                break
        until_ns = clock_ns() + idle_s * 1e9
        while (left_s := (until_ns - clock_ns()) / 1e9) > 0:
            sleep(min(NAP_S, left_s))
            if kept_awake:
                engine.keep_awake()
        before_ns = clock_ns()
        run_once(engine, frames)
        found_ms[kept_awake] = round((clock_ns() - before_ns) / 1e6, 3)
    return AfterIdle(idle_s=idle_s, left_alone_ms=found_ms[False], kept_awake_ms=found_ms[True])
