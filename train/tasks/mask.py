"""What tasks with one mask share: is a pixel crack or not, boundary or not. One sigmoid a pixel, any of five losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

import numpy as np
import torch
from pydantic import Field, model_validator
from segmentation_models_pytorch.losses import DiceLoss, FocalLoss, TverskyLoss
from torch import Tensor, nn

from runtime.errors import ConfigError
from train.augment import augment, make_augmentation
from train.losses import BceDice, Loss
from train.models import Job, build
from train.pictures import side_by_side
from train.recipe import Phase, Recipe, Strict, check, near
from train.sampling import Batch, evenly, steps_of, whole_batches

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torchvision.transforms import v2

    from train.datasets.base import Dataset, Sample

_EXAMPLES = 6


class MaskOutput(Protocol):
    """What the networks of such tasks return."""

    @property
    def logits(self) -> Tensor:
        """(N, 1, H, W) float32, one sigmoid a pixel."""
        ...


class MaskFigures(Protocol):
    """Counts what was found against the truth, and says how good it is."""

    def add(self, probability: NDArray[np.float32], sample: Sample) -> None:
        """Count one picture; the probability is (H, W), 0..1."""
        ...

    def compute(self) -> dict[str, float]:
        """All figures, by name."""
        ...


class MaskTaskSettings(Strict):
    """What the recipe's table `settings` has for each of them. The crack paper gives no value of alpha, beta, gamma."""

    SELECTABLE: ClassVar[tuple[str, ...]] = ()

    focal_gamma: float = Field(default=2.0, ge=0, description="how little a pixel counts that is nearly right")
    focal_alpha: float = Field(default=0.25, gt=0, lt=1, description="weight of mask pixels; 1 - alpha of the others")
    tversky_alpha: float = Field(default=0.3, gt=0, description="weight of false positives")
    tversky_beta: float = Field(default=0.7, gt=0, description="weight of false negatives")
    select: str = Field(default="", description="the validation figure that chooses the best weights")
    validation_pictures: int | None = Field(default=None, ge=1, description="at most so many, evenly spread")
    validation_batch: int = Field(default=4, ge=1)

    @model_validator(mode="after")
    def _select_is_a_figure(self) -> MaskTaskSettings:
        if self.select not in self.SELECTABLE:
            raise ValueError(f"select must be one of {', '.join(self.SELECTABLE)}, found {self.select!r}")
        return self


MASK_LOSSES: Mapping[str, Callable[[MaskTaskSettings], Loss]] = MappingProxyType(
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
"""By the name in a recipe: the crack paper's four (sections 3.4.1 to 3.4.4), and the sum of its first two."""


class Draw(NamedTuple):
    """How the pieces of an epoch are drawn; see `train.tasks.base.Task.batches` for the numbers."""

    epoch_in_phase: int
    rng: np.random.Generator
    rank: int
    world: int


@dataclass(frozen=True, slots=True)
class MaskKind:
    """In what these tasks differ.

    Attributes:
        job: Of the network; also the name of the task.
        class_name: The one class that its data has.
        data_kinds: Data that has it, for people.
        settings: The recipe's table `settings`.
        figures: From the settings to what counts a validation.
        pieces: From settings, data, phase and draw to samples of one size, without end.
    """

    job: Job
    class_name: str
    data_kinds: str
    settings: type[MaskTaskSettings]
    figures: Callable[..., MaskFigures]
    pieces: Callable[..., Iterator[Sample]]


class MaskTask:
    """One mask, learnt from pieces of pictures and judged on whole ones."""

    role = "model"

    def __init__(self, kind: MaskKind, recipe: Recipe, dataset: Dataset) -> None:
        self._kind = kind
        self._recipe = recipe
        self._dataset = dataset
        self._settings = check(kind.settings, recipe.settings, f"recipe: settings ({kind.job})")
        self._transform: v2.Transform = make_augmentation(recipe.augmentation)
        self._validation = evenly(dataset.split["validation"], self._settings.validation_pictures)
        if dataset.class_names != (kind.class_name,):
            raise ConfigError(
                f"recipe: the data has the classes {', '.join(dataset.class_names)}, expected {kind.class_name} alone. "
                f"Set data.kind to {kind.data_kinds}."
            )
        self._losses: dict[str, Loss] = {}
        for number, phase in enumerate(recipe.phases):
            if phase.loss not in MASK_LOSSES:
                raise ConfigError(
                    f"recipe: phases.{number}.loss is {phase.loss!r}, {near(phase.loss, list(MASK_LOSSES))}"
                )
            self._losses[phase.loss] = MASK_LOSSES[phase.loss](self._settings)

    @property
    def select(self) -> str:
        """The recipe's choice."""
        return self._settings.select

    @property
    def class_names(self) -> tuple[str, ...]:
        """The one class."""
        return self._dataset.class_names

    @property
    def data_digest(self) -> str:
        """Of the dataset."""
        return self._dataset.digest

    def build_model(self) -> nn.Module:
        """The recipe's network."""
        choice = self._recipe.model
        return build(self._kind.job, choice.architecture, encoder_weights=choice.encoder_weights)

    def steps(self, phase: Phase, world: int) -> int:
        """Batches an epoch."""
        return steps_of(phase, len(self._dataset.split["train"]) // world)

    def batches(
        self, phase: Phase, *, epoch_in_phase: int, rng: np.random.Generator, rank: int, world: int
    ) -> Iterator[Batch]:
        """One epoch's batches."""
        draw = Draw(epoch_in_phase, rng, rank, world)
        pieces = self._kind.pieces(self._settings, self._dataset, phase, draw)
        for _ in range(self.steps(phase, world)):
            chosen = [next(pieces) for _ in range(phase.batch)]
            changed = [augment(self._transform, each.pixels, each.masks) for each in chosen]
            yield Batch(
                [each.name for each in chosen],
                torch.stack([pixels for pixels, _ in changed]),
                torch.stack([masks for _, masks in changed]),
            )

    def loss(self, phase: Phase, output: MaskOutput, batch: Batch) -> Tensor:
        """The phase's loss over the batch."""
        return self._losses[phase.loss](output.logits, batch.masks.float())

    def validate(self, model: Callable[[Tensor], MaskOutput], device: torch.device) -> dict[str, float]:
        """The kind's figures on whole validation pictures."""
        if not self._validation:
            return {}
        figures = self._kind.figures(self._settings)
        places = iter(self._validation)
        for batch in whole_batches(self._dataset, self._validation, self._settings.validation_batch):
            found = model(batch.frames.to(device)).logits[:, 0].float().sigmoid().cpu().numpy()
            for probability, index in zip(found, places, strict=False):
                figures.add(probability, self._dataset.sample(index))
        return figures.compute()

    def examples(
        self, model: Callable[[Tensor], MaskOutput], device: torch.device
    ) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        """Validation pictures: the picture, the truth, what was found."""
        for index in evenly(self._validation, _EXAMPLES):
            sample = self._dataset.sample(index)
            frame = torch.from_numpy(np.array(sample.pixels))[None, None].to(device)
            found = (model(frame).logits[0] > 0.0).cpu().numpy()
            yield sample.name.replace("/", "-"), side_by_side(sample.pixels, [sample.masks, found])
