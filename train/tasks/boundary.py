"""Grain boundaries of a micrograph: which pixels lie where two grains meet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field
from scipy.ndimage import maximum_filter

from runtime.boundary_figures import TOLERANCE_PX, BoundaryFigures
from runtime.boundary_lines import thinned, trace_lines
from runtime.errors import ConfigError
from train.datasets.base import Sample
from train.tasks.mask import Draw, MaskKind, MaskTask, MaskTaskSettings
from train.tiles import viewed_tiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from train.datasets.base import Dataset
    from train.recipe import Phase, Recipe

SPECIMEN = "sample"
"""The figure of a picture that says which specimen it shows, where a specimen has several."""


class BoundaryTaskSettings(MaskTaskSettings):
    """The recipe's table `settings` for `boundary`."""

    SELECTABLE: ClassVar[tuple[str, ...]] = BoundaryFigures.LARGER_IS_BETTER

    zoom_ratio: float = Field(default=0.25, ge=0, le=2, description="how much larger or smaller tiles are drawn")
    widen_px: int = Field(
        default=0, ge=0, description="lines of the truth are learnt so much wider to each side; for lines of one pixel"
    )
    select: str = Field(default="boundary_f1", description="the validation figure that chooses the best weights")
    tolerance_px: int = Field(default=TOLERANCE_PX, ge=0, description="of `boundary_f1`")
    certain: float = Field(default=0.5, gt=0, le=1, description="probability that a line reaches, while validating")
    faint: float = Field(default=0.35, gt=0, le=1, description="from which a line goes on, while validating")
    min_length_px: int = Field(default=10, ge=0, description="shorter lines that touch no other are dropped")


class _Figures:
    """Of lines traced as the head of a bundle traces them."""

    def __init__(self, settings: BoundaryTaskSettings) -> None:
        self._settings = settings
        self._figures = BoundaryFigures(settings.tolerance_px)

    def add(self, probability: NDArray[np.float32], sample: Sample) -> None:
        """Count one picture."""
        own = self._settings
        levels = np.round(255.0 * probability).astype(np.uint8)
        lines = trace_lines(levels, certain=own.certain, faint=own.faint, min_length_px=own.min_length_px)
        self._figures.add(lines, thinned(sample.masks[0]), specimen_of(sample))

    def compute(self) -> dict[str, float]:
        """See `BoundaryFigures`."""
        return self._figures.compute()


def specimen_of(sample: Sample) -> str:
    """Whose picture it is: the specimen that the data names, or a specimen of its own."""
    number = sample.figures.get(SPECIMEN)
    return sample.name if number is None else f"{number:g}"


def _pieces(settings: BoundaryTaskSettings, dataset: Dataset, phase: Phase, draw: Draw) -> Iterator[Sample]:
    """Tiles at any angle and magnification: grains have neither up nor size."""
    height, width = phase.crops[draw.epoch_in_phase % len(phase.crops)] if phase.crops else (0, 0)
    if not height or height != width:
        raise ConfigError(
            f"recipe: phases: crops is {phase.crops}, expected squares, which can be turned, such as [[192, 192]]. "
            "Correct the value."
        )
    return viewed_tiles(
        lambda index: widened(dataset.sample(index), settings.widen_px),
        dataset.split["train"],
        height,
        settings.zoom_ratio,
        draw.rng,
        skip=draw.world,
        first=draw.rank,
    )


def widened(sample: Sample, by_px: int) -> Sample:
    """A sample whose lines are so much wider to each side."""
    if not by_px:
        return sample
    side_px = 2 * by_px + 1
    wide = maximum_filter(sample.masks, size=(1, side_px, side_px))
    return Sample(sample.name, sample.pixels, np.asarray(wide, np.bool_), sample.figures, sample.points)


BOUNDARY = MaskKind(
    job="boundary",
    class_name="boundary",
    data_kinds="synthetic-grain or tbm",
    settings=BoundaryTaskSettings,
    figures=_Figures,
    pieces=_pieces,
)


def open_boundary(recipe: Recipe, dataset: Dataset) -> MaskTask:
    """The task; raises `ConfigError` where recipe or data do not fit."""
    return MaskTask(BOUNDARY, recipe, dataset)
