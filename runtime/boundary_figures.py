"""How well traced grain boundaries agree with the truth: where the lines run, and the grain size that follows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from runtime.crack_figures import pixels_near
from runtime.grain_size import intersections, line_grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

TOLERANCE_PX = 3
"""How far apart lines may run: about the width of the pen with which people trace them."""
_G_PER_DECADE = 6.643856  # ASTM E112, equation A1.8


class BoundaryFigures:
    """Counts traced lines against true ones.

    `boundary_f1` is the boundary measure of the Berkeley benchmark (Martin, Fowlkes and Malik, PAMI 2004) in its common
    form: both sides are lines one pixel wide; precision is the share of the found pixels with a true one within the
    tolerance, recall the share of the true with a found one; pixels of all pictures are pooled. Near is measured in a
    straight line, and one pixel may be met by several, where the benchmark pairs them off.

    The mean intercepts of both sides are measured with one and the same grid of lines (E112, Heyn), all pictures of a
    specimen pooled; the error of a specimen is that of its mean intercept.

    Args:
        tolerance_px: Of `boundary_f1`.
    """

    LARGER_IS_BETTER: ClassVar = ("boundary_f1", "boundary_precision", "boundary_recall")

    def __init__(self, tolerance_px: int = TOLERANCE_PX) -> None:
        self._tolerance_px = tolerance_px
        self._found_px = self._true_px = self._right_px = self._met_px = 0
        self._crossings: dict[str, NDArray[np.float64]] = {}

    def add(self, found: NDArray[np.bool_], truth: NDArray[np.bool_], specimen: str) -> None:
        """Count one picture.

        Args:
            found: (H, W) bool, one pixel wide.
            truth: (H, W) bool, one pixel wide.
            specimen: Whose pictures are pooled.
        """
        self._found_px += int(np.count_nonzero(found))
        self._true_px += int(np.count_nonzero(truth))
        self._right_px += pixels_near(found, truth, self._tolerance_px)
        self._met_px += pixels_near(truth, found, self._tolerance_px)
        lines = line_grid((truth.shape[0], truth.shape[1]))
        crossings = np.array([sum(intersections(mask, line) for line in lines) for mask in (found, truth)])
        self._crossings[specimen] = self._crossings.get(specimen, np.zeros(2)) + crossings

    def compute(self) -> dict[str, float]:
        """All figures: ratios 0..1, and the intercept's mean error and bias over specimens in percent and in ASTM G.

        A longer intercept is a positive bias in percent and a negative one in G. Lines that are never crossed count as
        crossed once.
        """
        precision = self._right_px / max(1, self._found_px)
        recall = self._met_px / max(1, self._true_px)
        ratios = np.array([max(1.0, true) / max(1.0, found) for found, true in self._crossings.values()])
        return {
            "boundary_f1": 2.0 * precision * recall / (precision + recall) if precision + recall else 0.0,
            "boundary_precision": precision,
            "boundary_recall": recall,
            **intercept_errors(ratios.tolist()),
        }


def intercept_errors(ratios: Sequence[float]) -> dict[str, float]:
    """Mean error and bias of mean intercepts, in percent and in ASTM G.

    Args:
        ratios: Found over true, one a specimen.

    >>> {name: round(value, 3) for name, value in intercept_errors([1.1, 0.9]).items()}["intercept_error_percent"]
    10.0
    """
    percent = [100.0 * (ratio - 1.0) for ratio in ratios]
    numbers = [-_G_PER_DECADE * math.log10(ratio) for ratio in ratios]
    return {
        "intercept_error_percent": float(np.mean(np.abs(percent))),
        "intercept_bias_percent": float(np.mean(percent)),
        "intercept_error_g": float(np.mean(np.abs(numbers))),
        "intercept_bias_g": float(np.mean(numbers)),
    }
