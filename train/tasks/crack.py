"""The crack U-Net's task: crack or not at each pixel, by one of the paper's four losses (section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import numpy as np
import torch
from pydantic import Field, model_validator
from segmentation_models_pytorch.losses import DiceLoss, FocalLoss, TverskyLoss
from torch import Tensor, nn

from runtime.crack_figures import CrackFigures
from runtime.errors import ConfigError
from train.augment import make_augmentation
from train.datasets.base import Dataset
from train.losses import BceDice, Loss
from train.models import CrackOutput, build
from train.pictures import side_by_side
from train.recipe import Phase, Recipe, Strict, check, near
from train.sampling import Batch, evenly, make_batches, steps_of, whole_batches

_EXAMPLES = 6


class CrackTaskSettings(Strict):
    """The recipe's table `settings` for `crack`. The paper names alpha, beta and gamma, and gives no value of any."""

    focal_gamma: float = Field(default=2.0, ge=0, description="how little a pixel counts that is nearly right")
    focal_alpha: float = Field(default=0.25, gt=0, lt=1, description="weight of crack pixels; 1 - alpha of the others")
    tversky_alpha: float = Field(default=0.3, gt=0, description="weight of false positives")
    tversky_beta: float = Field(default=0.7, gt=0, description="weight of false negatives")
    clean_share: float = Field(default=0.25, ge=0, lt=1, description="share of crops without a crack")
    select: str = Field(default="mean_iou", description="the validation figure that chooses the best weights")
    tolerance_px: int = Field(default=2, ge=0, description="of `f1_tolerant`")
    validation_pictures: int | None = Field(default=None, ge=1, description="at most so many, evenly spread")
    validation_batch: int = Field(default=4, ge=1)

    @model_validator(mode="after")
    def _select_is_a_figure(self) -> CrackTaskSettings:
        if self.select not in CrackFigures.LARGER_IS_BETTER:
            raise ValueError(f"select must be one of {', '.join(CrackFigures.LARGER_IS_BETTER)}, found {self.select!r}")
        return self


CRACK_LOSSES: Mapping[str, Callable[[CrackTaskSettings], Loss]] = MappingProxyType(
    {
        "bce": lambda _: nn.BCEWithLogitsLoss(),
        "dice": lambda _: DiceLoss("binary", from_logits=True, smooth=1.0),
        "focal": lambda own: FocalLoss("binary", alpha=own.focal_alpha, gamma=own.focal_gamma),
        "tversky": lambda own: TverskyLoss(
            "binary", from_logits=True, smooth=1.0, alpha=own.tversky_alpha, beta=own.tversky_beta
        ),
        "bce_dice": lambda _: BceDice(),
    }
)
"""By the name in a recipe: the paper's four (sections 3.4.1 to 3.4.4), and the sum of its first two."""


class CrackTask:
    """Whole pictures as in the paper, or crops that show a crack more often than pictures do."""

    role = "model"

    def __init__(self, recipe: Recipe, dataset: Dataset) -> None:
        self._recipe = recipe
        self._dataset = dataset
        self._settings: CrackTaskSettings = check(CrackTaskSettings, recipe.settings, "recipe: settings (crack)")
        self._transform = make_augmentation(recipe.augmentation)
        self._validation = evenly(dataset.split["validation"], self._settings.validation_pictures)
        if dataset.class_names != ("crack",):
            raise ConfigError(
                f"recipe: the data has the classes {', '.join(dataset.class_names)}, expected crack alone. "
                "Set data.kind to synthetic-crack, crackforest or tiles-crack."
            )
        self._losses: dict[str, Loss] = {}
        for number, phase in enumerate(recipe.phases):
            if phase.loss not in CRACK_LOSSES:
                raise ConfigError(
                    f"recipe: phases.{number}.loss is {phase.loss!r}, {near(phase.loss, list(CRACK_LOSSES))}"
                )
            self._losses[phase.loss] = CRACK_LOSSES[phase.loss](self._settings)

    @property
    def select(self) -> str:
        """The recipe's choice."""
        return self._settings.select

    @property
    def class_names(self) -> tuple[str, ...]:
        """Crack."""
        return self._dataset.class_names

    @property
    def data_digest(self) -> str:
        """Of the dataset."""
        return self._dataset.digest

    def build_model(self) -> nn.Module:
        """The recipe's network."""
        choice = self._recipe.model
        return build("crack", choice.architecture, encoder_weights=choice.encoder_weights)

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
            none_share=self._settings.clean_share,
            rng=rng,
            rank=rank,
            world=world,
        )

    def loss(self, phase: Phase, output: CrackOutput, batch: Batch) -> Tensor:
        """The phase's loss over the batch."""
        return self._losses[phase.loss](output.logits, batch.masks.float())

    def validate(self, model: Callable[[Tensor], CrackOutput], device: torch.device) -> dict[str, float]:
        """The paper's figures (section 3.3) on whole validation pictures, every probability cut at a half."""
        if not self._validation:
            return {}
        figures = CrackFigures(self._settings.tolerance_px)
        for batch in whole_batches(self._dataset, self._validation, self._settings.validation_batch):
            found = (model(batch.frames.to(device)).logits[:, 0] > 0.0).cpu().numpy()
            for mask, truth in zip(found, batch.masks[:, 0].numpy() > 0, strict=True):
                figures.add(mask, truth)
        return figures.compute()

    def examples(
        self, model: Callable[[Tensor], CrackOutput], device: torch.device
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Validation pictures: the picture, the truth, what was found."""
        for index in evenly(self._validation, _EXAMPLES):
            sample = self._dataset.sample(index)
            frame = torch.from_numpy(np.array(sample.pixels))[None, None].to(device)
            found = (model(frame).logits[0] > 0.0).cpu().numpy()
            yield sample.name.replace("/", "-"), side_by_side(sample.pixels, [sample.masks, found])
