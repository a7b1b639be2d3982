"""When a camera that failed is started again."""

from __future__ import annotations

from camera.config import GrabberSettings

_NS_PER_S = 1_000_000_000


class Restarts:
    """How often a camera was started in vain, and when it is its turn again.

    Args:
        watch: How many restarts, and the waits before them.
    """

    def __init__(self, watch: GrabberSettings) -> None:
        self._watch = watch
        self._failures = 0
        self._at_ns: int | None = None

    @property
    def used_up(self) -> bool:
        """Whether there is none left."""
        return self._watch.restarts is not None and self._failures >= self._watch.restarts

    def plan(self, now_ns: int) -> None:
        """It failed: the next start comes after a wait that doubles each time."""
        wait_s = backoff_s(self._failures, self._watch.restart_first_s, self._watch.restart_most_s)
        self._at_ns = now_ns + round(wait_s * _NS_PER_S)
        self._failures += 1

    def is_due(self, now_ns: int) -> bool:
        """Whether a start was planned, and its time has come."""
        return self._at_ns is not None and now_ns >= self._at_ns

    def cancel(self) -> None:
        """No start is planned any more."""
        self._at_ns = None

    def worked(self) -> None:
        """It delivers: the next failure counts as the first."""
        self._failures = 0


def backoff_s(failures: int, first_s: float, most_s: float) -> float:
    """How long to wait before the next restart, in seconds: twice as long each time.

    >>> [backoff_s(failures, 0.5, 3.0) for failures in range(4)]
    [0.5, 1.0, 2.0, 3.0]
    """
    return min(most_s, first_s * 2.0 ** min(failures, 60))
