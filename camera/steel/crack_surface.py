"""The surface of a pipe section in the test laboratory, and all that lies on it and is no crack."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camera.steel.crack_shape import Line, Region, rough, walk
from camera.steel.surface import value_noise

Floats = NDArray[np.floating[Any]]


class Plane:
    """Coordinates of the pixels of a picture.

    Attributes:
        row, col: (H, 1) and (1, W) float32, in px.
        scale: Size of features relative to a picture of 512 x 640.
    """

    def __init__(self, height_px: int, width_px: int) -> None:
        self.height_px, self.width_px = height_px, width_px
        self.row = np.arange(height_px, dtype=np.float32)[:, None]
        self.col = np.arange(width_px, dtype=np.float32)[None]
        self.scale = math.sqrt(height_px * width_px / (512 * 640))

    @property
    def reach_px(self) -> float:
        """Half of the diagonal."""
        return 0.5 * math.hypot(self.height_px, self.width_px)

    def turned(self, angle_rad: float) -> tuple[Floats, Floats]:
        """Coordinates along and across a direction, from the picture's middle; both (H, W)."""
        down, right = self.row - 0.5 * self.height_px, self.col - 0.5 * self.width_px
        cos, sin = math.cos(angle_rad), math.sin(angle_rad)
        return right * cos + down * sin, down * cos - right * sin

    def clouds(self, rng: np.random.Generator, bumps: int) -> Floats:
        """A smooth random field, (H, W), about so many bumps along the longer side."""
        longer = max(self.height_px, self.width_px)
        cells = (max(2, round(bumps * self.height_px / longer)), max(2, round(bumps * self.width_px / longer)))
        return value_noise(rng, self.height_px, self.width_px, cells)


def draw_surface(rng: np.random.Generator, plane: Plane) -> Floats:
    """Brightness of the clean, finished steel, (H, W) float32, roughly 0..255: light, machining marks, grain."""
    from scipy.ndimage import gaussian_filter

    angle = float(rng.uniform(0.0, math.pi))
    along, across = plane.turned(angle)
    bend = float(rng.normal(0.0, 0.25)) / plane.reach_px
    across = across + bend * along * along
    texture = 0.055 * rng.uniform(0.5, 1.3) * _streaks(rng, along, across, 1.0, 130.0 * plane.scale)
    texture += 0.035 * rng.uniform(0.2, 1.6) * _streaks(rng, along, across, 5.0 * plane.scale, 900.0 * plane.scale)
    if rng.random() < 0.5:  # the tool's feed: marks at an even distance
        pitch = rng.uniform(5.0, 16.0) * plane.scale
        ripple = np.sin(2.0 * math.pi * across / pitch + 0.8 * plane.clouds(rng, 4))
        texture += rng.uniform(0.01, 0.05) * ripple * np.clip(0.6 + 0.5 * plane.clouds(rng, 3), 0.0, 1.4)
    grain = gaussian_filter(rng.standard_normal(texture.shape, dtype=np.float32), rng.uniform(0.6, 1.1))
    texture += rng.uniform(0.02, 0.05) * grain / grain.std()
    texture += 0.04 * plane.clouds(rng, 14) + 0.05 * plane.clouds(rng, 5)
    return ((1.0 + texture) * _light(rng, plane)).astype(np.float32)


def _light(rng: np.random.Generator, plane: Plane) -> Floats:
    """A lamp beside a curved wall: the pipe falls off to two sides, and one band of it shines."""
    _, across = plane.turned(float(rng.normal(0.0, 0.25) + (0.5 * math.pi if rng.random() < 0.25 else 0.0)))
    place = across / plane.reach_px - rng.uniform(-0.35, 0.35)
    light = 1.0 - rng.uniform(0.15, 0.55) * place * place
    shine = (place - rng.uniform(-0.5, 0.5)) / rng.uniform(0.15, 0.5)
    light += rng.uniform(0.0, 0.35) * np.exp(-0.5 * shine * shine)
    light *= 1.0 + 0.10 * plane.clouds(rng, 3)
    return rng.uniform(95.0, 175.0) * np.clip(light, 0.25, 1.7)


def _streaks(rng: np.random.Generator, along: Floats, across: Floats, fine_px: float, length_px: float) -> Floats:
    """Marks of unit deviation, so wide and so long, in any direction: a table of noise read at an angle."""
    from scipy.ndimage import gaussian_filter1d, map_coordinates

    down, right = across / fine_px, along / length_px
    down, right = down - down.min() + 1.0, right - right.min() + 1.0
    table = rng.standard_normal((int(right.max()) + 3, int(down.max()) + 3), dtype=np.float32)
    table = gaussian_filter1d(table, 0.6, axis=1)
    # Every streak begins elsewhere, or they would all end on one line.
    shift = np.sin(down * 12.9898) * 0.5
    marks = map_coordinates(table, (right + shift, down), order=1, mode="nearest")
    return marks / max(1e-6, float(marks.std()))


def soil(rng: np.random.Generator, plane: Plane, steel: Floats, amount: float) -> Floats:
    """Put on the steel what looks like a crack and is none: stains, scratches, scribed lines, hairs, pits.

    Args:
        rng: Draws it.
        plane: Of the picture.
        steel: Brightness (H, W).
        amount: 1 is usual, 0 leaves the steel clean.
    """
    steel = _stain(rng, plane, steel, int(rng.poisson(1.2 * amount)))
    if rng.random() < 0.25 * amount:
        steel = _scribe(rng, plane, steel)
    for _ in range(rng.poisson(5.0 * amount)):
        steel = _scratch(rng, plane, steel)
    if rng.random() < 0.2 * amount:
        steel = _hair(rng, plane, steel)
    return _pit(rng, plane, steel, int(rng.poisson(14.0 * amount)))


def _stain(rng: np.random.Generator, plane: Plane, steel: Floats, count: int) -> Floats:
    """Dried liquid and rust: a darker region whose rim is darkest, with an uneven, soft border."""
    for _ in range(count):
        field = plane.clouds(rng, int(rng.integers(3, 8))) + 0.12 * plane.clouds(rng, 40)
        level = field - rng.uniform(0.7, 1.5)
        within = 1.0 / (1.0 + np.exp(np.clip(-level / rng.uniform(0.03, 0.15), -30.0, 30.0)))
        rim = np.exp(-0.5 * (level / rng.uniform(0.02, 0.07)) ** 2)
        steel = steel * (1.0 - rng.uniform(0.04, 0.25) * within - rng.uniform(0.0, 0.22) * rim)
    return steel


def _scribe(rng: np.random.Generator, plane: Plane, steel: Floats) -> Floats:
    """Lines at an even distance, by which a crack's growth is read off: straight, of one width, with a raised lip."""
    along, _ = plane.turned(float(rng.normal(0.0, 0.12) + (0.5 * math.pi if rng.random() < 0.5 else 0.0)))
    pitch = rng.uniform(60.0, 140.0) * plane.scale
    away = np.abs((along + rng.uniform(0.0, pitch)) % pitch - 0.5 * pitch)
    half = rng.uniform(0.5, 1.1)
    faded = np.clip(0.8 + 0.4 * plane.clouds(rng, 6), 0.15, 1.0)
    groove, lip = np.clip(half + 0.5 - away, 0.0, 1.0), np.clip(1.0 - np.abs(away - half - 1.2), 0.0, 1.0)
    return steel * (1.0 - faded * (rng.uniform(0.2, 0.6) * groove - 0.15 * lip))


def _scratch(rng: np.random.Generator, plane: Plane, steel: Floats) -> Floats:
    """Straight or slightly bent, thin, of one width, dark in the groove and bright at its lip or the other way."""
    length = rng.uniform(0.1, 0.9) * plane.reach_px * 1.4
    angle = rng.uniform(0.0, 2.0 * math.pi)
    steps = np.arange(0.0, length, 0.8)
    turn = angle + rng.normal(0.0, 0.25) * steps / max(length, 1.0)
    points = np.cumsum(np.stack((np.sin(turn), np.cos(turn)), axis=1) * 0.8, axis=0)
    points += rng.uniform(-0.1, 0.9, 2) * (plane.height_px, plane.width_px)
    half = rng.uniform(0.25, 0.9) * max(0.7, min(1.5, plane.scale))
    ends = np.clip(np.minimum(steps, length - steps) / (0.15 * length), 0.0, 1.0)
    gaps = np.clip(1.2 + 0.8 * rough(rng, len(steps), 30.0 * plane.scale), 0.0, 1.0)
    groove = _ribbon(plane, Line(points, np.full(len(steps), half), points[:0]), ends * gaps)
    lip = np.roll(groove, (round(1.6 * math.cos(angle)), round(-1.6 * math.sin(angle))), (0, 1))
    depth = rng.uniform(0.12, 0.55) * (1.0 if rng.random() < 0.65 else -0.7)
    return steel * (1.0 - depth * groove + 0.5 * abs(depth) * lip * (groove < 0.2))


def _hair(rng: np.random.Generator, plane: Plane, steel: Floats) -> Floats:
    """A fibre lying on the steel: dark, smooth, bent, of one width from end to end, with its own soft shadow."""
    from scipy.ndimage import gaussian_filter, gaussian_filter1d

    start = rng.uniform(0.1, 0.9, 2) * (plane.height_px, plane.width_px)
    length = rng.uniform(60.0, 260.0) * plane.scale
    path = walk(rng, (start[0], start[1]), rng.uniform(0.0, 2.0 * math.pi), length, 28.0 * plane.scale, 0.5)
    path = gaussian_filter1d(path, 24.0 * plane.scale, axis=0, mode="nearest")
    fibre = _ribbon(plane, Line(path, np.full(len(path), rng.uniform(0.5, 1.1)), path[:0]), np.ones(len(path)))
    shadow = np.roll(gaussian_filter(fibre, 1.5), (2, 1), (0, 1))
    return steel * (1.0 - 0.25 * shadow) * (1.0 - rng.uniform(0.35, 0.7) * fibre)


def _ribbon(plane: Plane, line: Line, strength: Floats) -> Floats:
    """(H, W) 0..1: how much of a line covers each pixel, weakened along it."""
    region = Region(plane.height_px, plane.width_px)
    kept = strength > 0.02
    # The radius field carries the strength: it is that of the nearest point.
    region.add(Line(line.points[kept], line.radius_px[kept], line.tips))
    cover = np.clip(0.5 - region.distance_px, 0.0, 1.0)
    if np.ptp(strength) > 0.0:
        rows, cols = np.nonzero(cover)
        if len(rows):
            from scipy.spatial import KDTree

            _, nearest = KDTree(line.points[kept]).query(np.stack((rows, cols), axis=1))
            cover[rows, cols] *= strength[kept][nearest]
    return cover


def _pit(rng: np.random.Generator, plane: Plane, steel: Floats, count: int) -> Floats:
    """Corrosion pits and dirt: small, dark, roundish."""
    for _ in range(count):
        row, col = rng.uniform(0.0, 1.0, 2) * (plane.height_px, plane.width_px)
        half = rng.uniform(0.6, 3.0) * max(0.5, plane.scale)
        reach = math.ceil(3.0 * half) + 1
        rows = slice(max(0, int(row) - reach), int(row) + reach + 1)
        cols = slice(max(0, int(col) - reach), int(col) + reach + 1)
        down, right = plane.row[rows] - row, (plane.col[:, cols] - col) * rng.uniform(0.7, 1.4)
        away = np.sqrt(down * down + right * right)
        steel[rows, cols] *= 1.0 - rng.uniform(0.15, 0.7) * np.clip(half + 0.5 - away, 0.0, 1.0)
    return steel
