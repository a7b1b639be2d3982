"""What fracture surfaces are made of: cleavage facets, fibrous tearing, shear lips, splits, light and wear.

Each function draws one relative brightness (height, width) float32, 1.0 on average, from a random generator, at a
scale of so many pixels to the grain. `camera.steel.fracture` puts them together.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camera.steel.surface import interpolation, product, value_noise

Floats = NDArray[np.floating[Any]]  # float32 throughout; NumPy types arithmetic no closer


def blurred_noise(rng: np.random.Generator, shape: tuple[int, int], sigma_px: tuple[float, float]) -> Floats:
    """Gaussian noise (rows, columns) of unit deviation, blurred by `sigma_px` down and across."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma_px, mode="wrap", truncate=2.5)
    return noise / max(float(noise.std()), 1e-6)


def blurred(picture: Floats, sigma_px: float) -> Floats:
    """The picture (rows, columns) through a soft lens."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(picture, sigma_px, truncate=2.5)


def clouds(rng: np.random.Generator, shape: tuple[int, int], cell_px: float) -> Floats:
    """A smooth field of about unit deviation with one bump every `cell_px`."""
    cells = (math.ceil(shape[0] / cell_px) + 1, math.ceil(shape[1] / cell_px) + 1)
    return value_noise(rng, *shape, cells)


def facets(rng: np.random.Generator, shape: tuple[int, int], grain_px: float, glitter: float) -> Floats:
    """Cleavage: flat facets of `grain_px`, each tilted its own way, a few of them straight into the light.

    Args:
        rng: Draws the facets.
        shape: Rows and columns.
        grain_px: Mean distance of facets.
        glitter: Deviation of the facets' brightness, about 0.2 to 0.4.
    """
    sway_px = 0.9 * grain_px
    bend = 0.55 * grain_px * np.stack([blurred_noise(rng, shape, (sway_px, sway_px)) for _ in range(2)])
    fine = _facet_layer(rng, bend, grain_px, 0.75 * glitter)
    coarse = _facet_layer(rng, 1.6 * bend, 2.9 * grain_px, 0.42 * glitter)
    grit = blurred_noise(rng, shape, (0.7, 0.7))
    sparkle = np.clip(blurred_noise(rng, shape, (0.9, 0.9)) - 1.7, 0.0, 1.0)
    crystal = fine * coarse * np.exp(0.45 * glitter * grit) * (1.0 + 1.6 * glitter * sparkle)
    return blurred(crystal, 0.55)


def _facet_layer(rng: np.random.Generator, bend: Floats, grain_px: float, deviation: float) -> Floats:
    """One size of facets, whose borders are bent by so many pixels down and across, (2, rows, columns)."""
    rows, cols = bend.shape[1:]
    step = max(2.0, grain_px)
    down, across = math.ceil(rows / step) + 2, math.ceil(cols / step) + 2
    # One seed a cell of a grid, moved within it: the nearest seed lies in the cell or in one of its eight neighbours.
    seed_rows = (np.arange(down)[:, None] - 1.0 + rng.random((down, across))).astype(np.float32) * np.float32(step)
    seed_cols = (np.arange(across)[None, :] - 1.0 + rng.random((down, across))).astype(np.float32) * np.float32(step)
    grey = np.exp(deviation * rng.standard_normal((down, across), dtype=np.float32))
    glints = rng.random((down, across)) < 0.05
    grey = np.where(glints, grey * (1.0 + 2.0 * deviation), grey).astype(np.float32)
    grey *= 1.0 / float(grey.mean())
    tilt = (0.6 * deviation / step) * rng.standard_normal((2, down, across), dtype=np.float32)
    row = np.clip(np.arange(rows, dtype=np.float32)[:, None] + bend[0], 0.0, rows - 1.0)
    col = np.clip(np.arange(cols, dtype=np.float32)[None, :] + bend[1], 0.0, cols - 1.0)
    cell_row, cell_col = (row / step).astype(np.int32) + 1, (col / step).astype(np.int32) + 1
    best = np.full((rows, cols), np.inf, np.float32)
    chosen = np.zeros((rows, cols), np.int32)
    for row_step in (-1, 0, 1):
        for col_step in (-1, 0, 1):
            at = np.clip(cell_row + row_step, 0, down - 1), np.clip(cell_col + col_step, 0, across - 1)
            distance = (row - seed_rows[at]) ** 2 + (col - seed_cols[at]) ** 2
            nearer = distance < best
            np.copyto(best, distance, where=nearer)
            np.copyto(chosen, at[0] * across + at[1], where=nearer)
    slope = tilt[0].ravel()[chosen] * (row - seed_rows.ravel()[chosen])
    slope += tilt[1].ravel()[chosen] * (col - seed_cols.ravel()[chosen])
    return grey.ravel()[chosen] + np.clip(slope, -0.4, 0.4)


def fibres(rng: np.random.Generator, shape: tuple[int, int], grain_px: float, along: float) -> Floats:
    """Ductile tearing: dull, fine and fibrous, in ridges of uneven height.

    Args:
        rng: Draws the fibres.
        shape: Rows and columns.
        grain_px: Size of the dimples.
        along: How many times longer than wide the fibres are, across the picture; below 1 they run down it.
    """
    stretch = math.sqrt(along)
    fine, ridges, folds = (
        blurred_noise(rng, shape, (size * grain_px / stretch, size * grain_px * stretch)) for size in (0.2, 0.6, 1.7)
    )
    relief = clouds(rng, shape, 7.0 * grain_px)
    # Ridges throw shadows: the dark side is deeper than the bright one is bright.
    torn = 0.11 * np.minimum(fine, 1.2) + 0.10 * np.minimum(ridges, 0.8) + 0.06 * folds + 0.05 * relief
    return np.exp(torn)


def chevrons(rng: np.random.Generator, shape: tuple[int, int], centre_row: float, period_px: float) -> Floats:
    """Ridges of fast fracture that point back to the notch: V shapes about the middle of the thickness."""
    rows, cols = shape
    down = np.abs(np.arange(rows, dtype=np.float32) - centre_row)[:, None]
    lean = float(rng.uniform(0.5, 1.3))
    phase = np.arange(cols, dtype=np.float32)[None, :] + lean * down**1.06
    phase = phase / period_px + 0.35 * clouds(rng, shape, 3.0 * period_px)
    wave = np.sin(2.0 * math.pi * phase).astype(np.float32)
    presence = np.clip(0.6 + 0.8 * clouds(rng, shape, 5.0 * period_px), 0.0, 1.0)
    return 1.0 + 0.17 * presence * wave


def relief(rng: np.random.Generator, shape: tuple[int, int], largest_px: float) -> Floats:
    """Hills and steps of the whole surface under slanting light, from `largest_px` down to a few pixels."""
    height = np.zeros(shape, np.float32)
    for halving in range(4):
        cell_px = largest_px / 2.2**halving
        height += cell_px * 0.8**halving * clouds(rng, shape, cell_px)
    angle = float(rng.uniform(0.0, 2.0 * math.pi))
    down, across = np.gradient(height)
    shade = math.sin(angle) * down + math.cos(angle) * across
    return np.exp(0.11 * np.clip(shade / max(float(shade.std()), 1e-6), -2.0, 2.0))


def lips(rng: np.random.Generator, shape: tuple[int, int], grain_px: float) -> Floats:
    """Shear lips: smooth slanted walls with fine lines drawn down them."""
    lines = blurred_noise(rng, shape, (4.0 * grain_px, 0.3 * grain_px))
    smear = blurred_noise(rng, shape, (2.0 * grain_px, 2.0 * grain_px))
    return np.exp(0.07 * lines + 0.05 * smear)


def splits(
    rng: np.random.Generator, shape: tuple[int, int], thickness_px: float, count: int, span_rows: tuple[float, float]
) -> Floats:
    """Separations: dark clefts along the crack's way, thin and pointed at both ends; 1.0 where there is none."""
    gain = np.ones(shape, np.float32)
    rows, cols = shape
    row = np.arange(rows, dtype=np.float32)[:, None]
    for _ in range(count):
        length = int(rng.uniform(0.08, 0.7) * cols)
        first = int(rng.integers(0, max(1, cols - length)))
        wide = float(rng.uniform(0.006, 0.02)) * thickness_px
        centre = (
            float(rng.uniform(*span_rows))
            + product(interpolation(length, 7), 0.012 * length**0.8 * rng.standard_normal((7, 1), dtype=np.float32))[
                :, 0
            ]
        )
        centre += 0.8 * product(interpolation(length, 2 + length // 9), rng.standard_normal((2 + length // 9, 1)))[:, 0]
        ragged = 1.0 + 0.3 * product(
            interpolation(length, 2 + length // 14), rng.standard_normal((2 + length // 14, 1))
        )
        open_px = (
            np.clip(ragged[:, 0], 0.2, 2.0)
            * wide
            * np.clip(np.sin(np.linspace(0.0, math.pi, length, dtype=np.float32)), 0.0, 1.0) ** 0.6
        )
        reach = np.abs(row - centre[None, :])
        cleft = np.clip(open_px[None, :] + 0.7 - reach, 0.0, 1.0)
        edge = np.exp(-np.square((row - centre[None, :] - open_px - 1.6) / 1.4))
        view = gain[:, first : first + length]
        view *= 1.0 - float(rng.uniform(0.55, 0.85)) * cleft
        view *= 1.0 + 0.25 * edge
    return gain


def light(rng: np.random.Generator, shape: tuple[int, int], unevenness: float) -> Floats:
    """Light from one side, weaker towards the corners; `unevenness` 0 to about 0.4 is its deviation."""
    rows, cols = shape
    down = np.linspace(-1.0, 1.0, rows, dtype=np.float32)[:, None]
    across = np.linspace(-1.0, 1.0, cols, dtype=np.float32)[None, :]
    angle = float(rng.uniform(0.0, 2.0 * math.pi))
    field = math.cos(angle) * across + math.sin(angle) * down
    field = 0.8 * field + 0.5 * clouds(rng, shape, 0.6 * max(shape)) - 0.35 * (down * down + across * across)
    return np.exp(unevenness * (field - float(field.mean())))


def wear(rng: np.random.Generator, shape: tuple[int, int], *, rust: bool, scratches: int) -> Floats:
    """Stains that came after the fracture: soft rust and fine straight scratches."""
    gain = np.ones(shape, np.float32)
    if rust:
        patch = clouds(rng, shape, 70.0) + 0.5 * clouds(rng, shape, 16.0)
        gain *= 1.0 - 0.30 * np.clip(patch - 1.0, 0.0, 1.0)
    rows, cols = shape
    row, col = np.arange(rows, dtype=np.float32)[:, None], np.arange(cols, dtype=np.float32)[None, :]
    for _ in range(scratches):
        angle = float(rng.uniform(0.0, math.pi))
        at_row, at_col = float(rng.uniform(0, rows)), float(rng.uniform(0, cols))
        off = (row - at_row) * math.cos(angle) - (col - at_col) * math.sin(angle)
        on = (row - at_row) * math.sin(angle) + (col - at_col) * math.cos(angle)
        reach = float(rng.uniform(0.04, 0.25)) * cols
        stroke = np.exp(-0.5 * np.square(off / float(rng.uniform(0.5, 1.1)))) * np.clip(2.0 - np.abs(on) / reach, 0, 1)
        gain *= 1.0 + float(rng.choice((-0.25, 0.35))) * stroke
    return gain
