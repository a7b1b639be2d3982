"""Where a crack runs and how wide it gapes: centrelines, radii, and the exact region that they cover.

A crack is a walk of short facets, as a crack goes from grain to grain, around a heading that drifts. It is widest at
its root and runs out at its tip. The region is the union of the discs along the centreline, kept as a signed distance,
so that the truth is exact to a fraction of a pixel and rendering and mask cannot disagree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

FAR_PX = 99.0
"""The distance of whatever is not near a crack."""
_REACH_PX = 6
_STEP_PX = 0.6


@dataclass(frozen=True, slots=True)
class Line:
    """A centreline with the half width at each of its points.

    Attributes:
        points: (n, 2) row and column in px, about half a pixel apart.
        radius_px: (n,) half width.
        tips: (k, 2) row and column of its free ends.
    """

    points: Floats
    radius_px: Floats
    tips: Floats


class Region:
    """What lines cover, as a signed distance.

    Attributes:
        distance_px: (H, W) float32, negative inside; `FAR_PX` where no line is near.
        radius_px: (H, W) float32, half width of the line that is nearest.
    """

    def __init__(self, height_px: int, width_px: int) -> None:
        self.distance_px = np.full((height_px, width_px), FAR_PX, np.float32)
        self.radius_px = np.zeros((height_px, width_px), np.float32)

    def add(self, line: Line) -> None:
        """Unite with the discs along a line."""
        height, width = self.distance_px.shape
        for (row, col), radius in zip(line.points.tolist(), line.radius_px.tolist(), strict=True):
            reach = int(radius) + _REACH_PX
            top, left = max(0, round(row) - reach), max(0, round(col) - reach)
            bottom, right = min(height, round(row) + reach + 1), min(width, round(col) + reach + 1)
            if top >= bottom or left >= right:
                continue
            down = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(row)
            across = np.arange(left, right, dtype=np.float32)[None] - np.float32(col)
            away = np.sqrt(down * down + across * across) - np.float32(radius)
            here = self.distance_px[top:bottom, left:right]
            nearer = away < here
            here[nearer] = away[nearer]
            self.radius_px[top:bottom, left:right][nearer] = radius

    def ravel(self, rng: np.random.Generator, scale: float) -> None:
        """Tear the lips: move the border by a noise, less where the crack is narrow, so that it never falls apart."""
        from scipy.ndimage import gaussian_filter

        shape = self.distance_px.shape
        torn = np.zeros(shape, np.float32)
        for sigma, weight in ((0.9, 0.5), (2.4 * scale, 1.0)):
            noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), max(0.7, sigma))
            torn += weight * noise / noise.std()
        self.distance_px += 0.2 * np.clip(self.radius_px - 0.9, 0.0, 6.0) * np.clip(torn, -2.4, 2.4)

    def clearance_px(self, points: Floats) -> float:
        """The least distance of some points from what is there already; points outside the picture do not count."""
        rows, cols = np.rint(points).astype(int).T
        inside = (rows >= 0) & (rows < self.distance_px.shape[0]) & (cols >= 0) & (cols < self.distance_px.shape[1])
        return float(self.distance_px[rows[inside], cols[inside]].min(initial=FAR_PX))


def walk(
    rng: np.random.Generator,
    start: tuple[float, float],
    heading_rad: float,
    length_px: float,
    facet_px: float,
    wander: float,
) -> Floats:
    """A faceted walk, (n, 2) points about half a pixel apart.

    Args:
        rng: Draws the facets.
        start: Row and column of the first point.
        heading_rad: 0 runs along the columns, pi / 2 down the rows.
        length_px: Along the walk.
        facet_px: Mean length of a straight piece.
        wander: Deviation of a piece's direction from the heading, in rad.
    """
    from scipy.ndimage import gaussian_filter1d

    count = max(3, math.ceil(1.5 * length_px / facet_px))
    pieces = facet_px * (0.35 + rng.exponential(0.65, count))
    drift = np.cumsum(rng.normal(0.0, 0.10, count))
    angles = heading_rad + 0.6 * (drift - 0.3 * np.arange(count) * drift[-1] / count) + rng.normal(0.0, wander, count)
    corners = np.concatenate(([0.0], np.cumsum(pieces)))
    steps = np.arange(0.0, min(length_px, corners[-1]), _STEP_PX)
    turns = np.stack((np.sin(angles), np.cos(angles)), axis=1) * pieces[:, None]
    places = np.concatenate((np.zeros((1, 2)), np.cumsum(turns, axis=0))) + np.asarray(start)
    points = np.stack([np.interp(steps, corners, places[:, axis]) for axis in (0, 1)], axis=1)
    return gaussian_filter1d(points, 0.08 * facet_px / _STEP_PX, axis=0, mode="nearest")


def rough(rng: np.random.Generator, count: int, period_px: float) -> Floats:
    """(count,) a wavering of unit deviation along a line."""
    from scipy.ndimage import gaussian_filter1d

    sigma = max(0.8, 0.4 * period_px / _STEP_PX)
    margin = int(4 * sigma)
    noise = gaussian_filter1d(rng.standard_normal(count + 2 * margin), sigma)[margin : margin + count]
    # By the deviation that the filter leaves, not the piece's own: a short piece hardly wavers, and may lie anywhere.
    return np.clip(noise * math.sqrt(2.0 * math.sqrt(math.pi) * sigma), -2.5, 2.5)


def gape(
    rng: np.random.Generator, points: Floats, root_px: float, tip_px: float, power: float, *, free: bool, scale: float
) -> Line:
    """Open a crack along a walk.

    Args:
        rng: Draws the raggedness of its lips.
        points: Of `walk`.
        root_px: Half width at the root, or in the middle where both ends are free.
        tip_px: Half width at a tip.
        power: How soon it narrows: below 1 it stays wide for long.
        free: Both ends are tips.
        scale: Size of features relative to a picture of 512 x 640.
    """
    count = len(points)
    place = np.linspace(0.0, 1.0, count)
    shape = (1.0 - (2.0 * place - 1.0) ** 2) if free else (1.0 - place)
    radius = tip_px + (root_px - tip_px) * shape**power
    ragged = 0.15 * rough(rng, count, 24.0 * scale)
    radius = np.maximum(tip_px, radius * np.exp(ragged))
    along = np.gradient(points, axis=0)
    normal = np.stack((-along[:, 1], along[:, 0]), axis=1) / np.maximum(np.linalg.norm(along, axis=1), 1e-6)[:, None]
    # The lips waver apart from each other: that moves the middle between them.
    middle = points + normal * (0.25 * (radius - tip_px) * rough(rng, count, 14.0 * scale))[:, None]
    tips = middle[[0, -1]] if free else middle[-1:]
    # The region ends a radius beyond the last disc's middle, and that end is the tip.
    ends = along[[0, -1]] * [[-1.0], [1.0]] if free else along[-1:]
    reach = radius[[0, -1]] if free else radius[-1:]
    tips = tips + ends / np.maximum(np.linalg.norm(ends, axis=1), 1e-6)[:, None] * reach[:, None]
    return Line(middle.astype(np.float32), radius.astype(np.float32), tips.astype(np.float32))
