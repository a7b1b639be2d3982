"""How far a strip cascade is from the networks that were trained: flips of the gate, pixels of the segmenter."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from runtime.golden.frames import Compare, Figures, Outputs, largest
from runtime.heads.strip import GATE, SEGMENTER

ON_THE_FENCE = 0.05
"""How near to its threshold torch's own probability of a pixel leaves it open on which side it belongs.

A model of few trainings has most of its pixels there, and a difference of one level of 255 would cost it its Dice; what
may happen to these pixels is bounded by the level figures.
"""


def compare_gate(found: Outputs, torch: Outputs, settings: Mapping[str, Any]) -> Figures:
    """Flips at `gate_threshold` and the largest difference; both outputs `defect_probability` (n,) float32."""
    ours, theirs = found["defect_probability"], torch["defect_probability"]
    threshold = float(settings["gate_threshold"])
    return {
        "gate_flips": float(np.count_nonzero((ours >= threshold) != (theirs >= threshold))),
        "probability_max_abs": largest(np.abs(ours.astype(np.float64) - theirs)),
    }


def compare_segmenter(found: Outputs, torch: Outputs, settings: Mapping[str, Any]) -> Figures:
    """Lost Dice at `pixel_thresholds` and level differences; both `class_probability` (n, C, H, W) uint8."""
    ours, theirs = found["class_probability"], torch["class_probability"]
    thresholds = np.asarray(settings["pixel_thresholds"], np.float32).reshape(1, -1, 1, 1)
    clear = np.abs(theirs / np.float32(255.0) - thresholds) >= ON_THE_FENCE
    mask, truth = (ours >= thresholds * 255.0) & clear, (theirs >= thresholds * 255.0) & clear
    both, either = np.count_nonzero(mask & truth), np.count_nonzero(mask) + np.count_nonzero(truth)
    difference = np.abs(ours.astype(np.int16) - theirs)
    return {
        "dice_loss": 1.0 - 2.0 * both / either if either else 0.0,
        "level_mean_abs": float(difference.mean()),
        "level_max_abs": float(difference.max()),
    }


COMPARE: Mapping[str, Compare] = MappingProxyType({GATE: compare_gate, SEGMENTER: compare_segmenter})
"""By role."""
