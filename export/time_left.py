"""How long several things will still take: from what each took the last time, or the others just now."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

QUICK_S = 10.0
MINUTES_FROM_S = 90.0


class TimeLeft:
    """An estimate that knows nothing before it has seen something.

    The builder's own phases do not go into it: most of its steps are over in the first tenth of the time.

    Args:
        known_s: By thing that is to be done, in the order of doing, the seconds that it took the last time, if known.
        clock_s: A clock in seconds.
    """

    def __init__(self, known_s: Mapping[str, float | None], clock_s: Callable[[], float] = time.monotonic) -> None:
        self._known_s = dict(known_s)
        self._waiting = list(known_s)
        self._running: tuple[str, float] | None = None
        self._clock_s = clock_s

    def begin(self, what: str) -> None:
        """It is being done now."""
        self._waiting.remove(what)
        self._running = (what, self._clock_s())

    def finish(self) -> float:
        """What was begun is done; gives the seconds that it took.

        Raises:
            RuntimeError: Nothing was begun.
        """
        if self._running is None:
            raise RuntimeError("finish: found nothing that was begun. Call begin first.")
        what, begun_s = self._running
        self._running = None
        taken_s = self._known_s[what] = self._clock_s() - begun_s
        return taken_s

    def left_s(self) -> float | None:
        """Seconds until all is done; None while nothing is known, or where it takes longer than it did before.

        What never was done before is taken to last as long as the others do on average.
        """
        known = [seconds for seconds in self._known_s.values() if seconds is not None]
        if not known:
            return None
        usual_s = sum(known) / len(known)
        left_s = sum(self._expected_s(what, usual_s) for what in self._waiting)
        if self._running is not None:
            what, begun_s = self._running
            rest_s = self._expected_s(what, usual_s) - (self._clock_s() - begun_s)
            if rest_s <= 0:
                return None
            left_s += rest_s
        return left_s

    def _expected_s(self, what: str, usual_s: float) -> float:
        seconds = self._known_s[what]
        return usual_s if seconds is None else seconds


def in_words(left_s: float | None) -> str:
    """An estimate for people, no finer than it is good; empty where there is none.

    >>> in_words(3), in_words(41), in_words(100), in_words(3000), in_words(None)
    ('a few seconds left', 'about 50 s left', 'about 2 min left', 'about 50 min left', '')
    """
    if left_s is None:
        return ""
    if left_s < QUICK_S:
        return "a few seconds left"
    if left_s < MINUTES_FROM_S:
        return f"about {-(-left_s // 10) * 10:.0f} s left"
    return f"about {left_s / 60:.0f} min left"
