"""How well label maps agree with the truth: the figures of the phase paper's Table 4. NumPy and SciPy alone.

Beside accuracies and IoU stands the boundary F1 (BF) score of Csurka, Larlus and Perronnin, "What is a good evaluation
measure for semantic segmentation?", BMVC 2013 (the paper's equation 3): for each class of a picture, precision is the
share of the found outline that lies within a tolerance of the true one, recall the share of the true outline that lies
within it of the found one, and the score is 2 P R / (P + R). Training chooses weights by these figures and the judge of
bundles reports them, so they have one definition, here, where both may look.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

TOLERANCE_RATIO = 0.0075
"""Tolerance as a share of the picture's diagonal, as Csurka has it and as MATLAB, which the paper used, has by default:
2.4 px of a tile of 224."""
PAPER_TOLERANCE_PX = 2.4
"""The same where pictures are larger than the paper's tiles, and a share of their diagonal would forgive more."""


class LabelScores:
    """Counts label maps against the truth: pixels of all pictures pooled, outlines a picture at a time.

    Args:
        phases: Names of the labels 0, 1 and so on.
        tolerance_px: Of the boundary F1; None is a share of each picture's diagonal, see `boundary_f1`.
    """

    def __init__(self, phases: Sequence[str], tolerance_px: float | None = None) -> None:
        self._phases = tuple(phases)
        self._tolerance_px = tolerance_px
        self._confusion = np.zeros((len(phases), len(phases)), np.int64)
        self._boundary: list[float] = []
        self._fraction_errors: list[float] = []

    def add(self, found: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        """Count one picture, both (H, W) uint8 labels."""
        count = len(self._phases)
        pairs = np.bincount((truth.astype(np.intp) * count + found).ravel(), minlength=count * count)
        self._confusion += pairs.reshape(count, count)
        score = mean_boundary_f1(found, truth, count, self._tolerance_px)
        if not math.isnan(score):
            self._boundary.append(score)
        last = count - 1
        self._fraction_errors.append(100.0 * float((found == last).mean() - (truth == last).mean()))

    def figures(self) -> dict[str, float]:
        """The paper's five figures, each phase's IoU, and how far the fraction of the last phase is off.

        `fraction_error_percent` is the mean absolute error and `fraction_bias_percent` the mean error of a picture, in
        points. A phase that is neither there nor found is left out of the means.
        """
        hits = np.diag(self._confusion).astype(float)
        true, found = self._confusion.sum(axis=1), self._confusion.sum(axis=0)
        union = true + found - hits
        present, known = true > 0, union > 0
        iou = np.divide(hits, union, out=np.zeros_like(hits), where=known)
        recall = np.divide(hits, true, out=np.zeros_like(hits), where=present)
        total = max(1, int(self._confusion.sum()))
        errors = np.asarray(self._fraction_errors or [0.0])
        each = {f"iou_{name}": float(value) for name, value in zip(self._phases, iou, strict=True)}
        return {
            "global_accuracy": float(hits.sum() / total),
            "mean_accuracy": float(recall[present].mean()) if present.any() else 0.0,
            "mean_iou": float(iou[known].mean()) if known.any() else 0.0,
            "weighted_iou": float((iou * true).sum() / total),
            "mean_bf_score": float(np.mean(self._boundary)) if self._boundary else 0.0,
            "fraction_error_percent": float(np.abs(errors).mean()),
            "fraction_bias_percent": float(errors.mean()),
            **each,
        }


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


def label_map(masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """(H, W) uint8 labels of masks (C, H, W): 0 the matrix, c + 1 the plane c; a later plane lies over an earlier.

    >>> label_map(np.array([[[True, False]], [[True, False]]]))
    array([[2, 0]], dtype=uint8)
    """
    numbers = np.arange(1, len(masks) + 1, dtype=np.uint8)[:, None, None]
    return (masks * numbers).max(axis=0)
