"""A cracked pipe section under the laboratory's camera, with its exact mask and the exact places of its tips.

One main crack grows from the picture's border, or from the specimen's edge, and ends inside; branches leave it, and
separate secondary cracks lie beside it. Scratches, scribed lines, stains with their rims, hairs and pits lie around
and are no cracks. A picture is a pure function of its seed and settings; sizes follow the picture's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camera.steel.crack_shape import Line, Region, gape, walk
from camera.steel.crack_surface import Plane, draw_surface, soil

Floats = NDArray[np.floating[Any]]

GENERATOR = 2
"""Rises whenever a seed gives other pictures than before; kept pictures are then drawn again."""

_TIP_PX = 0.9
"""Half width at a tip: what a camera still shows of a crack, whatever the picture's size."""
_MARGIN_PX = 14.0
"""A tip lies at least so far inside a picture of 512 x 640."""
_TRIES = 40


@dataclass(frozen=True, slots=True)
class CrackPicture:
    """A picture with its truth.

    Attributes:
        pixels: (H, W) uint8.
        mask: (H, W) bool, the pixels whose middle lies inside a crack.
        tips: (k, 2) float32, row and column in px: the main crack's tip first, then those of branches and of
            secondary cracks, which have two each; empty without a crack.
    """

    pixels: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    tips: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Edge:
    """The specimen's own edge in the picture.

    Attributes:
        inside_px: (H, W) distance from the edge, positive on the specimen.
        depth_px: How far the edge lies from that side of the picture.
    """

    inside_px: Floats
    depth_px: float


def draw_crack(
    seed: int,
    *,
    height_px: int = 512,
    width_px: int = 640,
    cracked: bool = True,
    branches: float = 1.6,
    separate: float = 1.2,
    look_alikes: float = 1.0,
) -> CrackPicture:
    """One picture.

    Args:
        seed: 0 or more; another seed is another specimen.
        height_px: Rows, 64 or more.
        width_px: Columns, 64 or more.
        cracked: Whether there is a crack at all.
        branches: Mean number of branches of the main crack.
        separate: Mean number of secondary cracks apart from it.
        look_alikes: How much there is that is no crack: 1 is usual, 0 none.
    """
    rng = np.random.default_rng((seed, 0xC8AC))
    plane = Plane(height_px, width_px)
    side = int(rng.integers(4))
    steel = soil(rng, plane, draw_surface(rng, plane), look_alikes)
    edge = _draw_edge(rng, plane, side) if rng.random() < 0.35 else None
    region, tips = Region(height_px, width_px), np.empty((0, 2), np.float32)
    if cracked:
        lines = _grow(rng, plane, side, 0.0 if edge is None else edge.depth_px, branches, separate, region)
        region.ravel(rng, plane.scale)
        tips = np.concatenate([line.tips for line in lines]).astype(np.float32)
        steel = _open(rng, plane, steel, region)
    mask = region.distance_px < 0.0
    if edge is not None:
        steel = _cut_off(rng, plane, steel, edge)
        mask &= edge.inside_px > 0.0
    return CrackPicture(_expose(rng, plane, steel), mask, tips)


def _grow(
    rng: np.random.Generator,
    plane: Plane,
    side: int,
    depth_px: float,
    branches: float,
    separate: float,
    region: Region,
) -> list[Line]:
    """The main crack, its branches and the cracks beside it; each is added to the region."""
    scale = plane.scale
    main = _main(rng, plane, side, depth_px)
    region.add(main)
    lines = [main]
    length = 0.6 * len(main.points)
    for _ in range(rng.poisson(branches)):
        place = int(rng.uniform(0.15, 0.85) * len(main.points))
        # Shorter than what is left of the main crack, so that the longest path stays the main crack's.
        left_px = length * (1.0 - place / len(main.points))
        reach = rng.uniform(0.25, 0.6) * left_px
        root = min(0.7 * float(main.radius_px[place]), rng.uniform(1.4, 4.0) * scale)
        if reach < 18.0 * scale or root < 1.2:
            continue
        heading = _heading(main.points, place) + rng.choice((-1.0, 1.0)) * rng.uniform(0.45, 1.1)
        row, col = main.points[place].tolist()
        path = walk(rng, (row, col), heading, reach, 9.0 * scale, 0.5)
        own = path[int(np.ceil((float(main.radius_px[place]) + 6.0 * scale) / 0.6)) :]
        if len(own) > 20 and _fits(plane, path[-1:], depth_px, side) and region.clearance_px(own) > 3.0 * scale:
            lines.append(gape(rng, path, root, _TIP_PX, rng.uniform(0.5, 1.0), free=False, scale=scale))
            region.add(lines[-1])
    for _ in range(rng.poisson(separate)):
        line = _separate(rng, plane, main, depth_px, side)
        if region.clearance_px(line.points) > float(line.radius_px.max()) + 5.0 * scale:
            lines.append(line)
            region.add(line)
    return lines


def _main(rng: np.random.Generator, plane: Plane, side: int, depth_px: float) -> Line:
    """From one side of the picture inwards, until it runs out."""
    inwards = (0.5 * math.pi, math.pi, -0.5 * math.pi, 0.0)[side]
    span = (plane.height_px, plane.width_px)[side % 2] - depth_px
    for _ in range(_TRIES):
        start = _on_side(plane, side, rng.uniform(0.2, 0.8), depth_px - 8.0 * plane.scale)
        length = rng.uniform(0.35, 1.0) * span
        path = walk(rng, start, inwards + rng.normal(0.0, 0.2), length, rng.uniform(8.0, 18.0) * plane.scale, 0.42)
        if _fits(plane, path[len(path) // 3 :], depth_px, side):
            break
    else:
        # Straight in for a third of the way always ends inside.
        start = _on_side(plane, side, 0.5, depth_px - 8.0 * plane.scale)
        path = walk(rng, start, inwards, 0.4 * span, 12.0 * plane.scale, 0.05)
    root = rng.uniform(3.2, 11.0) * plane.scale
    return gape(rng, path, max(root, 2.0), _TIP_PX, rng.uniform(0.45, 0.9), free=False, scale=plane.scale)


def _separate(rng: np.random.Generator, plane: Plane, main: Line, depth_px: float, side: int) -> Line:
    """A short crack with two tips, beside the main one and roughly along it."""
    place = int(rng.uniform(0.2, 1.0) * (len(main.points) - 1))
    heading = _heading(main.points, place) + rng.normal(0.0, 0.5)
    away = rng.choice((-1.0, 1.0)) * rng.uniform(18.0, 110.0) * plane.scale
    row, col = main.points[place] + away * np.array((math.cos(heading), -math.sin(heading)))
    path = walk(rng, (float(row), float(col)), heading, rng.uniform(30.0, 120.0) * plane.scale, 8.0 * plane.scale, 0.45)
    if not _fits(plane, path, depth_px, side):
        path = main.points[place : place + 3].astype(np.float64)  # touches the main crack and is refused
    return gape(rng, path, max(1.3, rng.uniform(1.5, 3.6) * plane.scale), _TIP_PX, 0.8, free=True, scale=plane.scale)


def _fits(plane: Plane, points: Floats, depth_px: float, side: int) -> bool:
    """Whether all points lie well inside the picture, and on the specimen."""
    margin = max(6.0, _MARGIN_PX * plane.scale)
    low, high = np.full(2, margin), np.array((plane.height_px, plane.width_px)) - margin
    if depth_px:
        # The edge wavers by a few pixels around its depth.
        axis, inside = side % 2, depth_px + margin + 8.0 * plane.scale
        if side in (0, 3):
            low[axis] = inside
        else:
            high[axis] = (plane.height_px, plane.width_px)[axis] - inside
    return bool(((points > low) & (points < high)).all())


def _on_side(plane: Plane, side: int, place: float, depth_px: float) -> tuple[float, float]:
    """A point on the top, right, bottom or left side, so far inside."""
    height, width = plane.height_px, plane.width_px
    return (
        (depth_px, place * width),
        (place * height, width - depth_px),
        (height - depth_px, place * width),
        (place * height, depth_px),
    )[side]


def _heading(points: Floats, place: int) -> float:
    """Direction of a walk around one of its points, in rad."""
    first, last = points[max(0, place - 25)], points[min(len(points) - 1, place + 25)]
    return math.atan2(float(last[0] - first[0]), float(last[1] - first[1]))


def _open(rng: np.random.Generator, plane: Plane, steel: Floats, region: Region) -> Floats:
    """Darken the crack, light its lips, and stain the steel around it."""
    from scipy.ndimage import gaussian_filter

    distance, radius = region.distance_px, region.radius_px
    cover = np.clip(0.5 - distance, 0.0, 1.0)
    # Light falls into a wide crack no deeper than into a narrow one, but a narrow one is blurred by its own lips.
    deep = 1.0 - rng.uniform(0.06, 0.22) - rng.uniform(0.15, 0.4) * np.exp(-radius / (1.8 * max(plane.scale, 0.6)))
    deep *= np.clip(0.94 + 0.05 * plane.clouds(rng, 40) + 0.06 * plane.clouds(rng, 10), 0.5, 1.0)
    lamp = rng.uniform(0.0, 2.0 * math.pi)
    down, right = np.gradient(np.clip(distance, -3.0, 6.0))
    facing = down * math.sin(lamp) + right * math.cos(lamp)
    lip = np.exp(-0.5 * ((distance - 0.8) / 1.1) ** 2) * np.clip(radius / (2.5 * max(plane.scale, 0.6)), 0.0, 1.0)
    steel = steel * (1.0 + rng.uniform(0.05, 0.35) * facing * lip)
    if rng.random() < 0.6:  # oxide and dye that crept out of the crack
        halo = gaussian_filter(cover, rng.uniform(3.0, 12.0) * plane.scale)
        steel = steel * (1.0 - rng.uniform(0.1, 0.4) * np.clip(halo * 2.0 + 0.06 * plane.clouds(rng, 20), 0.0, 1.0))
    return steel * (1.0 - cover * deep)


def _draw_edge(rng: np.random.Generator, plane: Plane, side: int) -> _Edge:
    """The specimen ends a little inside one side of the picture."""
    depth = rng.uniform(0.06, 0.16) * (plane.height_px, plane.width_px)[side % 2]
    from_side = (
        plane.row + 0.0 * plane.col,
        plane.width_px - 1.0 - plane.col + 0.0 * plane.row,
        plane.height_px - 1.0 - plane.row + 0.0 * plane.col,
        plane.col + 0.0 * plane.row,
    )[side]
    waver = (2.0 * plane.clouds(rng, 5) + 0.5 * plane.clouds(rng, 40)) * plane.scale
    return _Edge(from_side - depth - np.clip(waver, -7.0 * plane.scale, 7.0 * plane.scale), depth)


def _cut_off(rng: np.random.Generator, plane: Plane, steel: Floats, edge: _Edge) -> Floats:
    """Put the bench behind the specimen, out of focus, and light the edge's burr."""
    bench = rng.uniform(8.0, 60.0) * (1.0 + 0.15 * plane.clouds(rng, 3))
    burr = np.exp(-0.5 * ((edge.inside_px - 1.5) / (1.3 * max(plane.scale, 0.6))) ** 2)
    steel = steel * (1.0 + rng.uniform(-0.2, 0.5) * burr)
    inside = np.clip(0.5 + edge.inside_px, 0.0, 1.0)
    return inside * steel + (1.0 - inside) * bench


def _expose(rng: np.random.Generator, plane: Plane, steel: Floats) -> NDArray[np.uint8]:
    """The lens's blur, the lens's dark corners, the sensor's noise."""
    from scipy.ndimage import gaussian_filter

    seen = gaussian_filter(steel.astype(np.float32), rng.uniform(0.45, 0.85))
    along, across = plane.turned(0.0)
    seen *= 1.0 - rng.uniform(0.0, 0.25) * (along * along + across * across) / plane.reach_px**2
    noise = rng.standard_normal(seen.shape, dtype=np.float32)
    seen += noise * rng.uniform(0.8, 3.0) * np.sqrt(np.clip(seen, 8.0, None) / 128.0)
    return np.clip(np.rint(seen + rng.uniform(0.0, 8.0)), 0, 255).astype(np.uint8)
