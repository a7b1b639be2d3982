"""Square tiles of large pictures, in quarter turns: the phase paper's grid, or tiles from anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from train.datasets.base import Sample
from train.sampling import cut

if TYPE_CHECKING:
    from train.datasets.base import Dataset

TURNS = 4
"""Rotations by 0, 90, 180 and 270 degrees (paper, 2.2)."""


def grid(shape: tuple[int, ...], side_px: int) -> list[tuple[int, int]]:
    """Upper left corners of the tiles that fit side by side into a picture.

    >>> len(grid((1542, 2080), 224))
    54
    """
    rows, cols = (range(0, max(side - side_px, 0) + 1, side_px) for side in shape)
    return [(row, col) for row in rows for col in cols]


def grid_tiles(
    dataset: Dataset, indices: Sequence[int], side_px: int, rng: np.random.Generator, *, skip: int = 1, first: int = 0
) -> Iterator[Sample]:
    """Every tile of every picture in every turn once before any comes again, without end.

    Args:
        dataset: Where the pictures come from.
        indices: The pictures of the training part.
        side_px: Side of a tile.
        rng: Decides the order.
        skip: Every how many-th tile is given; the number of processes.
        first: Which is the first; the number of this process.
    """
    places = [
        (index, top, left, turn)
        for index in indices
        for top, left in grid(dataset.sample(index).pixels.shape, side_px)
        for turn in range(TURNS)
    ]
    while True:
        for place in rng.permutation(len(places))[first::skip]:
            index, top, left, turn = places[int(place)]
            yield turned(cut(dataset.sample(index), top, left, (side_px, side_px)), turn)


def random_tiles(
    dataset: Dataset, indices: Sequence[int], side_px: int, rng: np.random.Generator, *, skip: int = 1, first: int = 0
) -> Iterator[Sample]:
    """Tiles from anywhere, in any turn, without end; pictures take turns, larger ones no oftener. See `grid_tiles`."""
    drawn = -1
    while True:
        for index in rng.permutation(np.asarray(indices)):
            # Every process draws the numbers of all tiles and makes only its own, so that they never repeat each other.
            drawn += 1
            ratios, turn = rng.random(2), int(rng.integers(TURNS))
            if drawn % skip != first:
                continue
            sample = dataset.sample(int(index))
            top, left = (
                int(ratio * (max(0, side - side_px) + 1))
                for ratio, side in zip(ratios, sample.pixels.shape, strict=True)
            )
            yield turned(cut(sample, top, left, (side_px, side_px)), turn)


def turned(sample: Sample, turn: int) -> Sample:
    """A square sample after `turn` quarter turns."""
    pixels = np.ascontiguousarray(np.rot90(sample.pixels, turn))
    return Sample(f"{sample.name}/{turn}", pixels, np.ascontiguousarray(np.rot90(sample.masks, turn, axes=(1, 2))))
