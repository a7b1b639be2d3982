"""VR-net's task: the brittle fracture ratio of a specimen, learnt together with the map of what is brittle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib import colormaps
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from runtime.errors import ConfigError
from train.augment import augment, make_augmentation
from train.datasets.base import Dataset, Sample
from train.models import FractureOutput, build
from train.recipe import Phase, Recipe, Strict, check
from train.sampling import Batch, cut, evenly, steps_of, whole_batches

if TYPE_CHECKING:
    from numpy.typing import NDArray

ORIENTATIONS = 8
"""Flips x rotations by 90 degrees: all the ways in which a square lies on itself (paper, III.A)."""
ACCEPTED_POINTS = 5.0
"""The paper counts a specimen as right where the ratio is off by less than this (III.B)."""
_LOSS = "classmap"
_EXAMPLES = 6


class FractureTaskSettings(Strict):
    """The recipe's table `settings` for `fracture`."""

    classmap: bool = Field(
        default=True, description="the second term of equation 3; without it the network learns from the ratio alone"
    )
    validation_specimens: int | None = Field(default=None, ge=1, description="at most so many, evenly spread")


class FractureTask:
    """Equation 3 on whole pictures of any size, one at a time as in the paper, or on crops of one size."""

    role = "model"
    select = "negative_average_error"

    def __init__(self, recipe: Recipe, dataset: Dataset) -> None:
        self._recipe = recipe
        self._dataset = dataset
        self._settings: FractureTaskSettings = check(
            FractureTaskSettings, recipe.settings, "recipe: settings (fracture)"
        )
        self._transform = make_augmentation(recipe.augmentation)
        self._validation = evenly(dataset.split["validation"], self._settings.validation_specimens)
        self._cell_px: int | None = None
        if len(dataset.class_names) != 1:
            raise ConfigError(
                f"recipe: the data has the classes {', '.join(dataset.class_names)}, expected one: what is brittle. "
                "Set data.kind to synthetic-fracture or fracture."
            )
        for number, phase in enumerate(recipe.phases):
            if phase.loss != _LOSS:
                raise ConfigError(f"recipe: phases.{number}.loss is {phase.loss!r}, expected {_LOSS!r}.")
            if phase.batch > 1 and not phase.crops:
                raise ConfigError(
                    f"recipe: phases.{number}.batch is {phase.batch}, expected 1 for whole pictures, which differ in "
                    "size. Set phases.crops."
                )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Brittle."""
        return self._dataset.class_names

    @property
    def data_digest(self) -> str:
        """Of the dataset."""
        return self._dataset.digest

    def build_model(self) -> nn.Module:
        """The recipe's network."""
        choice = self._recipe.model
        network = build("fracture", choice.architecture, encoder_weights=choice.encoder_weights)
        self._cell_px = cell_size(network)
        return network

    def steps(self, phase: Phase, world: int) -> int:
        """Batches an epoch: every picture in every orientation once, where the phase does not say otherwise."""
        return steps_of(phase, ORIENTATIONS * len(self._dataset.split["train"]) // world)

    def batches(
        self, phase: Phase, *, epoch_in_phase: int, rng: np.random.Generator, rank: int, world: int
    ) -> Iterator[Batch]:
        """One epoch's batches."""
        size = phase.crops[epoch_in_phase % len(phase.crops)] if phase.crops else None
        pieces = self._pieces(size, rng, rank, world)
        for _ in range(self.steps(phase, world)):
            chosen = [next(pieces) for _ in range(phase.batch)]
            changed = [augment(self._transform, each.pixels, each.masks) for each in chosen]
            yield Batch(
                [each.name for each in chosen],
                torch.stack([pixels for pixels, _ in changed]),
                torch.stack([masks for _, masks in changed]),
            )

    def _pieces(
        self, size: tuple[int, int] | None, rng: np.random.Generator, rank: int, world: int
    ) -> Iterator[Sample]:
        """Pictures or crops of them without end, every picture in every orientation before any comes again."""
        indices = np.asarray(self._dataset.split["train"])
        while True:
            for draw in rng.permutation(ORIENTATIONS * len(indices))[rank::world]:
                number, orientation = divmod(int(draw), ORIENTATIONS)
                sample = self._dataset.sample(int(indices[number]))
                if size is not None:
                    # Cut before turning: the crop is turned too, so its sides are exchanged where the turn does so.
                    height, width = size if orientation % 2 == 0 else size[::-1]
                    top = int(rng.integers(max(0, sample.pixels.shape[0] - height) + 1))
                    left = int(rng.integers(max(0, sample.pixels.shape[1] - width) + 1))
                    sample = cut(sample, top, left, (height, width))
                yield turned(sample, orientation)

    def loss(self, phase: Phase, output: FractureOutput, batch: Batch) -> Tensor:  # noqa: ARG002  there is one loss
        """Equation 3: |R - R*| + L1(CAM, map), each averaged over the batch; R* is that of the piece."""
        truth = batch.masks[:, 0].float()
        loss = functional.l1_loss(output.ratio, truth.mean((1, 2)))
        if self._settings.classmap:
            loss = loss + functional.l1_loss(spread(output.activation, truth.shape[-2:], self._cell_px), truth)
        return loss

    def validate(self, model: Callable[[Tensor], FractureOutput], device: torch.device) -> dict[str, float]:
        """The paper's figures on whole validation pictures, and how far the map is from the truth."""
        if not self._validation:
            return {}
        errors, map_errors = [], []
        for batch in whole_batches(self._dataset, self._validation, 1):
            output = model(batch.frames.to(device))
            truth = batch.masks[:, 0].to(device).float()
            errors.append(float(output.ratio[0].clamp(0.0, 1.0) - truth.mean()))
            cam = spread(output.activation, truth.shape[-2:], self._cell_px)
            map_errors.append(float(functional.l1_loss(cam.clamp(0.0, 1.0), truth)))
        return error_figures(np.asarray(errors)) | {"map_error": float(np.mean(map_errors))}

    def examples(
        self, model: Callable[[Tensor], FractureOutput], device: torch.device
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Validation specimens: the picture, its map, and the class activation map (paper, figure 7)."""
        for index in evenly(self._validation, _EXAMPLES):
            sample = self._dataset.sample(index)
            output = model(torch.from_numpy(np.array(sample.pixels))[None, None].to(device))
            cam = spread(output.activation, sample.pixels.shape, self._cell_px)[0].clamp(0.0, 1.0).cpu().numpy()
            views = [np.repeat(sample.pixels[..., None], 3, axis=2)]
            views += [
                (colormaps["viridis"](plane)[..., :3] * 255).astype(np.uint8)
                for plane in (sample.masks[0].astype(np.float32), cam)
            ]
            name = f"{sample.name.replace('/', '-')}-{float(output.ratio[0]):.3f}-of-{sample.masks.mean():.3f}"
            yield name, np.concatenate(views, axis=1)


def turned(sample: Sample, orientation: int) -> Sample:
    """A sample in one of the eight orientations; 0 is its own, odd ones exchange its sides."""
    pixels = np.rot90(sample.pixels, orientation)
    masks = np.rot90(sample.masks, orientation, axes=(1, 2))
    if orientation >= ORIENTATIONS // 2:
        pixels, masks = pixels[:, ::-1], masks[:, :, ::-1]
    return Sample(f"{sample.name}/{orientation}", np.ascontiguousarray(pixels), np.ascontiguousarray(masks))


def cell_size(network: nn.Module) -> int | None:
    """Side of the network's activation cells in px; None where its cells are spread evenly over any picture."""
    size = getattr(network, "cell_px", None)
    return size if isinstance(size, int) else None


def spread(activation: Tensor, shape: tuple[int, ...] | torch.Size, cell_px: int | None) -> Tensor:
    """The activation at every pixel, bilinear between the cells' centres.

    Args:
        activation: (N, h, w) float32.
        shape: Height and width of the picture.
        cell_px: Side of a cell, the first of which begins at the first pixel; None stretches the map over the picture,
            which is how the paper resizes it (II.C).

    Returns:
        (N, H, W) float32.
    """
    height, width = shape
    planes = activation[:, None]
    if cell_px is None:
        return functional.interpolate(planes, size=(height, width), mode="bilinear")[:, 0]
    return functional.interpolate(planes, scale_factor=float(cell_px), mode="bilinear")[:, 0, :height, :width]


def error_figures(errors: NDArray[np.floating]) -> dict[str, float]:
    """The paper's three figures (III.B) from signed errors of the ratio, and the one that chooses the weights.

    >>> {name: round(value, 3) for name, value in error_figures(np.array([0.01, -0.07])).items()}
    {'within_5_points': 0.5, 'average_error': 0.04, 'worst_error': 0.07, 'negative_average_error': -0.04}
    """
    absolute = np.abs(errors)
    return {
        "within_5_points": float(np.mean(100.0 * absolute < ACCEPTED_POINTS)),
        "average_error": float(absolute.mean()),
        "worst_error": float(absolute.max()),
        "negative_average_error": -float(absolute.mean()),
    }
