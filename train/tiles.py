"""Square tiles of large pictures: the phase paper's grid in quarter turns, or tiles from anywhere at any angle."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from train.datasets.base import Sample
from train.rescale import View, look
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


def viewed_tiles(
    sample_of: Callable[[int], Sample],
    indices: Sequence[int],
    side_px: int,
    zoom_ratio: float,
    rng: np.random.Generator,
    *,
    skip: int = 1,
    first: int = 0,
) -> Iterator[Sample]:
    """Tiles from anywhere, at any angle, mirrored or not and zoomed, without end; for pictures that have no up.

    Args:
        sample_of: Gives the picture of a number.
        indices: The pictures of the training part.
        side_px: Side of a tile.
        zoom_ratio: The zoom lies between 1 / (1 + this) and 1 + this, either way as often.
        rng: The epoch's generator.
        skip: Every how many-th tile is given; the number of processes.
        first: Which is the first; the number of this process.
    """
    drawn = -1
    while True:
        for index in rng.permutation(np.asarray(indices)):
            drawn += 1
            own = np.random.default_rng(rng.integers(2**63))  # as in random_tiles: no process repeats another's
            if drawn % skip == first:
                yield _viewed(sample_of(int(index)), side_px, zoom_ratio, own)


def _viewed(sample: Sample, side_px: int, zoom_ratio: float, rng: np.random.Generator) -> Sample:
    """Beyond the picture's edges it is mirrored."""
    zoom = (1.0 + zoom_ratio) ** float(rng.uniform(-1.0, 1.0))
    view = View(zoom, float(rng.uniform(0.0, 2.0 * math.pi)), bool(rng.integers(2)))
    size = side_px, side_px
    middle = [
        float(rng.uniform(reach / 2, side - reach / 2)) if reach < side else side / 2
        for reach, side in zip(view.reach(size), sample.pixels.shape, strict=True)
    ]
    place = middle[0], middle[1]
    pixels = look(sample.pixels, place, size, view)[0].round().numpy().astype(np.uint8)
    planes = [look(mask.astype(np.uint8), place, size, view)[0].numpy() > 0.5 for mask in sample.masks]
    return Sample(f"{sample.name}@{middle[0]:.0f},{middle[1]:.0f}x{zoom:.2f}", pixels, np.stack(planes))


def turned(sample: Sample, turn: int) -> Sample:
    """A square sample after `turn` quarter turns."""
    pixels = np.ascontiguousarray(np.rot90(sample.pixels, turn))
    return Sample(f"{sample.name}/{turn}", pixels, np.ascontiguousarray(np.rot90(sample.masks, turn, axes=(1, 2))))
