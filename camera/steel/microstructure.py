"""Ferrite and pearlite of a polished section: which phase each pixel is of, and which grain or colony.

Two forms pass into one another. In a low-carbon steel whole grains between the ferrite are pearlite; in a medium-carbon
steel pearlite fills the former austenite grains, and ferrite is the network along their boundaries. Both are one
potential over the picture, and the pearlite lies where it is highest: so the pearlite fraction is met to the pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camera.steel.surface import value_noise

Floats = NDArray[np.floating[Any]]  # float32 throughout

_CLOSEST = 0.42  # nuclei keep so many diameters apart
_THINNED = 1.32  # so many more are drawn than are left
_NEAREST = 6  # sites asked at each pixel: enough that the nearest of all is among them but for one pixel in 10,000


@dataclass(frozen=True, slots=True)
class Structure:
    """What is to be drawn.

    Lengths are in pixels of the picture; at 0.2 um/px, a usual scale of a 50x objective, 30 px are 6 um.

    Attributes:
        height_px: Rows.
        width_px: Columns.
        pearlite_ratio: Share of the pixels that are pearlite, 0..1.
        grain_px: Mean diameter of the ferrite grains.
        colony_px: Mean diameter of the pearlite colonies, in each of which the lamellae lie one way.
        network: 0: whole grains are pearlite. 1: ferrite is a network around pearlite.
        austenite_px: Mean diameter of the former austenite grains, whose boundaries the network follows.
        banding: 0..1, how much the pearlite gathers in bands along the rolling direction (the rows).
    """

    height_px: int = 1542
    width_px: int = 2080
    pearlite_ratio: float = 0.45
    grain_px: float = 34.0
    colony_px: float = 40.0
    network: float = 0.5
    austenite_px: float = 130.0
    banding: float = 0.2


@dataclass(frozen=True, slots=True)
class Cells:
    """A tessellation.

    Attributes:
        labels: (H, W) int32, the number of the cell.
        edge_px: (H, W) float32, distance to the nearest boundary.
        count: One more than the largest label.
    """

    labels: NDArray[np.int32]
    edge_px: Floats
    count: int


@dataclass(frozen=True, slots=True)
class Microstructure:
    """The phases and what they are made of.

    Attributes:
        pearlite: (H, W) bool; the rest is ferrite.
        grains: Ferrite grains; of no meaning in pearlite.
        colonies: Pearlite colonies; of no meaning in ferrite.
    """

    pearlite: NDArray[np.bool_]
    grains: Cells
    colonies: Cells


def grow(rng: np.random.Generator, structure: Structure) -> Microstructure:
    """Grow a microstructure; the same for the same generator state and structure."""
    shape = (structure.height_px, structure.width_px)
    grains = _tessellate(rng, shape, structure.grain_px)
    colonies = _tessellate(rng, shape, structure.colony_px)
    potential = rng.random(grains.count, dtype=np.float32)[grains.labels]
    if structure.banding:
        rows_px, cols_px = 2.2 * structure.grain_px, 14.0 * structure.grain_px
        bands = value_noise(rng, *shape, cells=(round(shape[0] / rows_px), round(shape[1] / cols_px)))
        # Grains are banded as a whole: the bands are read at one pixel of each.
        anywhere = np.zeros(grains.count, np.int64)
        anywhere[grains.labels.ravel()] = np.arange(grains.labels.size)
        potential += (0.5 * structure.banding * bands.ravel()[anywhere])[grains.labels]
    if structure.network:
        austenite = _tessellate(rng, shape, structure.austenite_px)
        depth = austenite.edge_px * np.float32(4.0 / structure.austenite_px)
        potential += np.float32(4.0 * structure.network) * (depth - potential)
    rough_px = max(7.0, 0.3 * structure.grain_px)
    potential += np.float32(0.04 + 0.2 * structure.network) * _bumps(rng, shape, rough_px)
    # A hair of tilt parts equal values, so that a quantile cuts exactly.
    potential += np.linspace(0.0, 1e-4, shape[0] * shape[1], dtype=np.float32).reshape(shape)
    pearlite = potential > _level(potential, structure.pearlite_ratio)
    return Microstructure(pearlite, grains, colonies)


def _level(potential: Floats, ratio: float) -> float:
    """The value that a share `ratio` of all pixels exceeds."""
    count = round(ratio * potential.size)
    if count <= 0:
        return math.inf
    if count >= potential.size:
        return -math.inf
    return float(np.partition(potential, potential.size - count - 1, axis=None)[potential.size - count - 1])


def _bumps(rng: np.random.Generator, shape: tuple[int, int], bump_px: float) -> Floats:
    return value_noise(rng, *shape, cells=(round(shape[0] / bump_px), round(shape[1] / bump_px)))


def _tessellate(rng: np.random.Generator, shape: tuple[int, int], size_px: float) -> Cells:
    """Voronoi cells with bent boundaries, `size_px` across in the mean."""
    from scipy.spatial import KDTree

    margin_px = 1.5 * size_px
    spans = [side + 2.0 * margin_px for side in shape]
    drawn = max(4 * _NEAREST, round(_THINNED * spans[0] * spans[1] / size_px**2))
    sites = rng.random((drawn, 2), dtype=np.float32) * np.array(spans, np.float32) - np.float32(margin_px)
    # Nuclei keep some distance from one another: a grain that grows first leaves no room.
    close = KDTree(sites).query_pairs(_CLOSEST * size_px, output_type="ndarray")
    sites = np.delete(sites, np.unique(close.max(axis=1)) if len(close) else [], axis=0)
    bend = [np.float32(0.08 * size_px) * _bumps(rng, shape, max(4.0, 0.45 * size_px)) for _ in shape]
    rows = bend[0] + np.arange(shape[0], dtype=np.float32)[:, None]
    cols = bend[1] + np.arange(shape[1], dtype=np.float32)[None, :]

    # The nearest sites change little within a small block, so that one question serves its pixels.
    block = max(2, round(size_px / 6.0))
    middles = tuple(np.minimum(np.arange(block // 2, side + block // 2, block), side - 1) for side in shape)
    at = np.ix_(*middles)
    asked = np.stack((rows[at], cols[at]), axis=-1)
    near = np.asarray(KDTree(sites).query(asked, k=_NEAREST)[1], np.int32)
    block_col = np.arange(shape[1]) // block
    labels, edge = np.empty(shape, np.int32), np.empty(shape, np.float32)
    for row in range(0, shape[0], block):  # a row of blocks at a time: what is worked on stays in the cache
        rows_here = slice(row, min(row + block, shape[0]))
        candidates = near[row // block]
        place = sites[candidates]
        labels[rows_here], edge[rows_here] = _nearest_two(
            rows[rows_here], cols[rows_here], candidates.T[:, block_col], place.transpose(1, 2, 0)[..., block_col]
        )
    return Cells(labels, edge, len(sites))


def _nearest_two(
    rows: Floats, cols: Floats, candidates: NDArray[np.int32], place: Floats
) -> tuple[NDArray[np.int32], Floats]:
    """The nearest site of each pixel, and how far the next boundary is.

    Args:
        rows: (h, W), where the pixels lie.
        cols: (h, W).
        candidates: (k, W), the sites to choose from in each column.
        place: (k, 2, W), where these lie.
    """
    nearest = np.empty(rows.shape, np.int32)
    first = np.full(rows.shape, np.inf, np.float32)
    second = first.copy()
    distance, other = np.empty_like(first), np.empty_like(first)
    for site, (row, col) in zip(candidates, place, strict=True):
        np.subtract(rows, row, out=distance)
        distance *= distance
        np.subtract(cols, col, out=other)
        other *= other
        distance += other
        np.copyto(nearest, site, where=distance < first)
        np.maximum(first, distance, out=other)
        np.minimum(second, other, out=second)
        np.minimum(first, distance, out=first)
    # Exact on the line from site to site; elsewhere a little less, so that boundaries are not all of one width.
    return nearest, (np.sqrt(second) - np.sqrt(first)) * np.float32(0.5)
