"""Synthetic micrographs of austenitic steel with exact truth: the ASTM grain size number and the grain boundaries.

A picture is a pure function of its seed and settings. Grains come from `camera.steel.tessellation`; what the etchant
and the microscope make of them from `camera.steel.etching`. Twin boundaries, carbides and scratches are drawn, and are
not part of the truth: ASTM E112 counts grains, and a twin belongs to its grain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from camera.steel.etching import Etching, draw, draw_etching
from camera.steel.tessellation import Floats, cut_section, grain_number_of, join_sections, periodic_noise

MM_PER_PX = 0.0008
"""Scale of the pictures: 1280x960 px are 1.0 x 0.8 mm, so 34 grains of G 2.5, and a grain of G 13 is 5 px wide."""
GRADES = (2.5, *(float(grade) for grade in range(4, 14)))
"""The whole grades of the paper's steel mill (section III), and 2.5."""
HALF_GRADES = tuple(grade + 0.5 for grade in range(3, 13))
"""The grades between them: 3.5 to 12.5."""
LOWEST_GRADE, HIGHEST_GRADE = 2.5, 13.0

Pattern = Literal["quadrants", "bands", "patches"]
"""How regions of a mixed picture lie: spliced as in the paper's figure 8, in bands as rolled, or in islands."""


@dataclass(frozen=True, slots=True)
class Micrograph:
    """One picture and what is true of it.

    Attributes:
        pixels: (H, W) uint8.
        boundary: (H, W) bool, the last pixel of each grain before the next one, to the right or below.
        grain_number: ASTM G by the planimetric count of the whole picture.
        local_grain_number: (H, W) float32, the G that was asked for at each place.
        grains: How many the picture has.
    """

    pixels: NDArray[np.uint8]
    boundary: NDArray[np.bool_]
    grain_number: float
    local_grain_number: Floats
    grains: int


def make_micrograph(
    seed: int,
    grain_numbers: Sequence[float],
    *,
    pattern: Pattern = "patches",
    height_px: int = 960,
    width_px: int = 1280,
    mm_per_px: float = MM_PER_PX,
    etching: Etching | None = None,
) -> Micrograph:
    """One picture.

    Args:
        seed: 0 or more; another seed is other grains, another alloy and another etching.
        grain_numbers: ASTM G of each region; one makes a picture of one grade.
        pattern: How several regions lie.
        height_px: Rows.
        width_px: Columns.
        mm_per_px: Scale.
        etching: How it looks; drawn from the seed where None.

    Raises:
        ValueError: No grade, or a grade or a size out of range.
    """
    if not grain_numbers or not all(LOWEST_GRADE <= each <= HIGHEST_GRADE for each in grain_numbers):
        raise ValueError(
            f"grain_numbers are {list(grain_numbers)}, expected ASTM G of {LOWEST_GRADE} to {HIGHEST_GRADE}."
        )
    if min(height_px, width_px) < 64 or not mm_per_px > 0:
        raise ValueError(
            f"found {height_px}x{width_px} px of {mm_per_px} mm, expected 64 px and more, and a scale > 0."
        )
    shape = height_px, width_px
    grains_rng, look_rng = (np.random.default_rng((seed, stream)) for stream in range(2))
    regularity = float(grains_rng.uniform(0.1, 0.5))
    sections = [cut_section(grains_rng, shape, each, mm_per_px, regularity=regularity) for each in grain_numbers]
    region = _regions(grains_rng, shape, len(grain_numbers), pattern)
    splice = pattern == "quadrants"
    section = sections[0] if len(sections) == 1 else join_sections(sections, region, splice=splice)
    chosen = draw_etching(look_rng) if etching is None else etching
    pixels, boundary = draw(look_rng, section, chosen)
    return Micrograph(
        pixels,
        boundary,
        grain_number_of(section.grains / (height_px * width_px * mm_per_px**2)),
        np.asarray(grain_numbers, np.float32)[region],
        section.grains,
    )


def _regions(rng: np.random.Generator, shape: tuple[int, int], count: int, pattern: Pattern) -> NDArray[np.intp]:
    """(H, W): the number of the region that each place belongs to."""
    rows, cols = np.indices(shape, sparse=True)
    if count == 1:
        return np.zeros(shape, np.intp)
    if pattern == "quadrants":
        across = int(np.ceil(np.sqrt(count)))
        down = -(-count // across)
        return np.minimum((rows * down // shape[0]) * across + cols * across // shape[1], count - 1)
    size_px = min(shape)
    if pattern == "bands":
        height = rows * (2.0 * count / shape[0]) + 0.25 * periodic_noise(rng, shape, size_px / 2.5)
        return (height % count).astype(np.intp)
    noise = periodic_noise(rng, shape, size_px / 2.2) + 0.25 * periodic_noise(rng, shape, size_px / 7)
    ranks = noise.ravel().argsort().argsort().reshape(shape)
    return ranks * count // noise.size  # equal areas
