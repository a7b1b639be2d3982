"""The export of crack networks: one probability a pixel, and tips that stay where they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from camera.steel.crack import draw_crack
from export.parity import Comparison
from export.tasks.base import MODEL, Choices, ExportTask, GraphEnd, Output, Report, TaskChoices, levels
from runtime.golden.crack import compare
from runtime.heads.crack import PROBABILITY, CrackSettings

if TYPE_CHECKING:
    from torch import Tensor

    from export.trained import TrainedGraph

GOLDEN_SEED = 900_000
"""The first of the pictures that nothing is trained or tested on."""

LIMITS: Mapping[str, float] = {"dice_loss": 0.002, "level_mean_abs": 0.25, "tip_px": 1.0}
FP32_LIMITS: Mapping[str, float] = {"dice_loss": 0.0005, "level_mean_abs": 0.05, "tip_px": 0.25}
INT8_LIMITS: Mapping[str, float] = {"dice_loss": 0.005}
"""The largest value of each figure that a bundle may have.

- `dice_loss`: 1 - Dice of the thresholded masks, all frames pooled; pixels on the fence are left out.
- `level_mean_abs`: of the crack probability in levels of 1/255, mean over all pixels.
- `tip_px`: from any of torch's tips to the nearest one of the graph; tips on the fence are left out.
"""


class CrackChoices(TaskChoices):
    """What a person may decide about a crack export."""

    pixel_threshold: float = Field(default=0.5, gt=0, le=1, description="crack probability from which a pixel counts")
    min_size_px: int = Field(default=40, ge=1, description="smaller connected parts are dropped")
    min_branch_px: float = Field(default=10.0, ge=0, description="shorter side branches are no cracks")


def finish(output: Any) -> tuple[Tensor, ...]:
    """`crack_probability` (N, 1, H, W) uint8, 255 = 1.0."""
    return (levels(output.logits),)


def golden_frames(count: int, size_px: tuple[int, int]) -> NDArray[np.uint8]:
    """(count, 1, H, W) uint8 cracked pipes; the fourth, and each fourth after it, has no crack."""
    return draw_frames(GOLDEN_SEED, count, size_px)


def draw_frames(seed: int, count: int, size_px: tuple[int, int]) -> NDArray[np.uint8]:
    """(count, 1, H, W) uint8 pipes, a seed each from the given one on; each fourth is sound."""
    height_px, width_px = size_px
    return np.stack(
        [
            draw_crack(seed + number, height_px=height_px, width_px=width_px, cracked=number % 4 != 3).pixels[None]
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
            comparison=Comparison(compare, LIMITS, FP32_LIMITS, INT8_LIMITS),
        )
    },
    choices=CrackChoices,
    settings=choose_settings,
    golden=golden_frames,
    golden_size_px=(320, 448),
    free_size=True,
    draw=draw_frames,
)
