"""The head's settings, chosen on validation frames: a rule each, and no hand that turns knobs.

The gate's threshold is the one that keeps the recall asked for with the fewest false gates. A class's pixel threshold
and minimum size are the pair with the best competition Dice behind that gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from runtime.errors import BundleError
from runtime.heads.components import find_class

MinSizeRule = Literal["class_total", "component"]

PIXEL_THRESHOLDS = (0.5, 0.4, 0.6, 0.3, 0.7, 0.8)
"""Candidates, the plainest first: it wins a tie."""
MIN_SIZES_PX = (0, 16, 32, 64, 100, 150, 200, 300, 400, 600, 800, 1000, 1500, 2000)
"""Candidates; the competition's are 600, 600, 1000 and 2000."""
_LIMIT = 1e-6  # log-odds of a probability of exactly 0 or 1


def choose_gate_threshold(probability: NDArray[np.floating], defective: NDArray[np.bool_], min_recall: float) -> float:
    """The threshold that keeps the recall with the fewest false gates.

    Every threshold between two neighbouring probabilities decides alike; of these it takes the middle in log-odds, so
    that both sides have the same margin.

    Args:
        probability: (n,) of the gate, 0..1.
        defective: (n,) truth.
        min_recall: Share of the defective frames that must reach the threshold.

    Raises:
        BundleError: No frame is defective, or none is clean.

    >>> choose_gate_threshold(np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, False, True, True]), 1.0)
    0.5
    """
    if not defective.any() or defective.all():
        raise BundleError(
            f"export: found {int(defective.sum())} defective frames among {len(defective)}, expected some defective "
            "and some clean. Give the run more validation data, or set the threshold with --set gate_threshold=...."
        )
    hits = np.sort(probability[defective])
    lost = int(np.floor(len(hits) * (1.0 - min_recall) + 1e-9))
    upper = float(hits[lost])  # the lowest probability that must still pass
    below = probability[probability < upper]
    lower = float(below.max()) if below.size else 0.0
    return float(1.0 / (1.0 + np.exp(-(_log_odds(lower) + _log_odds(upper)) / 2.0)))


def _log_odds(probability: float) -> float:
    clipped = min(max(probability, _LIMIT), 1.0 - _LIMIT)
    return float(np.log(clipped) - np.log1p(-clipped))


@dataclass(frozen=True, slots=True)
class ClassChoice:
    """What was chosen for one class, and its Dice on the validation frames."""

    pixel_threshold: float
    min_size_px: int
    dice: float


class ClassTuner:
    """Adds up the competition Dice of every candidate, frame by frame.

    Args:
        rule: What must reach the minimum size.
        sizes_px: Candidates of each class, rising.
        thresholds: Candidates of each class; None takes the usual ones for all.
    """

    def __init__(
        self,
        rule: MinSizeRule,
        sizes_px: Sequence[Sequence[int]],
        thresholds: Sequence[Sequence[float]] | None = None,
    ) -> None:
        self._rule = rule
        self._sizes_px = [np.asarray(sizes) for sizes in sizes_px]
        self._thresholds = [tuple(each) for each in thresholds or (PIXEL_THRESHOLDS,) * len(sizes_px)]
        self._dice = [
            np.zeros((len(levels), len(sizes))) for levels, sizes in zip(self._thresholds, self._sizes_px, strict=True)
        ]
        self._frames = 0

    def add(self, class_probability: NDArray[np.uint8] | None, truth: NDArray[np.bool_]) -> None:
        """Count one frame.

        Args:
            class_probability: (C, H, W) uint8, 255 = 1.0; None where the gate kept the frame from the segmenter.
            truth: (C, H, W) bool.
        """
        self._frames += 1
        for number, plane in enumerate(truth):
            true_px = int(np.count_nonzero(plane))
            if class_probability is None:
                self._dice[number] += float(true_px == 0)  # nothing is found, whatever the candidate
                continue
            for place, threshold in enumerate(self._thresholds[number]):
                areas, overlaps = self._parts(class_probability[number], threshold, plane)
                kept = areas[None] >= self._sizes_px[number][:, None]  # (sizes, parts)
                found_px, both_px = kept @ areas, kept @ overlaps
                either_px = found_px + true_px
                self._dice[number][place] += np.where(either_px > 0, 2.0 * both_px / np.maximum(either_px, 1), 1.0)

    def choose(self) -> tuple[ClassChoice, ...]:
        """The best candidate of each class; of equals the first threshold and the smallest size.

        Raises:
            BundleError: No frame was counted.
        """
        if not self._frames:
            raise BundleError(
                "export: found no validation frames to tune on, expected some. Give --set pixel_thresholds=[...] and "
                "--set min_sizes_px=[...]."
            )
        choices: list[ClassChoice] = []
        for levels, sizes, total in zip(self._thresholds, self._sizes_px, self._dice, strict=True):
            place, size = np.unravel_index(int(total.argmax()), total.shape)
            mean = float(total[place, size]) / self._frames
            choices.append(ClassChoice(levels[place], int(sizes[size]), mean))
        return tuple(choices)

    def _parts(
        self, plane: NDArray[np.uint8], threshold: float, truth: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Area of each part, and how much of it is true; one part of everything where the total counts."""
        level = max(1, int(np.ceil(255.0 * threshold - 1e-6)))
        if self._rule == "class_total":
            over = plane >= level
            return np.array([np.count_nonzero(over)]), np.array([np.count_nonzero(over & truth)])
        parts = find_class(plane, level, 1, lambda areas, _: np.ones(len(areas), np.bool_))
        boxes = [np.s_[part.first_row : part.stop_row, part.first_col : part.stop_col] for part in parts]
        overlaps = [np.count_nonzero(part.mask & truth[box]) for part, box in zip(parts, boxes, strict=True)]
        return np.array([part.area_px for part in parts], np.int64), np.array(overlaps, np.int64)
