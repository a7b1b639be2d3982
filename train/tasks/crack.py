"""The crack U-Net's task: crack or not at each pixel, by one of the paper's four losses (section 3.3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from runtime.crack_figures import CrackFigures
from train.sampling import balanced_crops, shuffled
from train.tasks.mask import Draw, MaskKind, MaskTask, MaskTaskSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from train.datasets.base import Dataset, Sample
    from train.recipe import Phase, Recipe

_THRESHOLD = 0.5


class CrackTaskSettings(MaskTaskSettings):
    """The recipe's table `settings` for `crack`."""

    SELECTABLE: ClassVar[tuple[str, ...]] = CrackFigures.LARGER_IS_BETTER

    clean_share: float = Field(default=0.25, ge=0, lt=1, description="share of crops without a crack")
    select: str = Field(default="mean_iou", description="the validation figure that chooses the best weights")
    tolerance_px: int = Field(default=2, ge=0, description="of `f1_tolerant`")


class _Figures:
    """The paper's figures (section 3.3), every probability cut at a half."""

    def __init__(self, settings: CrackTaskSettings) -> None:
        self._figures = CrackFigures(settings.tolerance_px)

    def add(self, probability: NDArray[np.float32], sample: Sample) -> None:
        """Count one picture."""
        self._figures.add(probability > _THRESHOLD, sample.masks[0])

    def compute(self) -> dict[str, float]:
        """See `CrackFigures`."""
        return self._figures.compute()


def _pieces(settings: CrackTaskSettings, dataset: Dataset, phase: Phase, draw: Draw) -> Iterator[Sample]:
    """Whole pictures as in the paper, or crops that show a crack more often than pictures do."""
    train = dataset.split["train"]
    if not phase.crops:
        return shuffled(dataset, train, draw.rng, skip=draw.world, first=draw.rank)
    size = phase.crops[draw.epoch_in_phase % len(phase.crops)]
    return balanced_crops(dataset, train, size, settings.clean_share, draw.rng, skip=draw.world, first=draw.rank)


CRACK = MaskKind(
    job="crack",
    class_name="crack",
    data_kinds="synthetic-crack, crackforest or tiles-crack",
    settings=CrackTaskSettings,
    figures=_Figures,
    pieces=_pieces,
)


def open_crack(recipe: Recipe, dataset: Dataset) -> MaskTask:
    """The task; raises `ConfigError` where recipe or data do not fit."""
    return MaskTask(CRACK, recipe, dataset)
