"""ASTM E112 from a mask of grain boundaries: the planimetric (Jeffries) and the intercept (Heyn, Abrams) procedures.

The classical reference beside the network: counts that anyone can repeat by hand. Twin boundaries are not grain
boundaries and must not be in the mask. Lengths are in mm on the specimen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from runtime.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Procedure = Literal["planimetric", "lines", "circles"]

LEAST_GRAINS = 16
"""Fewer grains than this make no number: the standard asks for 50 a field, and lets a coarse grain have fewer."""
_FEW_LEFT = 9.0  # grains that a field should still have
_STAIR_PX = 1
_CIRCLES = (0.3, 0.6, 0.9)
"""Diameters of Abrams' three circles (1 : 2 : 3), as a share of the picture's shorter side."""


@dataclass(frozen=True, slots=True)
class GrainSize:
    """What one procedure says.

    Attributes:
        procedure: How it was counted.
        grain_number: ASTM G.
        interval: Half of the 95 % interval of G, from the spread between fields or test lines.
        counted: Grains, or intersections with a boundary.
        fields: Fields or test lines that were counted.
        mean_intercept_mm: For `lines` and `circles`; of a planimetric count the root of the mean area.
    """

    procedure: Procedure
    grain_number: float
    interval: float
    counted: float
    fields: int
    mean_intercept_mm: float


@dataclass(frozen=True, slots=True)
class TestLine:
    """Pixels along a straight or curved line, in order.

    Attributes:
        rows: (n,) of the pixels.
        cols: (n,).
        length_px: Of the line itself.
        closed: It ends where it begins.
    """

    rows: NDArray[np.intp]
    cols: NDArray[np.intp]
    length_px: float
    closed: bool = False

    __test__ = False  # not a test, whatever pytest thinks of the name


def grain_number_of_density(grains_per_mm2: float) -> float:
    """ASTM G of grains per mm2 (E112, equation A1.5: G = 3.321928 log10 N_A - 2.954).

    >>> round(grain_number_of_density(15.5), 2)
    1.0
    """
    return 3.321928 * math.log10(grains_per_mm2) - 2.954


def grain_number_of_intercept(mean_intercept_mm: float) -> float:
    """ASTM G of a mean lineal intercept (E112, equation A1.8: G = -6.643856 log10 l - 3.288).

    >>> round(grain_number_of_intercept(0.32), 2)
    -0.0
    """
    return -6.643856 * math.log10(mean_intercept_mm) - 3.288


def planimetric(boundary: NDArray[np.bool_], mm_per_px: float) -> GrainSize:
    """Count the grains of a picture: those inside, half of those that its edges cut, a quarter of each at a corner.

    Args:
        boundary: (H, W) bool, closed lines; what they enclose, joined by sides and not by corners, is a grain.
        mm_per_px: Scale.

    Raises:
        DataError: Too few grains, or no scale.
    """
    from scipy.ndimage import label

    _check(boundary, mm_per_px)
    labels: NDArray[np.int32] = np.zeros(boundary.shape, np.int32)
    label(~boundary, output=labels)
    height_px, width_px = boundary.shape
    total = _jeffries(labels)
    if total < LEAST_GRAINS:
        raise DataError(f"planimetric count: found {total:g} grains, expected {LEAST_GRAINS} or more. {_REMEDY}")
    side = 3 if total >= 9 * _FEW_LEFT else 2
    # A field is counted on the grains of the whole picture, so that its own edges cut them and make none.
    densities = []
    for rows in np.array_split(np.arange(height_px), side):
        for cols in np.array_split(np.arange(width_px), side):
            field = labels[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
            densities.append(_jeffries(field) / (field.size * mm_per_px**2))
    density = total / (labels.size * mm_per_px**2)
    return GrainSize(
        "planimetric",
        grain_number_of_density(density),
        _interval(densities, 3.321928),
        total,
        len(densities),
        density**-0.5,
    )


def intercept(
    boundary: NDArray[np.bool_], mm_per_px: float, lines: Sequence[TestLine], procedure: Procedure = "lines"
) -> GrainSize:
    """Count where test lines cross boundaries.

    Args:
        boundary: (H, W) bool; a run of boundary pixels along a line is one intersection, and half a one where an open
            line ends in it.
        mm_per_px: Scale.
        lines: Of `straight_lines`, `line_grid` or `circles`.
        procedure: How the result names it.

    Raises:
        DataError: Too few intersections, or no scale.
    """
    _check(boundary, mm_per_px)
    counts = np.array([intersections(boundary, line) for line in lines])
    lengths_mm = np.array([line.length_px for line in lines]) * mm_per_px
    if counts.sum() < LEAST_GRAINS:
        raise DataError(
            f"intercept count: found {counts.sum():g} intersections, expected {LEAST_GRAINS} or more. {_REMEDY}"
        )
    mean_mm = float(lengths_mm.sum() / counts.sum())
    return GrainSize(
        procedure,
        grain_number_of_intercept(mean_mm),
        _interval(list(counts / lengths_mm), 6.643856),
        float(counts.sum()),
        len(lines),
        mean_mm,
    )


def measure_all(boundary: NDArray[np.bool_], mm_per_px: float) -> tuple[GrainSize, ...]:
    """The three procedures on one mask: planimetric, a grid of lines, Abrams' circles; see each for its errors."""
    shape = boundary.shape[0], boundary.shape[1]
    return (
        planimetric(boundary, mm_per_px),
        intercept(boundary, mm_per_px, line_grid(shape), "lines"),
        intercept(boundary, mm_per_px, circles(shape), "circles"),
    )


def intersections(boundary: NDArray[np.bool_], line: TestLine) -> float:
    """How often a line crosses a boundary."""
    first, last = _runs(boundary, line)
    ends = 0.0 if line.closed or not len(first) else 0.5 * ((first[0] == 0) + (last[-1] == len(line.rows) - 1))
    return len(first) - float(ends)


def chords_px(boundary: NDArray[np.bool_], line: TestLine) -> NDArray[np.float64]:
    """Lengths of the grains along a line, boundary to boundary; what the ends of an open line cut off is left out."""
    first, last = _runs(boundary, line)
    middles = (first + last) / 2
    count = len(line.rows)
    if line.closed and len(middles):
        middles = np.append(middles, middles[0] + count)
    return np.asarray(np.diff(middles) * (line.length_px / max(1, count - (0 if line.closed else 1))), np.float64)


def clear_px(boundary: NDArray[np.bool_], line: TestLine) -> NDArray[np.float64]:
    """Lengths between boundaries from edge to edge along an open line, what its ends cut off too.

    How MLOgraphy++ and NIST's tools measure. E112 counts from middle to middle: `chords_px`.
    """
    clear = np.concatenate(([False], ~boundary[line.rows, line.cols], [False]))
    edges = np.flatnonzero(clear[1:] != clear[:-1])
    return np.asarray((edges[1::2] - edges[::2]) * (line.length_px / max(1, len(line.rows) - 1)), np.float64)


def _runs(boundary: NDArray[np.bool_], line: TestLine) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First and last place of each run of boundary pixels along a line; those of a closed line may lie beyond its end.

    A gap of one pixel is the staircase of a slanting line along a slanting boundary, and no grain.
    """
    rows, cols = (np.append(each, each[0] if line.closed else each[-1]) for each in (line.rows, line.cols))
    # Between two pixels that touch at a corner a line would slip through a boundary whose own pixels do so.
    slips = boundary[rows[:-1], cols[1:]] & boundary[rows[1:], cols[:-1]]
    on = boundary[line.rows, line.cols] | slips
    places = np.flatnonzero(on)
    if not places.size:
        return places, places
    starts = np.concatenate(([True], np.diff(places) > _STAIR_PX + 1))
    first, last = places[starts], places[np.append(starts[1:], True)]
    if line.closed and len(first) > 1 and first[0] + len(on) - last[-1] <= _STAIR_PX + 1:
        last = np.append(last[1:-1], last[0] + len(on))
        first = first[1:]
    return first, last


def straight_lines(shape: tuple[int, int]) -> tuple[TestLine, ...]:
    """Heyn's four directions: one line across, one down and both diagonals, through the middle of the picture."""
    height, width = shape[0] - 1, shape[1] - 1
    ends = (
        ((height / 2, 0.0), (height / 2, width)),
        ((0.0, width / 2), (height, width / 2)),
        ((0.0, 0.0), (height, width)),
        ((0.0, width), (height, 0.0)),
    )
    return tuple(_segment(*pair) for pair in ends)


def line_grid(shape: tuple[int, int], spacing_px: int | None = None) -> tuple[TestLine, ...]:
    """Parallel lines in four directions, so that stretched grains are crossed both ways.

    Args:
        shape: Height and width of the picture.
        spacing_px: From line to line; a twentieth of the shorter side where None.
    """
    height, width = shape[0] - 1, shape[1] - 1
    spacing = spacing_px or max(2, min(shape) // 20)
    lines = [_segment((row, 0.0), (row, width)) for row in np.arange(spacing / 2, height, spacing)]
    lines += [_segment((0.0, col), (height, col)) for col in np.arange(spacing / 2, width, spacing)]
    # Diagonals at 45 degrees, at the same distance from one another.
    for offset in np.arange(-height + spacing, width, spacing * math.sqrt(2.0)):
        first, last = max(0.0, -offset), min(height, width - offset)
        if last - first >= spacing:
            lines.append(_segment((first, first + offset), (last, last + offset)))
            lines.append(_segment((first, width - first - offset), (last, width - last - offset)))
    return tuple(lines)


def circles(shape: tuple[int, int]) -> tuple[TestLine, ...]:
    """Abrams' three concentric circles, in five places: the middle and the four quarters of the picture."""
    height, width = shape
    side = min(height, width) / 2
    found = []
    for row, col, size in (
        (0.5, 0.5, 2 * side),
        *((down, across, side) for down in (0.25, 0.75) for across in (0.25, 0.75)),
    ):
        found += [_circle(row * (height - 1), col * (width - 1), share * size / 2) for share in _CIRCLES]
    return tuple(found)


_REMEDY = "Take a larger picture, or a higher magnification for the scale given."


def _segment(first: tuple[float, float], last: tuple[float, float]) -> TestLine:
    count = int(max(abs(last[0] - first[0]), abs(last[1] - first[1]))) + 1
    rows, cols = (np.round(np.linspace(*pair, count)).astype(np.intp) for pair in zip(first, last, strict=True))
    return TestLine(rows, cols, math.hypot(last[0] - first[0], last[1] - first[1]))


def _circle(row: float, col: float, radius: float) -> TestLine:
    angle = np.linspace(0.0, 2 * np.pi, max(8, round(2 * np.pi * radius)), endpoint=False)
    rows, cols = row + radius * np.sin(angle), col + radius * np.cos(angle)
    return TestLine(np.round(rows).astype(np.intp), np.round(cols).astype(np.intp), 2 * math.pi * radius, closed=True)


def _jeffries(labels: NDArray[np.integer]) -> float:
    """Grains of a field by Jeffries and Saltykov: inside + cut by an edge / 2 + 1 for the four corners together."""
    border = np.concatenate((labels[0], labels[-1], labels[:, 0], labels[:, -1]))
    corners = np.unique(labels[(0, 0, -1, -1), (0, -1, 0, -1)])
    cut = np.setdiff1d(np.unique(border), np.append(corners, 0))
    grains = np.setdiff1d(np.unique(labels), np.concatenate((cut, corners, [0])))
    return len(grains) + 0.5 * len(cut) + 1.0


def _interval(figures: Sequence[float], per_decade: float) -> float:
    """Half of the 95 % interval of G, of figures whose logarithm G is (E112, section 15)."""
    from scipy.stats import t

    mean, count = float(np.mean(figures)), len(figures)
    half = float(t.ppf(0.975, count - 1)) * float(np.std(figures, ddof=1)) / math.sqrt(count)
    return per_decade * math.log10(1.0 + half / mean)


def _check(boundary: NDArray[np.bool_], mm_per_px: float) -> None:
    if boundary.ndim != 2 or min(boundary.shape) < 16:
        raise DataError(f"boundary mask: found shape {boundary.shape}, expected (H, W) of 16 px and more.")
    if not (math.isfinite(mm_per_px) and mm_per_px > 0):
        raise DataError(f"boundary mask: scale is {mm_per_px} mm per px, expected more than 0.")
