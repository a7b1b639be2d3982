"""Large pictures in tiles of one size: where to cut them, and how to put the answers together without a seam.

A network whose answer at a pixel depends on nothing farther than some radius gives the same answer from a tile as from
the whole picture, as long as the pixel lies that far inside the tile, or the tile ends where the picture does. So tiles
overlap by twice the radius, and each answers for its middle alone. Pools and strides add one condition: tiles begin at
multiples of the network's stride, counted from the picture's first pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Span:
    """A tile along one axis: it covers [first, first + tile) and answers for [keep_first, keep_stop)."""

    first: int
    keep_first: int
    keep_stop: int


@dataclass(frozen=True, slots=True)
class TilePlan:
    """How a picture is cut.

    Attributes:
        height_px: Rows of the picture.
        width_px: Columns of the picture.
        padded_px: Rows and columns after the last ones were repeated up to a multiple of the stride.
        tile_px: Rows and columns of every tile.
        rows: Down the picture.
        cols: Across the picture.
    """

    height_px: int
    width_px: int
    padded_px: tuple[int, int]
    tile_px: tuple[int, int]
    rows: tuple[Span, ...]
    cols: tuple[Span, ...]

    @property
    def count(self) -> int:
        """Tiles in all."""
        return len(self.rows) * len(self.cols)

    def places(self) -> Iterator[tuple[Span, Span]]:
        """Row and column span of each tile, row by row."""
        return ((row, col) for row in self.rows for col in self.cols)


def plan_tiles(shape: tuple[int, int], tile_px: int, radius_px: int, stride_px: int = 1) -> TilePlan:
    """Plan the tiles of a picture: as few as will do, spread evenly.

    Args:
        shape: Rows and columns of the picture.
        tile_px: Side of a tile at most; a picture that is smaller along an axis is one tile there.
        radius_px: How far a pixel may lie that has a say in another's answer.
        stride_px: Tiles begin at its multiples; `tile_px` and `radius_px` must be multiples of it.

    Raises:
        ValueError: The numbers leave a tile nothing to answer for, or do not fit the stride.

    >>> plan = plan_tiles((1542, 2080), 896, 56, 8)
    >>> plan.count, plan.padded_px, [span.first for span in plan.cols]
    (6, (1544, 2080), [0, 592, 1184])
    """
    if min(*shape, stride_px) < 1 or radius_px < 0:
        raise ValueError(f"a picture of {shape} px, a radius of {radius_px} and a stride of {stride_px} px: too small.")
    if tile_px % stride_px or radius_px % stride_px:
        raise ValueError(f"tiles of {tile_px} and a radius of {radius_px} px: no multiples of the stride {stride_px}.")
    if tile_px <= 2 * radius_px:
        raise ValueError(f"tiles of {tile_px} px: expected more than twice the radius of {radius_px} px.")
    height, width = (-(-side // stride_px) * stride_px for side in shape)
    tile = min(tile_px, height), min(tile_px, width)
    rows, cols = (
        _spans(side, padded, size, radius_px, stride_px)
        for side, padded, size in zip(shape, (height, width), tile, strict=True)
    )
    return TilePlan(shape[0], shape[1], (height, width), tile, rows, cols)


def _spans(side: int, padded: int, tile: int, radius: int, stride: int) -> tuple[Span, ...]:
    """The tiles along one axis: neighbours share twice the radius or more, and meet in the middle of that."""
    if tile == padded:
        return (Span(0, 0, side),)
    count = 1 + -(-(padded - tile) // (tile - 2 * radius))
    steps = (padded - tile) // stride
    firsts = [stride * (number * steps // (count - 1)) for number in range(count)]
    meets = [(first + tile + following) // 2 for first, following in pairwise(firsts)]
    return tuple(
        Span(first, start, min(stop, side))
        for first, start, stop in zip(firsts, (0, *meets), (*meets, side), strict=True)
    )


def cut_tiles(picture: NDArray[Any], plan: TilePlan) -> NDArray[Any]:
    """Cut a picture (H, W) into tiles (n, 1, h, w) of its type, C-contiguous, row by row."""
    down, across = (padded - side for padded, side in zip(plan.padded_px, picture.shape, strict=True))
    padded = np.pad(picture, ((0, down), (0, across)), mode="edge") if down or across else picture
    tiles = np.empty((plan.count, 1, *plan.tile_px), picture.dtype)
    for tile, (row, col) in zip(tiles, plan.places(), strict=True):
        tile[0] = padded[row.first : row.first + plan.tile_px[0], col.first : col.first + plan.tile_px[1]]
    return tiles


def stitch(tiles: Iterator[NDArray[Any]], plan: TilePlan, dtype: Any) -> NDArray[Any]:
    """Put what was said of the tiles together.

    Args:
        tiles: One array (h, w) a tile, row by row, each read once.
        plan: By which they were cut.
        dtype: Of the result.

    Returns:
        (H, W): at each pixel what the tile that answers for it says.
    """
    whole = np.empty((plan.height_px, plan.width_px), dtype)
    for tile, (row, col) in zip(tiles, plan.places(), strict=True):
        kept = tile[
            row.keep_first - row.first : row.keep_stop - row.first,
            col.keep_first - col.first : col.keep_stop - col.first,
        ]
        whole[row.keep_first : row.keep_stop, col.keep_first : col.keep_stop] = kept
    return whole
