"""How far a crack bundle is from the network that was trained: masks, levels, and where the tips are."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.golden.frames import Compare, Figures, Outputs
from runtime.heads.crack import PROBABILITY
from runtime.heads.crack_trace import trace_cracks
from runtime.single import MODEL

ON_THE_FENCE = 0.05
"""How near to its threshold torch's own probability of a pixel leaves it open on which side it belongs.

A tip is on the fence where torch itself would put it more than half a pixel elsewhere if the threshold were so much
higher or lower.
"""
_FENCE_PX = 0.5

Tips = NDArray[np.float64]


def compare(found: Outputs, torch: Outputs, settings: Mapping[str, Any]) -> Figures:
    """Differences of masks, levels and tips; both `crack_probability` (n, 1, H, W) uint8."""
    ours, theirs = found[PROBABILITY][:, 0], torch[PROBABILITY][:, 0]
    threshold = np.float32(settings["pixel_threshold"])
    clear = np.abs(theirs / np.float32(255.0) - threshold) >= ON_THE_FENCE
    mask, truth = (ours >= threshold * 255.0) & clear, (theirs >= threshold * 255.0) & clear
    both, either = np.count_nonzero(mask & truth), np.count_nonzero(mask) + np.count_nonzero(truth)
    return {
        "dice_loss": 1.0 - 2.0 * both / either if either else 0.0,
        "level_mean_abs": float(np.abs(ours.astype(np.int16) - theirs).mean()),
        "tip_px": max((_tip_px(*pair, settings) for pair in zip(ours, theirs, strict=True)), default=0.0),
    }


def _tip_px(ours: NDArray[np.uint8], theirs: NDArray[np.uint8], settings: Mapping[str, Any]) -> float:
    """The largest distance from a tip of which torch is sure to the nearest one of the graph, in one picture."""
    threshold = float(settings["pixel_threshold"])
    fence = [_tips(theirs, threshold + step, settings) for step in (-ON_THE_FENCE, ON_THE_FENCE)]
    sure = [tip for tip in _tips(theirs, threshold, settings) if all(_nearest_px(tip, f) <= _FENCE_PX for f in fence)]
    own = _tips(ours, threshold, settings)
    return max((_nearest_px(tip, own) for tip in sure), default=0.0)


def _tips(probability: NDArray[np.uint8], threshold: float, settings: Mapping[str, Any]) -> Tips:
    """(k, 2) rows and columns."""
    cracks = trace_cracks(
        probability,
        min(max(threshold, 0.01), 1.0),
        min_size_px=int(settings["min_size_px"]),
        min_branch_px=float(settings["min_branch_px"]),
    )
    return np.array([(tip.row_px, tip.col_px) for crack in cracks for tip in crack.tips], np.float64).reshape(-1, 2)


def _nearest_px(tip: NDArray[np.float64], others: Tips) -> float:
    return float(np.hypot(*(others - tip).T).min(initial=np.inf))


COMPARE: Mapping[str, Compare] = MappingProxyType({MODEL: compare})
"""By role."""
