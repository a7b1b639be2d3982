"""The figures of the phase paper's Table 4, from label maps; without torch, so that bundles are judged by them too."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from train.boundary import mean_boundary_f1

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class PhaseFigures:
    """Counts label maps against the truth: pixels of all pictures pooled, outlines a picture at a time.

    Args:
        phases: Names of the labels 0, 1 and so on.
        tolerance_px: Of the boundary F1; None is a share of each picture's diagonal, see `train.boundary`.
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


def label_map(masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """(H, W) uint8 labels of masks (C, H, W): 0 the matrix, c + 1 the plane c; a later plane lies over an earlier.

    >>> label_map(np.array([[[True, False]], [[True, False]]]))
    array([[2, 0]], dtype=uint8)
    """
    numbers = np.arange(1, len(masks) + 1, dtype=np.uint8)[:, None, None]
    return (masks * numbers).max(axis=0)
