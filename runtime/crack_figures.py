"""The figures of a crack mask: the paper's two, and the one by which crack sets are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class CrackFigures:
    """Counts masks against truth; all pixels of all pictures are pooled.

    A found pixel is a hit for `f1_tolerant` where a true one lies within the tolerance (in a straight line), and a true
    one is found where a found one does.
    """

    LARGER_IS_BETTER: ClassVar = ("mean_iou", "mean_pixel_accuracy", "iou", "f1", "f1_tolerant")

    def __init__(self, tolerance_px: int = 2) -> None:
        self._tolerance_px = tolerance_px
        self._tp = self._fp = self._fn = self._tn = 0
        self._near_hits = self._near_found = 0

    def add(self, found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> None:
        """Count one picture, both (H, W) bool."""
        both = int(np.count_nonzero(found & truth))
        found_px, true_px = int(np.count_nonzero(found)), int(np.count_nonzero(truth))
        self._tp += both
        self._fp += found_px - both
        self._fn += true_px - both
        self._tn += found.size - found_px - true_px + both
        self._near_hits += pixels_near(found, truth, self._tolerance_px)
        self._near_found += pixels_near(truth, found, self._tolerance_px)

    def compute(self) -> dict[str, float]:
        """All figures, 0..1; a class that no picture has, and none was found of, counts as right.

        - `mean_iou`: intersection over union of background and crack, averaged (paper, 3.3.1);
        - `mean_pixel_accuracy`: right share of the background's and of the crack's pixels, averaged (3.3.2);
        - `iou`, `f1`: of the crack alone;
        - `f1_tolerant`: with a tolerance at its borders.
        """
        found_px, true_px = self._tp + self._fp, self._tp + self._fn
        iou = _ratio(self._tp, self._tp + self._fp + self._fn)
        background = _ratio(self._tn, self._tn + self._fp + self._fn)
        precision, recall = _ratio(self._near_hits, found_px), _ratio(self._near_found, true_px)
        return {
            "mean_iou": 0.5 * (iou + background),
            "mean_pixel_accuracy": 0.5 * (_ratio(self._tp, true_px) + _ratio(self._tn, self._tn + self._fp)),
            "iou": iou,
            "f1": _ratio(2 * self._tp, found_px + true_px),
            "f1_tolerant": 2.0 * precision * recall / (precision + recall) if precision + recall else 0.0,
        }


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def pixels_near(pixels: NDArray[np.bool_], target: NDArray[np.bool_], tolerance_px: int) -> int:
    """How many of the pixels, (H, W) bool, have one of the target within the tolerance, in a straight line."""
    if not target.any() or not pixels.any():
        return 0
    from scipy.ndimage import distance_transform_edt

    distance = np.asarray(distance_transform_edt(~target))
    return int(np.count_nonzero(distance[pixels] <= tolerance_px))
