"""The gate of the strip cascade: is there any defect in the frame?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from runtime.errors import ConfigError
from train.augment import make_augmentation
from train.datasets.base import Dataset
from train.losses import cell_labels, masked_bce
from train.metrics import GateFigures
from train.models import GateOutput, build
from train.pictures import side_by_side
from train.recipe import Phase, Recipe, Strict, check
from train.sampling import Batch, evenly, make_batches, steps_of, whole_batches


class GateSettings(Strict):
    """The recipe's table `settings` for a gate."""

    min_truth_px: tuple[int, ...] = Field(
        default=(1,),
        min_length=1,
        description="truth pixels that make a picture defective, one for all classes or one a class; a picture that "
        "has some, but too few of every class, holds the end of a defect and is left out",
    )
    none_share: float | None = Field(
        default=None, gt=0, lt=1, description="share of clean crops; None is one class's share"
    )
    min_cell_ratio: float = Field(
        default=0.05, gt=0, le=1, description="share of a cell that a defect must cover (loss bce_cells)"
    )
    min_recall: float = Field(default=0.99, gt=0, lt=1, description="recall at which the threshold is read")
    validation_frames: int | None = Field(default=None, ge=1, description="at most so many, evenly spread")
    validation_batch: int = Field(default=8, ge=1)


class StripGate:
    """Binary cross-entropy on whole frames, as in the paper (5.2), or on crops first, which is quicker.

    Loss `bce_cells` adds the same for each cell of a gate that has a grid of them: it is told where the defects are.
    """

    role = "gate"
    select = "auroc"

    def __init__(self, recipe: Recipe, dataset: Dataset) -> None:
        self._recipe = recipe
        self._dataset = dataset
        self._settings: GateSettings = check(GateSettings, recipe.settings, "recipe: settings (strip-gate)")
        self._transform = make_augmentation(recipe.augmentation)
        self._validation = evenly(dataset.split["validation"], self._settings.validation_frames)
        if len(self._settings.min_truth_px) not in (1, len(dataset.class_names)):
            raise ConfigError(
                f"recipe: settings.min_truth_px has {len(self._settings.min_truth_px)} entries, expected one, or one "
                f"for each of {', '.join(dataset.class_names)}."
            )
        for number, phase in enumerate(recipe.phases):
            if phase.loss not in ("bce", "bce_cells"):
                raise ConfigError(
                    f"recipe: phases.{number}.loss is {phase.loss!r}, expected 'bce' or 'bce_cells' for a gate."
                )

    @property
    def class_names(self) -> tuple[str, ...]:
        """The data's classes; the gate does not tell them apart."""
        return self._dataset.class_names

    @property
    def data_digest(self) -> str:
        """Of the dataset."""
        return self._dataset.digest

    def build_model(self) -> nn.Module:
        """The recipe's gate."""
        return build("gate", self._recipe.model.architecture, encoder_weights=self._recipe.model.encoder_weights)

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

    def labels(self, masks: Tensor) -> Tensor:
        """From masks (N, C, H, W) to (N,) float32: 1 defective, 0 clean, NaN too little to say."""
        truth_px = masks.flatten(2).sum(2)
        least_px = torch.tensor(self._settings.min_truth_px, device=masks.device)
        label = (truth_px >= least_px).any(1).float()
        return torch.where((truth_px > 0).any(1) & (label == 0.0), torch.nan, label)

    def loss(self, phase: Phase, output: GateOutput, batch: Batch) -> Tensor:
        """Binary cross-entropy of the frame, and of its cells where the phase says so."""
        loss = masked_bce(output.logit, self.labels(batch.masks))
        if phase.loss == "bce":
            return loss
        rows, columns = output.cell_logits.shape[1:]
        cells = cell_labels(batch.masks, (rows, columns), self._settings.min_cell_ratio)
        return loss + masked_bce(output.cell_logits, cells)

    def validate(self, model: Callable[[Tensor], GateOutput], device: torch.device) -> dict[str, float]:
        """Loss, recall, false gate ratio and AUROC on whole validation frames."""
        if not self._validation:
            return {}
        figures, losses = GateFigures(self._settings.min_recall, device), []
        for batch in whole_batches(self._dataset, self._validation, self._settings.validation_batch):
            label = self.labels(batch.masks).to(device)
            logit = model(batch.frames.to(device)).logit
            known = ~torch.isnan(label)
            if bool(known.any()):
                losses.append(masked_bce(logit, label))
                figures.update(logit[known].sigmoid(), label[known] > 0.5)
        return {"loss": float(torch.stack(losses).mean())} | figures.compute() if losses else {}

    def examples(self, model: Callable[[Tensor], GateOutput], device: torch.device) -> Iterator[tuple[str, np.ndarray]]:
        """The validation frames on which the gate errs most."""
        judged: list[tuple[float, str, int]] = []
        for place, batch in enumerate(whole_batches(self._dataset, self._validation, 1)):
            label = float(self.labels(batch.masks)[0])
            probability = float(model(batch.frames.to(device)).logit.sigmoid()[0])
            if label == label:
                judged.append(
                    (
                        abs(label - probability),
                        f"{'defective' if label else 'clean'}-{probability:.3f}",
                        place,
                    )
                )
        for _, verdict, place in sorted(judged, reverse=True)[:6]:
            sample = self._dataset.sample(self._validation[place])
            name = sample.name.replace("/", "-")
            yield f"{verdict}-{name}", side_by_side(sample.pixels, [sample.masks])
