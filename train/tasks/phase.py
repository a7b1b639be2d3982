"""Phases of a micrograph: one softmax a pixel, weighted cross-entropy (paper, equation 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from runtime.errors import ConfigError
from runtime.label_scores import LabelScores, label_map
from train.augment import augment, make_augmentation
from train.models import PhaseOutput, build
from train.pictures import side_by_side
from train.recipe import Phase, Recipe, Strict, check
from train.sampling import Batch, evenly, steps_of, whole_batches
from train.tiles import TURNS, grid, grid_tiles, random_tiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from train.datasets.base import Dataset

_LOSS = "cross_entropy"
_EXAMPLES = 6


class PhaseTaskSettings(Strict):
    """The recipe's table `settings` for `phase`."""

    matrix: str = Field(default="ferrite", description="what a pixel is that is of none of the data's classes")
    class_weights: Literal["median_frequency", "none"] = Field(
        default="median_frequency",
        description="w of equation 1; median_frequency: the median share of a phase in the pixels over its own share",
    )
    tiles: Literal["grid", "random"] = Field(
        default="random", description="grid: side by side, each in four turns, as in the paper; random: from anywhere"
    )
    select: str = Field(default="mean_iou", description="the validation figure that chooses the best weights")
    validation_micrographs: int | None = Field(default=None, ge=1, description="at most so many, evenly spread")
    validation_batch: int = Field(default=4, ge=1)


class PhaseTask:
    """Square tiles of micrographs; judged on whole ones by the figures of the paper's Table 4."""

    role = "model"

    def __init__(self, recipe: Recipe, dataset: Dataset) -> None:
        self._recipe = recipe
        self._dataset = dataset
        self._settings: PhaseTaskSettings = check(PhaseTaskSettings, recipe.settings, "recipe: settings (phase)")
        if self._settings.matrix in dataset.class_names:
            raise ConfigError(
                f"recipe: settings.matrix is {self._settings.matrix!r}, which the data has as a class of its own, "
                "expected the name of what is left. Set settings.matrix."
            )
        self._transform = make_augmentation(recipe.augmentation)
        self._validation = evenly(dataset.split["validation"], self._settings.validation_micrographs)
        for number, phase in enumerate(recipe.phases):
            if phase.loss != _LOSS:
                raise ConfigError(f"recipe: phases.{number}.loss is {phase.loss!r}, expected {_LOSS!r}.")
            if not phase.crops or any(height != width for height, width in phase.crops):
                raise ConfigError(
                    f"recipe: phases.{number}.crops is {phase.crops}, expected squares, which can be turned, such as "
                    "[[224, 224]]. Correct the value."
                )
        self._weights = self._class_weights()

    @property
    def select(self) -> str:
        """The recipe's choice."""
        return self._settings.select

    @property
    def class_names(self) -> tuple[str, ...]:
        """The phases by label, the matrix first."""
        return (self._settings.matrix, *self._dataset.class_names)

    @property
    def data_digest(self) -> str:
        """Of the dataset."""
        return self._dataset.digest

    def build_model(self) -> nn.Module:
        """The recipe's network."""
        choice = self._recipe.model
        return build(
            "phase", choice.architecture, classes=len(self.class_names), encoder_weights=choice.encoder_weights
        )

    def steps(self, phase: Phase, world: int) -> int:
        """Batches an epoch: every tile of the grid in every turn once, where the phase does not say otherwise."""
        if phase.steps is not None:
            return phase.steps
        train = self._dataset.split["train"]
        places = sum(len(grid(self._dataset.sample(index).pixels.shape, phase.crops[0][0])) for index in train)
        return steps_of(phase, TURNS * places // world)

    def batches(
        self, phase: Phase, *, epoch_in_phase: int, rng: np.random.Generator, rank: int, world: int
    ) -> Iterator[Batch]:
        """One epoch's batches."""
        side_px = phase.crops[epoch_in_phase % len(phase.crops)][0]
        source = grid_tiles if self._settings.tiles == "grid" else random_tiles
        tiles = source(self._dataset, self._dataset.split["train"], side_px, rng, skip=world, first=rank)
        for _ in range(self.steps(phase, world)):
            chosen = [next(tiles) for _ in range(phase.batch)]
            changed = [augment(self._transform, each.pixels, each.masks) for each in chosen]
            yield Batch(
                [each.name for each in chosen],
                torch.stack([pixels for pixels, _ in changed]),
                torch.stack([masks for _, masks in changed]),
            )

    def loss(self, phase: Phase, output: PhaseOutput, batch: Batch) -> Tensor:  # noqa: ARG002  there is one loss
        """Equation 1 over all pixels of the batch, divided by the sum of their weights."""
        weights = None if self._weights is None else self._weights.to(output.logits.device)
        return functional.cross_entropy(output.logits, labels_of(batch.masks), weights)

    def validate(self, model: Callable[[Tensor], PhaseOutput], device: torch.device) -> dict[str, float]:
        """The paper's figures on whole validation micrographs."""
        if not self._validation:
            return {}
        scores = LabelScores(self.class_names)
        for batch in whole_batches(self._dataset, self._validation, self._settings.validation_batch):
            found = model(batch.frames.to(device)).logits.argmax(dim=1).to(torch.uint8).cpu().numpy()
            for own, masks in zip(found, batch.masks.numpy(), strict=True):
                scores.add(own, label_map(masks > 0))
        return scores.figures()

    def examples(
        self, model: Callable[[Tensor], PhaseOutput], device: torch.device
    ) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        """Validation micrographs: the picture, the truth, what was found."""
        for index in evenly(self._validation, _EXAMPLES):
            sample = self._dataset.sample(index)
            frame = torch.from_numpy(np.array(sample.pixels))[None, None].to(device)
            labels = model(frame).logits[0].argmax(dim=0).cpu().numpy()
            found = labels[None] == np.arange(1, len(self.class_names))[:, None, None]
            yield sample.name.replace("/", "-"), side_by_side(sample.pixels, [sample.masks, found])

    def _class_weights(self) -> Tensor | None:
        """Median frequency balancing (Eigen and Fergus), by the shares of the training pixels."""
        if self._settings.class_weights == "none":
            return None
        shares = np.mean([_shares(self._dataset.sample(index).masks) for index in self._dataset.split["train"]], axis=0)
        if not shares.all():
            missing = self.class_names[int(np.argmin(shares))]
            raise ConfigError(
                f"recipe: settings.class_weights: found no training pixel of {missing}, expected some of each phase. "
                "Add micrographs that show it, or set class_weights to none."
            )
        return torch.tensor(np.median(shares) / shares, dtype=torch.float32)


def labels_of(masks: Tensor) -> Tensor:
    """(N, H, W) int64 labels of masks (N, C, H, W), 0 or 1; as `runtime.label_scores.label_map`."""
    numbers = torch.arange(1, masks.shape[1] + 1, device=masks.device)[:, None, None]
    return (masks.long() * numbers).amax(dim=1)


def _shares(masks: NDArray[np.bool_]) -> NDArray[np.floating]:
    """The share of each phase in one micrograph, the matrix first."""
    return np.bincount(label_map(masks).ravel(), minlength=len(masks) + 1) / masks[0].size
