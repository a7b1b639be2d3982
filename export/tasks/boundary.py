"""The export of boundary networks: one probability a pixel, and the thresholds by which its lines are traced."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from camera.steel.austenite import make_micrograph
from export.parity import Comparison
from export.tasks.base import MODEL, Choices, ExportTask, GraphEnd, Output, Report, TaskChoices, levels
from runtime.boundary_figures import BoundaryFigures
from runtime.boundary_lines import thinned
from runtime.errors import BundleError, ConfigError
from runtime.golden.boundary import compare
from runtime.heads.boundary import PROBABILITY, BoundarySettings, lines_of

if TYPE_CHECKING:
    from torch import Tensor

    from export.trained import TrainedGraph

GOLDEN_SEED = 920_000
"""The first of the micrographs that nothing is trained or tested on."""
_GOLDEN_GRADES = (7.0, 4.0, 9.0, 5.5, 8.0)

LIMITS: Mapping[str, float] = {"level_mean_abs": 0.5, "line_loss": 0.02, "intercept_percent": 1.0}
FP32_LIMITS: Mapping[str, float] = {"level_mean_abs": 0.1, "line_loss": 0.005, "intercept_percent": 0.25}
"""The largest value of each figure that a bundle may have.

- `level_mean_abs`: of the boundary probability in levels of 1/255, mean over all pixels.
- `line_loss`: 1 - F1 of the traced lines, one pixel of tolerance.
- `intercept_percent`: of a picture's mean intercept, mean over the pictures.
"""

_CERTAIN = (0.4, 0.5, 0.6, 0.7)
_FAINT = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)
"""The probabilities that are tried."""


class BoundaryChoices(TaskChoices):
    """What a person may decide about a boundary export; thresholds are else chosen on the validation pictures."""

    certain: float | None = Field(default=None, gt=0, le=1, description="probability that a line must reach somewhere")
    faint: float | None = Field(default=None, gt=0, le=1, description="probability from which a line goes on")
    min_length_px: int = Field(default=10, ge=0, description="shorter lines that touch no other are dropped")
    min_grain_px: int = Field(default=12, ge=0, description="smaller holes in the lines are no grains")


def finish(output: Any) -> tuple[Tensor, ...]:
    """`boundary_probability` (N, 1, H, W) uint8, 255 = 1.0."""
    return (levels(output.logits),)


def golden_frames(count: int, size_px: tuple[int, int]) -> NDArray[np.uint8]:
    """(count, 1, H, W) uint8 micrographs of coarse and fine grain."""
    height_px, width_px = size_px
    grades = [_GOLDEN_GRADES[number % len(_GOLDEN_GRADES)] for number in range(count)]
    return np.stack(
        [
            make_micrograph(GOLDEN_SEED + number, [grade], height_px=height_px, width_px=width_px).pixels[None]
            for number, grade in enumerate(grades)
        ]
    )


def choose_settings(
    trained: Mapping[str, TrainedGraph], own: BoundaryChoices, choices: Choices, report: Report
) -> BoundarySettings:
    """How lines are traced: as a person says, or so that validation pictures have the best lines and intercepts.

    Raises:
        BundleError: There are no validation pictures.
        ConfigError: One threshold is given without the other.
        DataError: They are missing or unreadable.
    """
    fixed = {"min_length_px": own.min_length_px, "min_grain_px": own.min_grain_px}
    if own.certain is not None and own.faint is not None:
        return BoundarySettings(certain=own.certain, faint=own.faint, **fixed)
    if own.certain is not None or own.faint is not None:
        raise ConfigError("export of boundary: found one of certain and faint, expected both or none. Add the other.")
    seen = _validation(trained[MODEL], choices, report)
    if not seen:
        raise BundleError(
            "export of boundary: found no validation pictures, expected some to choose thresholds on. "
            "Give --set certain=... and --set faint=..."
        )
    tried = [
        BoundarySettings(certain=certain, faint=faint, **fixed)
        for certain, faint in product(_CERTAIN, _FAINT)
        if faint <= certain
    ]
    scores = []
    for step, settings in enumerate(tried):
        report("choosing thresholds", step, len(tried))
        scores.append(_score(seen, settings))
    report("choosing thresholds", len(tried), len(tried))
    return tried[int(np.argmax(scores))]


Seen = tuple[NDArray[np.uint8], NDArray[np.bool_], str]
"""Probability (H, W), true lines (H, W), and whose picture it is."""


def _validation(graph: TrainedGraph, choices: Choices, report: Report) -> list[Seen]:
    from export.to_onnx import torch_outputs
    from export.trained import validation_samples
    from train.tasks.boundary import specimen_of

    seen: list[Seen] = []
    for sample in validation_samples(graph, choices.cache, choices.validation_frames):
        report("looking at validation pictures", len(seen), choices.validation_frames)
        pixels = np.ascontiguousarray(sample.pixels)
        (levels,) = torch_outputs(graph.network, END, pixels[None, None])[PROBABILITY][0]
        seen.append((levels, thinned(sample.masks[0]), specimen_of(sample)))
    report("looking at validation pictures", choices.validation_frames, choices.validation_frames)
    return seen


def _score(seen: list[Seen], settings: BoundarySettings) -> float:
    """Lines count as much as lengths: a tenth of F1 outweighs a tenth of mean intercept."""
    figures = BoundaryFigures()
    for probability, truth, specimen in seen:
        figures.add(lines_of(probability, settings), truth, specimen)
    found = figures.compute()
    return found["boundary_f1"] - found["intercept_error_percent"] / 100.0


END = GraphEnd(
    outputs=(Output(PROBABILITY, "uint8", ("N", "C", "H", "W")),),
    finish=finish,
    comparison=Comparison(compare, LIMITS, FP32_LIMITS),
    arithmetic="fp32",  # a line is whole or broken by its weakest pixel: bfloat16 moves a mean intercept by a percent
)

TASK = ExportTask(
    name="boundary",
    graphs={MODEL: END},
    choices=BoundaryChoices,
    settings=choose_settings,
    golden=golden_frames,
    golden_size_px=(320, 448),
    free_size=True,
)
