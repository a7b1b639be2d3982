"""How many times faster one file of a graph is than another, on the CPU that runs the command.

Both engines take turns, so that a machine that slows down slows both, and the ratio is taken turn by turn.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.backends import DEFAULT_BACKEND, open_engine
from runtime.engine import Engine, EngineSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from runtime.spec import GraphSpec

WARM_UP = 2
"""Frames before the first turn."""

File = tuple["GraphSpec", Path]
"""An ONNX file and the contract that names it."""


def gain(
    before: File,
    after: File,
    frames: NDArray[np.uint8],
    *,
    turns: int = 15,
    threads: int | None = None,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> float:
    """The median, over the turns, of the time of `before` over that of `after`, frame by frame; above 1 it is faster.

    Args:
        before: The file that is there.
        after: The one that may take its place.
        frames: (n, 1, H, W) uint8, shown to both in turn.
        turns: How often.
        threads: CPU threads of an engine; None leaves it to the backend.
        clock_ns: Tells the time.

    Raises:
        EngineError: A file cannot be run.
    """
    height_px, width_px = frames.shape[2:]
    settings = EngineSettings(max_batch=1, slots=1, height_px=height_px, width_px=width_px, threads=threads)
    with (
        open_engine(DEFAULT_BACKEND, before[1], before[0], settings) as old,
        open_engine(DEFAULT_BACKEND, after[1], after[0], settings) as new,
    ):
        ratios: list[float] = []
        for turn in range(WARM_UP + turns):
            frame = frames[turn % len(frames)][None]
            old_ns, new_ns = (_ns(engine, frame, clock_ns) for engine in (old, new))
            if turn >= WARM_UP:
                ratios.append(old_ns / max(new_ns, 1))
    return statistics.median(ratios)


def _ns(engine: Engine, frame: NDArray[np.uint8], clock_ns: Callable[[], int]) -> int:
    before_ns = clock_ns()
    ticket = engine.submit(frame)
    engine.collect(ticket)
    engine.release(ticket)
    return clock_ns() - before_ns
