"""The books of a run: every frame of the camera's counter is answered for exactly once."""

from __future__ import annotations

from runtime.messages import Coverage


class CoverageError(AssertionError):
    """A frame would be answered twice, or be passed over in silence: a fault of the program, never of the line."""


class Books:
    """Counts the answers of one run and refuses one that leaves a hole or comes twice.

    >>> books = Books()
    >>> books.inspected(7)
    >>> books.missed(8, 11)
    >>> books.coverage()
    Coverage(frames_expected=4, frames_inspected=1, frames_missed=3, complete=True)
    """

    def __init__(self) -> None:
        self._first: int | None = None
        self._next = 0
        self._inspected = 0
        self._missed = 0

    @property
    def next_index(self) -> int | None:
        """The frame that has to be answered next; None before the first."""
        return None if self._first is None else self._next

    def inspected(self, index: int) -> None:
        """Enter a frame that the models saw.

        Raises:
            CoverageError: It is not the next frame.
        """
        self._enter(index, index + 1)
        self._inspected += 1

    def missed(self, first: int, stop: int) -> None:
        """Enter frames [first, stop) that nobody saw.

        Raises:
            CoverageError: The range is empty, or does not begin at the next frame.
        """
        self._enter(first, stop)
        self._missed += stop - first

    def coverage(self) -> Coverage:
        """The sum: complete only if inspected and missed add up to the span of the camera's counter."""
        expected = 0 if self._first is None else self._next - self._first
        return Coverage(
            frames_expected=expected,
            frames_inspected=self._inspected,
            frames_missed=self._missed,
            complete=expected == self._inspected + self._missed,
        )

    def _enter(self, first: int, stop: int) -> None:
        if stop <= first:
            raise CoverageError(f"frames [{first}, {stop}) are none at all")
        if self._first is None:
            self._first = first
        elif first != self._next:
            what = "answered twice" if first < self._next else "passed over"
            raise CoverageError(f"frame {first} came where {self._next} was due: a frame would be {what}")
        self._next = stop
