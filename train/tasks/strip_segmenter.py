"""The segmenter of the strip cascade: four independent classes at each pixel."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from runtime.errors import ConfigError
from train.augment import make_augmentation
from train.datasets.base import Dataset
from train.losses import SEGMENTER_LOSSES
from train.metrics import CompetitionDice, PooledIou
from train.models import SegmenterOutput, build
from train.pictures import side_by_side
from train.recipe import Phase, Recipe, Strict, check, near
from train.sampling import Batch, evenly, make_batches, steps_of, whole_batches


class SegmenterSettings(Strict):
    """The recipe's table `settings` for a segmenter."""

    tversky_alpha: float = Field(default=0.3, gt=0, lt=1, description="weight of false negatives in equation 3")
    none_share: float | None = Field(
        default=None, gt=0, lt=1, description="share of clean crops; None is one class's share"
    )
    select: str = Field(default="dice", description="the validation figure that chooses the best weights")
    validation_frames: int | None = Field(default=None, ge=1, description="at most so many, evenly spread")
    validation_batch: int = Field(default=4, ge=1)


class StripSegmenter:
    """Crops of alternating size, balanced over the classes; BCE + Dice, then Tversky, as in the paper (5.1)."""

    role = "segmenter"

    def __init__(self, recipe: Recipe, dataset: Dataset) -> None:
        self._recipe = recipe
        self._dataset = dataset
        self._settings: SegmenterSettings = check(
            SegmenterSettings, recipe.settings, "recipe: settings (strip-segmenter)"
        )
        self._transform = make_augmentation(recipe.augmentation)
        self._validation = evenly(dataset.split["validation"], self._settings.validation_frames)
        self._losses = {}
        for number, phase in enumerate(recipe.phases):
            if phase.loss not in SEGMENTER_LOSSES:
                raise ConfigError(
                    f"recipe: phases.{number}.loss is {phase.loss!r}, {near(phase.loss, list(SEGMENTER_LOSSES))}"
                )
            self._losses[phase.loss] = SEGMENTER_LOSSES[phase.loss](self._settings.tversky_alpha)

    @property
    def select(self) -> str:
        """The recipe's choice."""
        return self._settings.select

    @property
    def class_names(self) -> tuple[str, ...]:
        """One output plane each."""
        return self._dataset.class_names

    @property
    def data_digest(self) -> str:
        """Of the dataset."""
        return self._dataset.digest

    def build_model(self) -> nn.Module:
        """The recipe's segmenter."""
        choice = self._recipe.model
        return build(
            "segmenter",
            choice.architecture,
            classes=len(self.class_names),
            encoder_weights=choice.encoder_weights,
        )

    def steps(self, phase: Phase, world: int) -> int:
        """Batches an epoch."""
        return steps_of(phase, len(self._dataset.split["train"]) // world)

    def batches(
        self, phase: Phase, *, epoch_in_phase: int, rng: np.random.Generator, rank: int, world: int
    ) -> Iterator[Batch]:
        """One epoch's batches."""
        return make_batches(
            self._dataset,
            self._dataset.split["train"],
            phase,
            self._transform,
            epoch_in_phase=epoch_in_phase,
            none_share=self._settings.none_share,
            rng=rng,
            rank=rank,
            world=world,
        )

    def loss(self, phase: Phase, output: SegmenterOutput, batch: Batch) -> Tensor:
        """The phase's loss."""
        return self._losses[phase.loss](output.logits, batch.masks.float())

    def validate(self, model: Callable[[Tensor], SegmenterOutput], device: torch.device) -> dict[str, float]:
        """Competition Dice and pooled IoU on whole validation frames, every probability cut at a half."""
        if not self._validation:
            return {}
        dice, iou = CompetitionDice().to(device), PooledIou(self.class_names, device)
        for batch in whole_batches(self._dataset, self._validation, self._settings.validation_batch):
            probability = model(batch.frames.to(device)).logits.sigmoid()
            truth = batch.masks.to(device) > 0
            dice.update(probability > 0.5, truth)
            iou.update(probability, truth)
        return dice.compute() | iou.compute()

    def examples(
        self, model: Callable[[Tensor], SegmenterOutput], device: torch.device
    ) -> Iterator[tuple[str, np.ndarray]]:
        """A few validation frames of each class and clean ones: the frame, the truth, what was found."""
        chosen: dict[int, None] = {}
        present = self._dataset.present[np.asarray(self._validation, dtype=int)]
        groups = [present[:, plane] for plane in range(present.shape[1])] + [~present.any(axis=1)]
        for group in groups:
            chosen |= dict.fromkeys(int(place) for place in np.flatnonzero(group)[:2])
        for place in chosen:
            sample = self._dataset.sample(self._validation[place])
            frame = torch.from_numpy(np.array(sample.pixels))[None, None].to(device)
            found = (model(frame).logits[0] > 0.0).cpu().numpy()
            yield sample.name.replace("/", "-"), side_by_side(sample.pixels, [sample.masks, found])
