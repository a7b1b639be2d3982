"""The boundary F1 (BF) score: how well the outlines of a segmentation lie on the true ones. NumPy and SciPy alone.

Csurka, Larlus and Perronnin, "What is a good evaluation measure for semantic segmentation?", BMVC 2013; the phase
paper's equation 3. For each class of a picture, precision is the share of the found outline that lies within a
tolerance of the true one, recall the share of the true outline that lies within it of the found one, and the score is
2 P R / (P + R).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOLERANCE_RATIO = 0.0075
"""Tolerance as a share of the picture's diagonal, as Csurka has it and as MATLAB, which the paper used, has by default:
2.4 px of a tile of 224."""


def boundary_f1(found: NDArray[np.bool_], truth: NDArray[np.bool_], tolerance_px: float | None = None) -> float:
    """The BF score of one class in one picture.

    The outline of a region is the pixels of it that have a 4-neighbour outside; the picture's own border is no outline.

    Args:
        found: (H, W) bool.
        truth: (H, W) bool.
        tolerance_px: How far apart outlines may lie; None is `TOLERANCE_RATIO` of the diagonal.

    Returns:
        0..1; 0 where only one of them has an outline, NaN where neither has.

    >>> square = np.zeros((40, 40), bool)
    >>> square[10:30, 10:30] = True
    >>> boundary_f1(square, square)
    1.0
    >>> round(boundary_f1(np.roll(square, 2, axis=1), square, tolerance_px=1.0), 3)
    0.526
    """
    from scipy.ndimage import distance_transform_edt

    if tolerance_px is None:
        tolerance_px = TOLERANCE_RATIO * math.hypot(*truth.shape)
    outlines = [outline(found), outline(truth)]
    if not any(each.any() for each in outlines):
        return math.nan
    if not all(each.any() for each in outlines):
        return 0.0
    away = [np.asarray(distance_transform_edt(~each)) for each in outlines]
    precision = float((away[1][outlines[0]] <= tolerance_px).mean())
    recall = float((away[0][outlines[1]] <= tolerance_px).mean())
    return 2.0 * precision * recall / (precision + recall) if precision + recall else 0.0


def outline(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(H, W) bool: the pixels of a region with a 4-neighbour inside the picture that is not of it."""
    edge = np.zeros_like(region)
    edge[1:] |= region[1:] & ~region[:-1]
    edge[:-1] |= region[:-1] & ~region[1:]
    edge[:, 1:] |= region[:, 1:] & ~region[:, :-1]
    edge[:, :-1] |= region[:, :-1] & ~region[:, 1:]
    return edge


def mean_boundary_f1(
    found: NDArray[np.uint8], truth: NDArray[np.uint8], phases: int, tolerance_px: float | None = None
) -> float:
    """The mean BF score of a label map over its phases; NaN where no phase has an outline.

    Args:
        found: (H, W) uint8 labels.
        truth: (H, W) uint8 labels.
        phases: Number of labels.
        tolerance_px: See `boundary_f1`.
    """
    scores = [boundary_f1(found == phase, truth == phase, tolerance_px) for phase in range(phases)]
    known = [score for score in scores if not math.isnan(score)]
    return sum(known) / len(known) if known else math.nan
