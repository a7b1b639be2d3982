"""The shapes planted on synthetic steel: four classes of defects, and harmless marks that resemble them.

A shape is a patch of gain, by which the clean surface is multiplied, so a defect takes part in the light and
in the texture around it. Its truth is drawn as the annotators of real strip images draw it: one region around
the defect and a little more, not the single dark pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from camera.steel.surface import GRAIN, STREAKS, Floats, Surface, interpolation, product, value_noise

_LEAST_HEIGHT_PX = 24


@dataclass(frozen=True, slots=True)
class Patch:
    """A mark, not yet placed.

    Attributes:
        gain: (h, w) float32, factor on the surface's brightness; 1 leaves it.
        truth: (h, w) bool, the defect's region; None for a harmless mark.
    """

    gain: Floats
    truth: NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of mark.

    Attributes:
        draw: Draws one, at most as many rows high as it is told, at the given scale.
        rows: Least and greatest height at scale 1; heights are drawn evenly in the logarithm.
    """

    draw: Callable[[np.random.Generator, Surface, float, int], Patch]
    rows: tuple[int, int]

    def height_px(self, rng: np.random.Generator, scale: float) -> int:
        """The height of one such mark, which tells cheaply which frames it can reach."""
        return _size(rng, *self.rows, scale, _LEAST_HEIGHT_PX)


def _curve(rng: np.random.Generator, count: int, knots: int) -> Floats:
    """A smooth random curve of `count` samples, about unit deviation."""
    return 1.3 * (interpolation(count, max(2, knots)) @ rng.standard_normal(max(2, knots), dtype=np.float32))


def _blur(count: int) -> Floats:
    """The (count, count) matrix that blurs along an axis by a bell of 1.1 cells, 1 at its top."""
    offset = np.arange(count, dtype=np.float32)[:, None] - np.arange(count, dtype=np.float32)
    return np.exp(-0.5 * (offset / np.float32(1.1)) ** 2)


def _slope(field: Floats, step: int) -> Floats:
    """The field's rise along the diagonal over `step` pixels, 0 at its first rows and columns."""
    slope = np.zeros_like(field)
    slope[step:, step:] = field[step:, step:] - field[:-step, :-step]
    return slope


def _taper(count: int, share: float) -> Floats:
    """1 along a mark and down to 0 at both ends, over `share` of its length each."""
    place = np.linspace(0.0, 1.0, count, dtype=np.float32)
    return np.clip(np.minimum(place, 1.0 - place) / share, 0.0, 1.0)


def _size(rng: np.random.Generator, low: float, high: float, scale: float, least: int) -> int:
    """A size in pixels, drawn evenly in the logarithm."""
    return max(least, round(scale * math.exp(rng.uniform(math.log(low), math.log(high)))))


def _blob(rng: np.random.Generator, height: int, width: int, ragged: float) -> Floats:
    """A field (height, width) above 0 inside an irregular blob: about 0.6 at its middle, -0.4 outside."""
    down = np.linspace(-1.0, 1.0, height, dtype=np.float32)[:, None]
    across = np.linspace(-1.0, 1.0, width, dtype=np.float32)[None, :]
    bowl = 0.62 - down * down - across * across
    border = np.clip(8.0 * (1.0 - np.maximum(np.abs(down), np.abs(across))), 0.0, 1.0)
    rough = value_noise(rng, height, width, (4, 4)) + 0.45 * value_noise(rng, height, width, (9, 9))
    return (bowl + ragged * rough) * border - 0.4 * (1.0 - border)


def pitting(rng: np.random.Generator, _surface: Surface, scale: float, height: int) -> Patch:
    """Class 1: a cluster of small dark pits, longer along the travel."""
    width = _size(rng, 40, 110, scale, 14)
    number = int(rng.integers(14, 30) + height * width * scale**-2 / 500)
    rows = (0.5 + 0.17 * np.clip(rng.standard_normal(number), -2.0, 2.0)) * (height - 1)
    cols = (0.5 + 0.15 * np.clip(rng.standard_normal(number), -2.0, 2.0)) * (width - 1)
    gain = np.ones((height, width), np.float32)
    depth = rng.uniform(0.38, 0.8)
    reach = max(3, round(7 * scale))
    window = np.arange(-reach, reach + 1, dtype=np.float32)
    grid = (max(6, round(height / (6.0 * scale))), max(6, round(width / (6.0 * scale))))
    density = np.zeros(grid, np.float32)
    pits = (np.rint(rows / height * grid[0]).astype(int), np.rint(cols / width * grid[1]).astype(int))
    np.add.at(density, pits, 1.0)
    for row, col in zip(rows, cols, strict=True):
        radius = max(0.7, scale * rng.uniform(1.0, 2.9))
        length = radius * rng.uniform(1.0, 1.9)
        down, across = (window / length) ** 2, (window / radius) ** 2
        pit = np.exp(-0.5 * (down[:, None] + across[None, :]))
        top, left = round(row) - reach, round(col) - reach
        cut = (slice(max(0, top), top + 2 * reach + 1), slice(max(0, left), left + 2 * reach + 1))
        part = pit[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]
        gain[cut] *= 1.0 - depth * rng.uniform(0.6, 1.0) * part
        # The far rim of a pit catches the light.
        gain[cut] += 0.25 * depth * np.roll(part, 2, axis=0) * (1.0 - part)
    # A bell about each pit joins them into one region, as an annotator's outline does.
    density = _blur(grid[0]) @ density @ _blur(grid[1])
    smooth = product(interpolation(height, grid[0]), density @ interpolation(width, grid[1]).T)
    return Patch(gain, smooth > 0.33)


def inclusion(rng: np.random.Generator, surface: Surface, scale: float, height: int) -> Patch:
    """Class 2: short narrow smears of several strands, dark with some bright, along the travel."""
    width = _size(rng, 30, 52, scale, 10)
    gain = np.ones((height, width), np.float32)
    across = np.arange(width, dtype=np.float32)[None, :]
    bend, lean = 0.07 * width * _curve(rng, height, 3), rng.uniform(-0.06, 0.06)
    middle = 0.5 * width + bend + lean * np.arange(height)
    middle = np.clip(middle, 0.3 * width, 0.7 * width).astype(np.float32)[:, None]
    along = np.linspace(0.0, 1.0, height, dtype=np.float32)
    body = _taper(height, 0.35)[:, None]
    depth = rng.uniform(0.36, 0.68)
    half = rng.uniform(0.11, 0.17) * width
    smear = np.exp(-0.5 * ((across - middle) / (half * (0.45 + 0.55 * body))) ** 2) * np.sqrt(body)
    streaks = surface.relief(rng, height, width, STREAKS)
    grain = surface.relief(rng, height, width, GRAIN)
    gain *= 1.0 - depth * smear * np.clip(0.85 + 0.3 * streaks + 0.12 * grain, 0.15, 1.4)
    for _ in range(int(rng.integers(1, 4))):
        strand = middle + rng.uniform(-1.2, 1.2) * half
        begin, end = sorted(rng.uniform(0.0, 1.0, 2))
        present = (along >= begin) & (along <= max(end, begin + 0.25))
        lit = np.clip(1.5 * _taper(height, 0.2), 0.0, 1.0) * present
        line = np.exp(-0.5 * ((across - strand) / max(0.7, 1.3 * scale)) ** 2) * lit[:, None]
        bright = rng.random() < 0.35
        gain *= 1.0 + (rng.uniform(0.3, 0.9) if bright else -0.6 * depth) * line
    truth = (np.abs(across - middle) < 2.3 * half * (0.55 + 0.45 * body) + 2.0 * scale) & (body > 0.03)
    return Patch(gain, truth)


def scratch(rng: np.random.Generator, surface: Surface, scale: float, height: int) -> Patch:
    """Class 3: long thin lines, dark or bright, straight or slightly bent, mostly along the travel."""
    strands = int(rng.choice((1, 2, 3), p=(0.62, 0.25, 0.13)))
    scuffed = rng.random() < 0.22
    spread = scale * (rng.uniform(8.0, 17.0) if scuffed else 5.0 * (strands - 1) * rng.uniform(0.8, 1.6))
    oblique = rng.random() < 0.2
    slope = rng.uniform(-0.55, 0.55) if oblique else rng.normal(0.0, 0.012)
    if oblique:
        height = min(height, round(280 * scale))
    path = slope * np.arange(height) + scale * rng.uniform(0.3, 2.2) * _curve(rng, height, 2 + height // 150)
    if rng.random() < 0.2:
        path = path + rng.uniform(-22.0, 22.0) * scale * np.linspace(-1.0, 1.0, height) ** 2
    margin = scale * rng.uniform(7.0, 11.0)
    path = (path - path.min() + 0.5 * spread + margin + 2.0).astype(np.float32)
    width = math.ceil(float(path.max()) + 0.5 * spread + margin + 2.0)
    across = np.arange(width, dtype=np.float32)[None, :] - path[:, None]
    body = np.minimum(1.0, 1.6 * _taper(height, 0.18))
    gain = np.ones((height, width), np.float32)
    bright = rng.random() < 0.3
    depth = rng.uniform(0.35, 1.1) if bright else -rng.uniform(0.3, 0.72)
    for place in np.linspace(-0.5, 0.5, strands) if strands > 1 else (0.0,):
        sharp = max(0.6, scale * rng.uniform(0.7, 1.6))
        worn = np.clip(0.8 + 0.35 * _curve(rng, height, 3 + height // 25), 0.15, 1.2)
        worn *= np.clip(1.0 + 0.2 * rng.standard_normal(height, dtype=np.float32), 0.4, 1.5)
        offset = across - np.float32(place * spread)
        line = np.exp(-0.5 * (offset / sharp) ** 2) * (body * worn)[:, None]
        gain *= np.maximum(1.0 + np.float32(depth) * line, 0.12)
        # A groove throws up a lip beside it.
        lip = np.exp(-0.5 * ((offset - np.float32(2.4 * sharp)) / sharp) ** 2) * (body * worn)[:, None]
        gain *= 1.0 - np.float32(0.18 * depth) * lip
    if scuffed:
        hairs = surface.relief(rng, height, width, STREAKS)
        band = np.exp(-np.square(np.square(across / np.float32(0.55 * spread)))) * body[:, None]
        gain *= np.clip(1.0 + np.float32(0.45 * depth) * band * (0.5 + np.abs(hairs)), 0.2, 2.0)
    return Patch(gain, (np.abs(across) < 0.5 * spread + margin) & (body > 0.04)[:, None])


def corrosion(rng: np.random.Generator, surface: Surface, scale: float, height: int) -> Patch:
    """Class 4: a large irregular rough area with raised rims, darker or brighter than the steel around it."""
    width = _size(rng, 90, 330, scale, 22)
    blob = _blob(rng, height, width, rng.uniform(0.14, 0.3))
    edge = blob + 0.05 * surface.relief(rng, height, width)
    edge += 0.02 * surface.relief(rng, height, width, GRAIN)
    inside = np.clip(edge * 14.0, 0.0, 1.0)
    lumps = max(3, height // round(24 * scale + 1))
    ground = value_noise(rng, height, width, (lumps, lumps))
    relief = surface.relief(rng, height, width) + 0.8 * ground
    # Light from one side shows a relief as its slope, like an embossing.
    step = max(1, round(2 * scale))
    shade = rng.uniform(0.35, 0.75) * _slope(relief, step)
    rough = 0.14 * surface.relief(rng, height, width, GRAIN)
    tone = rng.uniform(0.5, 0.8) if rng.random() < 0.72 else rng.uniform(1.15, 1.55)
    cracks = np.exp(-((ground / 0.06) ** 2)) * rng.uniform(0.0, 0.5)
    texture = np.clip(tone * (1.0 + shade + rough - cracks), 0.15, 2.4)
    gain = 1.0 + inside * (texture - 1.0)
    rim = np.exp(-((edge / 0.045) ** 2))
    gain *= np.clip(1.0 + rim * (rng.uniform(-0.5, -0.15) + 7.0 * _slope(edge, step)), 0.3, 1.9)
    return Patch(gain.astype(np.float32), blob > -0.1)


def smudge(rng: np.random.Generator, _surface: Surface, scale: float, height: int) -> Patch:
    """Harmless: a soft dark smear without an edge."""
    width = _size(rng, 45, 150, scale, 12)
    soft = np.clip(_blob(rng, height, width, 0.25), 0.0, 0.5)
    return Patch(1.0 - np.float32(rng.uniform(0.2, 0.7)) * soft, None)


def drops(rng: np.random.Generator, _surface: Surface, scale: float, height: int) -> Patch:
    """Harmless: a few water drops, faint discs with a brighter ring."""
    width = _size(rng, 60, 260, scale, 24)
    gain = np.ones((height, width), np.float32)
    down, across = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None, :]
    dark = rng.uniform(0.08, 0.3)
    for _ in range(int(rng.integers(1, 6))):
        radius = scale * rng.uniform(5.0, 14.0)
        row, col = rng.uniform(radius + 3, height - radius - 3), rng.uniform(radius + 3, width - radius - 3)
        distance = np.sqrt((down - row) ** 2 + ((across - col) * rng.uniform(0.85, 1.2)) ** 2)
        gain *= 1.0 - np.float32(dark) * np.clip(0.5 * (radius - distance), 0.0, 1.0)
        gain *= 1.0 + np.float32(0.8 * dark) * np.exp(-(((distance - radius) / 1.4) ** 2))
    return Patch(gain, None)


def roll_mark(rng: np.random.Generator, _surface: Surface, scale: float, height: int) -> Patch:
    """Harmless: a faint broad band along the travel, a little brighter or darker."""
    width = _size(rng, 14, 70, scale, 10)
    across = np.linspace(-1.6, 1.6, width, dtype=np.float32)[None, :]
    path = 0.12 * _curve(rng, height, 2 + height // 200)[:, None]
    band = np.exp(-np.square(np.square(across - path))) * _taper(height, 0.3)[:, None]
    return Patch(1.0 + np.float32(rng.choice((-1.0, 1.0)) * rng.uniform(0.05, 0.18)) * band, None)


def scale_patch(rng: np.random.Generator, surface: Surface, scale: float, height: int) -> Patch:
    """Harmless: a large patch of another tone with a clear outline, its texture that of the steel around."""
    width = _size(rng, 90, 420, scale, 24)
    blob = _blob(rng, height, width, 0.25) + 0.03 * surface.relief(rng, height, width)
    clear = np.clip(blob * rng.uniform(4.0, 25.0), 0.0, 1.0)
    return Patch(1.0 + np.float32(rng.choice((-1.0, 1.0)) * rng.uniform(0.06, 0.17)) * clear, None)


def dust(rng: np.random.Generator, _surface: Surface, scale: float, height: int) -> Patch:
    """Harmless: loose bright and dark specks, too thin and too far apart to be pits."""
    width = _size(rng, 80, 300, scale, 20)
    gain = np.ones((height, width), np.float32)
    number = int(rng.integers(6, 26))
    rows, cols = rng.integers(0, height - 2, number), rng.integers(0, width - 2, number)
    levels = np.where(rng.random(number) < 0.6, rng.uniform(1.25, 2.0, number), rng.uniform(0.6, 0.8, number))
    for row, col, level in zip(rows, cols, levels, strict=True):
        gain[row : row + 2, col : col + 2] = level
    return Patch(gain, None)


def powder(rng: np.random.Generator, surface: Surface, scale: float, height: int) -> Patch:
    """Harmless: a dusting of loose bright scale, a speckled band along the travel."""
    width = _size(rng, 24, 130, scale, 12)
    soft = np.clip(2.0 * _blob(rng, height, width, 0.3), 0.0, 1.0)
    coarse = np.clip(surface.relief(rng, height, width) - 0.2, 0.0, 1.0)
    specks = np.clip(surface.relief(rng, height, width, GRAIN) - 0.5, 0.0, 2.0)
    return Patch(1.0 + np.float32(rng.uniform(0.25, 0.8)) * soft * specks * (0.25 + coarse), None)


DEFECTS: dict[int, Shape] = {
    1: Shape(pitting, (70, 210)),
    2: Shape(inclusion, (60, 200)),
    3: Shape(scratch, (150, 620)),
    4: Shape(corrosion, (90, 340)),
}
LOOK_ALIKES: tuple[Shape, ...] = (
    Shape(smudge, (50, 320)),
    Shape(drops, (60, 200)),
    Shape(roll_mark, (180, 900)),
    Shape(scale_patch, (130, 620)),
    Shape(dust, (80, 300)),
    Shape(powder, (90, 420)),
)
