"""The graphs of the strip cascade: how each ends, and what parity asks of it.

A gate must not change its mind on any frame; a segmenter's masks must stay the same but for a few pixels at their
borders.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from export.parity import Comparison
from export.tasks.base import GraphEnd, Output, levels
from runtime.golden.strip import compare_gate, compare_segmenter
from runtime.heads.strip import GATE, SEGMENTER

if TYPE_CHECKING:
    from torch import Tensor

LIMITS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        GATE: MappingProxyType({"gate_flips": 0.0, "probability_max_abs": 0.03}),
        SEGMENTER: MappingProxyType({"dice_loss": 0.002, "level_mean_abs": 0.25, "level_max_abs": 64.0}),
    }
)
"""The largest value of each figure that a bundle may have, by role; `FP32_LIMITS` holds the FP32 file to less.

- `gate_flips`: frames on the other side of the gate's threshold.
- `probability_max_abs`: of the gate's probability. bfloat16, which OpenVINO chooses on CPUs that have it, moves it by
  some thousandths.
- `dice_loss`: 1 - Dice of the thresholded masks, all classes and frames pooled; pixels on the fence are left out.
- `level_mean_abs`, `level_max_abs`: of the class probability in levels of 1/255, over all pixels and at the worst one.
"""

FP32_LIMITS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        GATE: MappingProxyType({"probability_max_abs": 0.001}),
        SEGMENTER: MappingProxyType({"dice_loss": 0.0002, "level_mean_abs": 0.01, "level_max_abs": 4.0}),
    }
)

INT8_LIMITS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        GATE: MappingProxyType({"probability_max_abs": 0.1}),
        SEGMENTER: MappingProxyType({"dice_loss": 0.01, "level_mean_abs": 0.25, "level_max_abs": 200.0}),
    }
)
"""What an INT8 file may lose: still no frame at the gate, and at the segmenter some pixels along the borders.

A step of INT8 is a hundredth of a tensor's range, so a pixel on a border may take the other side entirely; what that
does to a mask is bounded by `dice_loss`, and to all other pixels by `level_mean_abs`, which is as strict as for half.
"""


def finish_gate(output: Any) -> tuple[Tensor, ...]:
    """`defect_probability` (N,) float32, 0..1."""
    return (output.logit.float().sigmoid(),)


def finish_segmenter(output: Any) -> tuple[Tensor, ...]:
    """`class_probability` (N, C, H, W) uint8, 255 = 1.0."""
    return (levels(output.logits),)


_GATE = GraphEnd(
    outputs=(Output("defect_probability", "float32", ("N",)),),
    finish=finish_gate,
    comparison=Comparison(compare_gate, LIMITS[GATE], FP32_LIMITS[GATE], INT8_LIMITS[GATE]),
)
_SEGMENTER = GraphEnd(
    outputs=(Output("class_probability", "uint8", ("N", "C", "H", "W")),),
    finish=finish_segmenter,
    comparison=Comparison(compare_segmenter, LIMITS[SEGMENTER], FP32_LIMITS[SEGMENTER], INT8_LIMITS[SEGMENTER]),
)
ENDS: Mapping[str, GraphEnd] = MappingProxyType({GATE: _GATE, SEGMENTER: _SEGMENTER})
"""By role."""
