"""Grains of a polished section: which grain each pixel lies in, at a chosen ASTM grain size number.

The grains are a plane cut through a three-dimensional Voronoi tessellation, as a polished section is a plane cut
through a block of steel. That gives what a section shows and a plane Voronoi tessellation does not: slivers of grains
that were cut near their end, and a spread of areas close to log-normal. The tessellation is periodic in the picture, so
that every grain that leaves at one side comes in at the other: then the Jeffries count of the picture (grains inside,
plus half of those cut by its edges) is exactly the number of grains.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

MM2_AT_1X = 645.16 / 100.0**2
"""One square inch at 100x, in mm2 of the specimen."""
_AREAS_PER_SITE = 1.458  # sections of a Poisson-Voronoi tessellation: N_A = 1.458 N_V^(2/3)
_SLAB = 1.4  # in mean spacings: a site farther from the plane has a section once in ten thousand grains
_LEAST_AREA = 0.01  # of the mean: a sliver below it is not seen under the microscope
_TRIES = 12
_FEW = 400
_NEAR_ENOUGH_G = 0.03


def grains_per_mm2(grain_number: float) -> float:
    """Grains per mm2 of an ASTM grain size number: 2^(G - 1) per square inch at 100x (ASTM E112, equation 1).

    >>> round(grains_per_mm2(1.0), 2)
    15.5
    """
    return 2.0 ** (grain_number - 1.0) / MM2_AT_1X


def grain_number_of(grains_per_mm2: float) -> float:
    """The inverse of `grains_per_mm2`.

    >>> round(grain_number_of(15.5), 3)
    1.0
    """
    return 1.0 + math.log2(grains_per_mm2 * MM2_AT_1X)


@dataclass(frozen=True, slots=True)
class Section:
    """The grains of one picture.

    Attributes:
        labels: (H, W) int32, the number of the grain, 0 to grains - 1; periodic.
        grains: How many there are.
        spacing_px: (H, W) float32, the mean grain diameter wanted at each place, the root of the mean area.
    """

    labels: NDArray[np.int32]
    grains: int
    spacing_px: Floats


def periodic_noise(rng: np.random.Generator, shape: tuple[int, int], bump_px: float) -> Floats:
    """A smooth periodic field (H, W) float32 of about unit deviation, with bumps `bump_px` wide."""
    field: Floats = rng.standard_normal([max(2, round(side / bump_px)) for side in shape], dtype=np.float32)
    for axis, side in enumerate(shape):
        count = field.shape[axis]
        place = np.arange(side, dtype=np.float32) * np.float32(count / side)
        first = place.astype(np.int64)
        # A uniform cubic B-spline: smooth, local, and never beyond its knots.
        t = place - first
        weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
        column = (slice(None), None) if axis == 0 else (None, slice(None))
        taps = [
            (weight[column] / 6) * field.take((first + tap - 1) % count, axis=axis)
            for tap, weight in enumerate(weights)
        ]
        field = taps[0] + taps[1] + taps[2] + taps[3]
    return np.asarray(field * np.float32(1.0 / 0.48), np.float32)  # a B-spline takes half the knots' deviation away


def cut_section(
    rng: np.random.Generator, shape: tuple[int, int], grain_number: float, mm_per_px: float, *, regularity: float
) -> Section:
    """Cut a plane through a block of grains of one size.

    Args:
        rng: Where the grains lie.
        shape: Height and width in px.
        grain_number: ASTM G.
        mm_per_px: Scale of the picture.
        regularity: 0 for a section of Poisson-Voronoi grains; towards 1 the sections are more alike.

    Returns:
        A section whose grains per area are those of the grain number to within 0.03 G, or as near as whole grains come.
    """
    per_px2 = grains_per_mm2(grain_number) * mm_per_px**2
    wanted, spacing_px = per_px2 * shape[0] * shape[1], per_px2**-0.5
    step = max(1, int(spacing_px / 9))  # chance is settled on a coarse grid
    rows, cols = (np.asarray(each[::step, ::step], np.float32) for each in np.indices(shape))
    correction, tried = 1.0, []
    for _ in range(_TRIES):
        sites = _scatter(rng, shape, per_px2 * correction, regularity)
        _, grains = _cells(sites, (rows, cols), shape, spacing_px, step)
        tried.append((abs(math.log2(grains / wanted)), len(tried), sites))
        if tried[-1][0] < _NEAR_ENOUGH_G or abs(grains - wanted) <= 0.5:
            break
        correction *= (wanted / grains) ** (0.5 if wanted < _FEW else 1.0)  # of a few grains, half the miss is chance
    labels, grains = _cells(min(tried)[2], _curve(rng, shape, spacing_px), shape, spacing_px, 1)
    return Section(labels, grains, np.full(shape, spacing_px, np.float32))


def join_sections(sections: Sequence[Section], region: NDArray[np.integer], *, splice: bool) -> Section:
    """One section of several.

    Args:
        sections: Of each region, over the whole picture.
        region: (H, W), which of them each place belongs to.
        splice: Cut grains at the region's edge, as where pictures are set side by side. Otherwise a grain stays whole
            if most of it lies in its region, and finer grains fill the room that coarser ones leave.
    """
    order = sorted(range(len(sections)), key=lambda number: float(sections[number].spacing_px[0, 0]))
    labels = np.empty(region.shape, np.int64)
    spacing = np.empty(region.shape, np.float32)
    offset = 0
    for number in order:  # the finest first, so that it fills what is left over
        section = sections[number]
        here = region == number
        if not splice:
            share = np.bincount(section.labels.ravel(), here.ravel(), section.grains)
            share /= np.bincount(section.labels.ravel(), minlength=section.grains)
            here = (share > 0.5)[section.labels] if number != order[0] else np.ones(region.shape, bool)
        labels[here] = section.labels[here] + offset
        spacing[here] = section.spacing_px[here]
        offset += section.grains
    areas = np.bincount(labels.ravel())
    crumbs = areas[labels] < np.maximum(2.0, 5 * _LEAST_AREA * spacing**2)
    if crumbs.any() and not splice:
        from scipy.ndimage import distance_transform_edt

        nearest = distance_transform_edt(crumbs, return_distances=False, return_indices=True)
        labels = labels[tuple(np.asarray(nearest))]
    numbers, compact = np.unique(labels, return_inverse=True)
    return Section(compact.reshape(labels.shape).astype(np.int32), len(numbers), spacing)


def _curve(rng: np.random.Generator, shape: tuple[int, int], spacing_px: float) -> tuple[Floats, Floats]:
    """Row and column that each pixel asks the straight tessellation for: the grains' boundaries are curved."""
    moved = []
    for line in np.indices(shape, np.float32):
        for bump, ratio in ((0.9, 0.075), (0.3, 0.022)):
            if bump * spacing_px >= 3.0:
                line += np.float32(ratio * spacing_px) * periodic_noise(rng, shape, bump * spacing_px)
        moved.append(line)
    return moved[0], moved[1]


def _scatter(rng: np.random.Generator, shape: tuple[int, int], per_px2: float, regularity: float) -> Floats:
    """Sites (n, 3) of the grains near the plane: row, col, height over it, in px."""
    spacing = (per_px2 / _AREAS_PER_SITE) ** -0.5
    flatness = 1.0 - 0.6 * regularity
    slab = _SLAB * spacing * flatness
    # A thinner slab holds as many grains per area: then nearly every site has a section.
    count = max(4, round(2.0 * slab * spacing**-3 * shape[0] * shape[1] / flatness**0.6))
    sites = rng.random((count, 3), dtype=np.float32) * np.array([*shape, 2.0 * slab], np.float32)
    sites[:, 2] -= slab
    return sites


def _cells(
    sites: Floats, places: tuple[Floats, Floats], box: tuple[int, int], spacing_px: float, step: int
) -> tuple[NDArray[np.int32], int]:
    """The nearest site of each place, numbered anew from 0; slivers too small to show go to their neighbours.

    Args:
        sites: (n, 3), in px.
        places: Rows and columns, (h, w) each.
        box: Height and width of the period.
        spacing_px: The mean diameter of the grains.
        step: From one place to the next, in px.
    """
    least = max(2.0, _LEAST_AREA * spacing_px**2) / step**2
    labels = _all_nearest(_Sites(sites, box), places, max(1, int(spacing_px / 7 / step)))
    for _ in range(3):
        areas = np.bincount(labels.ravel(), minlength=len(sites))
        small = (areas > 0) & (areas < least)
        if not small.any():
            break
        left = np.flatnonzero(areas >= least)
        homeless = small[labels]
        labels[homeless] = left[_Sites(sites[left], box).nearest(places[0][homeless], places[1][homeless])]
    present = np.bincount(labels.ravel(), minlength=len(sites)) > 0
    numbers = (np.cumsum(present) - 1).astype(np.int32)
    return numbers[labels], int(numbers[-1]) + 1


class _Sites:
    """Sites in a periodic plane, to be asked for the nearest of them."""

    def __init__(self, sites: Floats, box: tuple[int, int]) -> None:
        from scipy.spatial import KDTree

        # Copies beyond the edges are quicker than the tree's own periods: most places are far from an edge.
        reach = 3.0 * float(np.abs(sites[:, 2]).max()) / _SLAB
        own = np.arange(len(sites))
        for axis in (0, 1):
            before = sites[:, axis] > box[axis] - reach
            behind = sites[:, axis] < reach
            shift = np.zeros(3, np.float32)
            shift[axis] = box[axis]
            sites, own = (
                np.concatenate((sites, sites[before] - shift, sites[behind] + shift)),
                np.concatenate((own, own[before], own[behind])),
            )
        self._tree = KDTree(sites)
        self._own = own

    def nearest(self, rows: Floats, cols: Floats) -> NDArray[np.int64]:
        """The number of the nearest site of each place."""
        return self._own[self._tree.query(np.stack((rows, cols, np.zeros_like(rows)), axis=-1))[1]]


def _all_nearest(sites: _Sites, places: tuple[Floats, Floats], step: int) -> NDArray[np.int64]:
    """Every place is asked for only where a coarse grid does not already say the same all around it."""
    rows, cols = places
    height, width = rows.shape
    if step == 1:
        return sites.nearest(rows, cols)
    coarse = sites.nearest(rows[::step, ::step], cols[::step, ::step])
    same = np.ones(coarse.shape, bool)
    for down in (-1, 0, 1):
        for across in (-1, 0, 1):
            same &= np.roll(coarse, (down, across), (0, 1)) == coarse
    spread = lambda grid: grid.repeat(step, 0).repeat(step, 1)[:height, :width]  # noqa: E731
    labels = spread(coarse)
    unsure = ~spread(same)
    labels[unsure] = sites.nearest(rows[unsure], cols[unsure])
    return labels
