"""The export of crack networks: one probability a pixel, and tips that stay where they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from camera.steel.crack import draw_crack
from export.parity import Comparison, Figures
from export.tasks.base import MODEL, Choices, ExportTask, GraphEnd, Output, Report, TaskChoices, levels
from runtime.heads.crack import PROBABILITY, CrackSettings
from runtime.heads.crack_trace import trace_cracks

if TYPE_CHECKING:
    from torch import Tensor

    from export.trained import TrainedGraph

GOLDEN_SEED = 900_000
"""The first of the pictures that nothing is trained or tested on."""

LIMITS: Mapping[str, float] = {"dice_loss": 0.002, "level_mean_abs": 0.25, "tip_px": 1.0}
FP32_LIMITS: Mapping[str, float] = {"dice_loss": 0.0005, "level_mean_abs": 0.05, "tip_px": 0.25}
"""The largest value of each figure that a bundle may have.

- `dice_loss`: 1 - Dice of the thresholded masks, all frames pooled; pixels on the fence are left out.
- `level_mean_abs`: of the crack probability in levels of 1/255, mean over all pixels.
- `tip_px`: from any of torch's tips to the nearest one of the graph; tips on the fence are left out.
"""

ON_THE_FENCE = 0.05
"""How near to its threshold torch's own probability of a pixel leaves it open on which side it belongs.

A tip is on the fence where torch itself would put it more than half a pixel elsewhere if the threshold were so much
higher or lower.
"""
_FENCE_PX = 0.5

Tips = NDArray[np.float64]


class CrackChoices(TaskChoices):
    """What a person may decide about a crack export."""

    pixel_threshold: float = Field(default=0.5, gt=0, le=1, description="crack probability from which a pixel counts")
    min_size_px: int = Field(default=40, ge=1, description="smaller connected parts are dropped")
    min_branch_px: float = Field(default=10.0, ge=0, description="shorter side branches are no cracks")


def finish(output: Any) -> tuple[Tensor, ...]:
    """`crack_probability` (N, 1, H, W) uint8, 255 = 1.0."""
    return (levels(output.logits),)


def compare(
    found: Mapping[str, NDArray[Any]], torch: Mapping[str, NDArray[Any]], settings: Mapping[str, Any]
) -> Figures:
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


def golden_frames(count: int, size_px: tuple[int, int]) -> NDArray[np.uint8]:
    """(count, 1, H, W) uint8 cracked pipes; the fourth, and each fourth after it, has no crack."""
    height_px, width_px = size_px
    return np.stack(
        [
            draw_crack(GOLDEN_SEED + number, height_px=height_px, width_px=width_px, cracked=number % 4 != 3).pixels[
                None
            ]
            for number in range(count)
        ]
    )


def choose_settings(
    trained: Mapping[str, TrainedGraph], own: CrackChoices, choices: Choices, report: Report
) -> CrackSettings:
    """What the person chose; nothing has to be tuned."""
    del trained, choices, report
    return CrackSettings(
        pixel_threshold=own.pixel_threshold, min_size_px=own.min_size_px, min_branch_px=own.min_branch_px
    )


TASK = ExportTask(
    name="crack",
    graphs={
        MODEL: GraphEnd(
            outputs=(Output(PROBABILITY, "uint8", ("N", "C", "H", "W")),),
            finish=finish,
            comparison=Comparison(compare, LIMITS, FP32_LIMITS),
        )
    },
    choices=CrackChoices,
    settings=choose_settings,
    golden=golden_frames,
    golden_size_px=(320, 448),
    free_size=True,
)
