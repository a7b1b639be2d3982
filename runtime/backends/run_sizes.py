"""Which batches an engine on a GPU is made ready for: no shape is met for the first time on the line."""

from __future__ import annotations

MOST_EXACT = 32
"""Up to so many frames, every batch is run as it is."""


def run_sizes(max_batch: int) -> tuple[int, ...]:
    """The batch sizes that are run, rising; the last is `max_batch`.

    A shape that was never run costs a compilation or a capture when it comes. So each is run when the engine opens, and
    where there would be too many, a batch is rounded up to the next of a few.

    >>> run_sizes(4), run_sizes(100)
    ((1, 2, 3, 4), (1, 2, 4, 8, 16, 32, 64, 100))
    """
    if max_batch <= MOST_EXACT:
        return tuple(range(1, max_batch + 1))
    powers = [1]
    while powers[-1] * 2 < max_batch:
        powers.append(powers[-1] * 2)
    return (*powers, max_batch)


def run_as(max_batch: int) -> tuple[int, ...]:
    """For each batch of n frames, at n - 1, the size that it is run as.

    >>> run_as(3)
    (1, 2, 3)
    >>> run_as(100)[39]
    64
    """
    sizes = run_sizes(max_batch)
    return tuple(next(size for size in sizes if size >= count) for count in range(1, max_batch + 1))
