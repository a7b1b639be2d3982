"""The export of phase networks: one label a pixel, and how a large micrograph may be cut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from camera.steel.micrograph import draw_settings, make_micrograph
from export.parity import Comparison
from export.tasks.base import MODEL, Choices, ExportTask, GraphEnd, Output, Report, TaskChoices
from runtime.golden.phase import compare
from runtime.heads.phase import PHASE, PhaseSettings

if TYPE_CHECKING:
    from torch import Tensor

    from export.trained import TrainedGraph

GOLDEN_SEED = 900_000
"""The first of the micrographs that nothing is trained or tested on."""

LIMITS: Mapping[str, float] = {"fraction_points": 0.1, "pixel_disagreement": 0.002}
FP32_LIMITS: Mapping[str, float] = {"fraction_points": 0.02, "pixel_disagreement": 0.0002}
"""The largest value of each figure that a bundle may have.

- `fraction_points`: of any phase's share of any picture, in points of percent.
- `pixel_disagreement`: share of all pixels that have another label.
"""
_TILE_PX = 896


class PhaseChoices(TaskChoices):
    """What a person may decide about a phase export."""

    tile_px: int | None = Field(
        default=_TILE_PX,
        ge=16,
        description="side of a tile at most; only for networks that see no farther than is known, others are never cut",
    )
    field_px: int = Field(default=48, ge=8, description="least side of the fields whose spread gives an interval")


def finish(output: Any) -> tuple[Tensor, ...]:
    """`phase` (N, H, W) uint8, the label of the highest logit."""
    # By way of FP32: TensorRT casts nothing else to uint8.
    return (output.logits.float().argmax(dim=1).float().byte(),)


def golden_frames(count: int, size_px: tuple[int, int]) -> NDArray[np.uint8]:
    """(count, 1, H, W) uint8 micrographs, each of another steel and another microscope."""
    return np.stack(
        [
            make_micrograph(seed, draw_settings(seed, size_px)).pixels[None]
            for seed in range(GOLDEN_SEED, GOLDEN_SEED + count)
        ]
    )


def choose_settings(
    trained: Mapping[str, TrainedGraph], own: PhaseChoices, choices: Choices, report: Report
) -> PhaseSettings:
    """Names of the phases, and how far the network sees; nothing has to be tuned."""
    del choices, report
    from train.models.phase_compact import RADIUS_PX, STRIDE_PX

    graph = trained[MODEL]
    names = tuple(graph.class_names)
    if graph.architecture != "unet-narrow":
        # What a DeepLab says of a pixel depends on nearly all of a micrograph: only the whole is the whole.
        return PhaseSettings(phase_names=names, tile_px=None, radius_px=0, stride_px=1, field_px=own.field_px)
    return PhaseSettings(
        phase_names=names, tile_px=own.tile_px, radius_px=RADIUS_PX, stride_px=STRIDE_PX, field_px=own.field_px
    )


TASK = ExportTask(
    name="phase",
    graphs={
        MODEL: GraphEnd(
            outputs=(Output(PHASE, "uint8", ("N", "H", "W")),),
            finish=finish,
            comparison=Comparison(compare, LIMITS, FP32_LIMITS),
        )
    },
    choices=PhaseChoices,
    settings=choose_settings,
    golden=golden_frames,
    golden_size_px=(320, 448),
    free_size=True,
)
