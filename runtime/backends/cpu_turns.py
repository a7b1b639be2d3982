"""Whose turn it is on the CPU: engines that would share its cores run one batch at a time.

Two batches at once on the same cores take longer than one after the other: threads of each wait for threads of the
other, and each throws the other's figures out of the caches. So a batch waits for its turn, in the order of submission,
whichever engine it is for, as on a GPU. Engines that were given fewer threads run side by side as far as these fit.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager


class Turns:
    """The cores of a machine, and those who wait for them.

    Args:
        cores: How many threads may compute at a time.
    """

    def __init__(self, cores: int) -> None:
        self._cores = self._free = cores
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    def line_up(self) -> object:
        """A place at the end of the queue."""
        place = object()
        with self._changed:
            self._waiting.append(place)
        return place

    def leave(self, place: object) -> None:
        """Give a place up that was not used."""
        with self._changed:
            self._waiting.remove(place)
            self._changed.notify_all()

    @contextmanager
    def take(self, place: object, threads: int | None) -> Iterator[None]:
        """Wait until nobody stands before a place and its threads are free, and have them until the end.

        Args:
            place: From `line_up`.
            threads: How many; None takes all cores, as do more than there are.
        """
        width = self._cores if threads is None else min(threads, self._cores)
        with self._changed:
            self._changed.wait_for(lambda: self._waiting[0] is place and self._free >= width)
            self._waiting.popleft()
            self._free -= width
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += width
                self._changed.notify_all()


TURNS = Turns(len(os.sched_getaffinity(0)))
"""Of this process; a station has one of its own."""


class CpuWorker:
    """Runs the batches of one engine in a thread of its own, each in its turn.

    What runs must let go of the interpreter's lock, so that the loop goes on meanwhile.

    Args:
        name: Of the thread.
        threads: How many the engine computes with; None says as many as there are cores.
        turns: With whom it shares the cores.
    """

    def __init__(self, name: str, threads: int | None, turns: Turns = TURNS) -> None:
        self._threads = threads
        self._turns = turns
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    def submit(self, run: Callable[[], object]) -> Future[None]:
        """Run a batch after all that were submitted before it, to this engine or another one."""
        place = self._turns.line_up()
        try:
            return self._thread.submit(self._in_turn, place, run)
        except RuntimeError:  # closed
            self._turns.leave(place)
            raise

    def close(self) -> None:
        """Wait for what was submitted, and end the thread; calling it again does nothing."""
        self._thread.shutdown()

    def _in_turn(self, place: object, run: Callable[[], object]) -> None:
        with self._turns.take(place, self._threads):
            run()
