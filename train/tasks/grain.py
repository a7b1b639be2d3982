"""The grain size of a micrograph: a number learnt by regression, or a grade by classification."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from matplotlib import colormaps
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms import v2

from runtime.errors import ConfigError, DataError
from train.datasets.base import Dataset
from train.models import GrainOutput, build
from train.recipe import Phase, Recipe, Strict, check
from train.rescale import View, look, zoom_of
from train.sampling import evenly, steps_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from train.datasets.base import Sample

Method = Literal["regression", "classification"]

METHODS: Mapping[str, Method] = MappingProxyType({"grain": "regression", "grain-classes": "classification"})
"""By the recipe's task: one number, or a logit for each grade."""
LOSSES: Mapping[Method, str] = MappingProxyType({"regression": "smooth_l1", "classification": "cross_entropy"})
ACCEPTED_G = 0.5
"""A regression counts as right where it is at most this far from the label (paper, section IV, metrics)."""
_ALPHA = 1.0  # equation 2
_CLASS_STEP = 1.0  # a classification's rescaling moves by whole grades, to stay among its labels
_EXAMPLES = 8


class GrainTaskSettings(Strict):
    """The recipe's table `settings` for `grain`."""

    rescale_g: float = Field(
        default=0.5,
        ge=0,
        le=2,
        description="largest move of the label by rescaling a piece; a classification moves by whole grades instead, "
        "and 0 leaves both as they are",
    )
    as_seen_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of pieces that keep the picture's own pixels, turned by right angles alone: sampling "
        "between pixels blurs the finest grain, and a microscope's picture is not sampled twice",
    )
    rotate: bool = Field(default=True, description="crops at any angle, whole pictures upside down")
    validation_pictures: int | None = Field(default=None, ge=1, description="at most so many, evenly spread")


class GrainBatch(NamedTuple):
    """What a step of training sees.

    Attributes:
        names: Where each piece came from, for messages.
        frames: (N, 1, H, W) uint8.
        grain_number: (N,) float32, ASTM G.
        grade: (N,) int64, the number of the nearest grade.
    """

    names: list[str]
    frames: Tensor
    grain_number: Tensor
    grade: Tensor


@runtime_checkable
class GradedDataset(Protocol):
    """A dataset whose pictures' grades are known without reading them."""

    @property
    def grades(self) -> NDArray[np.float64]:
        """(pictures,), ASTM G as labelled."""
        ...


class GrainTask:
    """Equation 1 over grades or equation 2 on the number, on rescaled crops or whole pictures."""

    role = "model"
    select = "negative_loss"

    def __init__(self, recipe: Recipe, dataset: Dataset) -> None:
        self._recipe = recipe
        self._dataset = dataset
        self._settings: GrainTaskSettings = check(GrainTaskSettings, recipe.settings, "recipe: settings (grain)")
        if not isinstance(dataset, GradedDataset):
            raise ConfigError(
                f"recipe: data.kind {recipe.data['kind']!r} does not say the grade of its pictures, expected one that "
                "does. Set data.kind to synthetic-grain."
            )
        self._method: Method = METHODS[recipe.task]
        expected = LOSSES[self._method]
        for number, phase in enumerate(recipe.phases):
            if phase.loss != expected:
                raise ConfigError(
                    f"recipe: phases.{number}.loss is {phase.loss!r}, expected {expected!r} for a {self._method}."
                )
        train = np.asarray(dataset.split["train"])
        self._graded = dataset.grades
        self._by_grade = {
            float(grade): train[dataset.grades[train] == grade] for grade in np.unique(dataset.grades[train])
        }
        self._grades = tuple(self._by_grade)
        self._validation = evenly(dataset.split["validation"], self._settings.validation_pictures)
        self._light = v2.ColorJitter(brightness=recipe.augmentation.brightness, contrast=recipe.augmentation.contrast)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The grades, in the order of a classification's outputs; a regression has one output."""
        return ("G",) if self._method == "regression" else tuple(f"{each:g}" for each in self._grades)

    @property
    def data_digest(self) -> str:
        """Of the dataset."""
        return self._dataset.digest

    def build_model(self) -> nn.Module:
        """The recipe's network, with one output a class name."""
        choice = self._recipe.model
        return build(
            "grain",
            choice.architecture,
            classes=len(self.class_names),
            encoder_weights=choice.encoder_weights,
        )

    def steps(self, phase: Phase, world: int) -> int:
        """Batches an epoch."""
        return steps_of(phase, len(self._dataset.split["train"]) // world)

    def batches(
        self, phase: Phase, *, epoch_in_phase: int, rng: np.random.Generator, rank: int, world: int
    ) -> Iterator[GrainBatch]:
        """One epoch's batches: every grade as often as any other."""
        size = phase.crops[epoch_in_phase % len(phase.crops)] if phase.crops else None
        pieces = self._pieces(size, rng, rank, world)
        for _ in range(self.steps(phase, world)):
            chosen = [next(pieces) for _ in range(phase.batch)]
            numbers = torch.tensor([number for _, _, number in chosen], dtype=torch.float32)
            yield GrainBatch(
                [name for name, _, _ in chosen],
                torch.stack([frame for _, frame, _ in chosen]),
                numbers,
                nearest_grade(numbers, self._grades),
            )

    def _pieces(
        self, size: tuple[int, int] | None, rng: np.random.Generator, rank: int, world: int
    ) -> Iterator[tuple[str, Tensor, float]]:
        """Name, piece (1, H, W) uint8 and grain size number, without end."""
        turn = 0
        while True:
            for place in rng.permutation(len(self._grades)):
                # Every process draws the numbers of all pieces and makes only its own, so that they never repeat.
                own = np.random.default_rng(rng.integers(2**63))
                if turn % world == rank:
                    index = own.choice(self._by_grade[self._grades[place]])
                    yield self._piece(self._dataset.sample(int(index)), place, size, own)
                turn += 1

    def _piece(
        self, sample: Sample, place: int, size: tuple[int, int] | None, rng: np.random.Generator
    ) -> tuple[str, Tensor, float]:
        as_seen = bool(rng.random() < self._settings.as_seen_share)
        moved = 0.0 if as_seen else self._moved(place, whole=size is None, rng=rng)
        mirrored = bool(rng.integers(2)) and self._recipe.augmentation.flip_horizontal
        shape = sample.pixels.shape
        height, width = size or (shape[0], shape[1])
        angle = self._angle(rng, "half" if size is None else "right" if as_seen else "any")
        view = View(zoom_of(moved), angle, mirrored)
        middle = [
            float(rng.uniform(reach / 2, side - reach / 2)) if reach < side else side / 2
            for reach, side in zip(view.reach((height, width)), shape, strict=True)
        ]
        if as_seen:  # on the pixels themselves, not between them
            middle = [
                round(at - reach / 2) + reach / 2 for at, reach in zip(middle, view.reach((height, width)), strict=True)
            ]
        piece = look(sample.pixels, (middle[0], middle[1]), (height, width), view)
        return sample.name, self._light(piece.round().to(torch.uint8)), grain_number_of(sample) + moved

    def _angle(self, rng: np.random.Generator, kind: Literal["half", "right", "any"]) -> float:
        """A rotation in radians; a whole picture keeps its shape, so it is turned by half a turn."""
        if not self._settings.rotate:
            return 0.0
        if kind == "any":
            return float(rng.uniform(0, 2 * math.pi))
        return {"half": math.pi, "right": math.pi / 2}[kind] * int(rng.integers(4))

    def _moved(self, place: int, *, whole: bool, rng: np.random.Generator) -> float:
        """How far the label moves; a whole picture can only be enlarged, which makes the number smaller."""
        if self._method == "regression":
            return float(rng.uniform(-self._settings.rescale_g, 0.0 if whole else self._settings.rescale_g))
        grade = self._grades[place]
        steps = (-_CLASS_STEP, 0.0) if whole else (-_CLASS_STEP, 0.0, _CLASS_STEP)
        labelled = [each for each in steps if grade + each in self._by_grade]
        return float(rng.choice(labelled)) if self._settings.rescale_g else 0.0

    def loss(self, phase: Phase, output: GrainOutput, batch: GrainBatch) -> Tensor:  # noqa: ARG002  one loss a method
        """Equation 2 (regression) or equation 1 (classification)."""
        return self._loss(output, batch.grain_number, batch.grade)

    def _loss(self, output: GrainOutput, grain_number: Tensor, grade: Tensor) -> Tensor:
        if self._method == "regression":
            return functional.smooth_l1_loss(output.number, grain_number, beta=_ALPHA)
        return functional.cross_entropy(output.scores, grade)

    def validate(self, model: Callable[[Tensor], GrainOutput], device: torch.device) -> dict[str, float]:
        """The paper's figures on whole validation pictures; the lowest loss chooses the weights."""
        losses, found, true = [], [], []
        for index in self._validation:
            sample = self._dataset.sample(index)
            output = model(torch.from_numpy(np.array(sample.pixels))[None, None].to(device))
            number = torch.tensor([grain_number_of(sample)], device=device)
            losses.append(float(self._loss(output, number, nearest_grade(number, self._grades))))
            found.append(float(number_of(output, self._grades)[0]))
            true.append(float(number[0]))
        if not found:
            return {}
        figures = number_figures(np.asarray(found), np.asarray(true)) | {"negative_loss": -float(np.mean(losses))}
        return figures | self._apart(np.asarray(found), np.asarray(true))

    def _apart(self, found: NDArray[np.float64], true: NDArray[np.float64]) -> dict[str, float]:
        """The figures of grades that were trained on and of those that were not, where the pictures have both."""
        seen = np.isin(self._graded[self._validation], self._grades)
        if seen.all() or not seen.any():
            return {}
        return {
            f"{name}_{part}": value
            for part, chosen in (("seen", seen), ("unseen", ~seen))
            for name, value in number_figures(found[chosen], true[chosen]).items()
        }

    def examples(
        self, model: Callable[[Tensor], GrainOutput], device: torch.device
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Validation pictures beside their maps of the grain size number, G 2 violet to G 13 yellow."""
        for index in evenly(self._validation, _EXAMPLES):
            sample = self._dataset.sample(index)
            output = model(torch.from_numpy(np.array(sample.pixels))[None, None].to(device))
            cells = map_of(output, self._grades)[:, None]
            plane = functional.interpolate(cells, size=sample.pixels.shape, mode="nearest")[0, 0].cpu().numpy()
            colours = colormaps["viridis"](np.clip((plane - 2.0) / 11.0, 0.0, 1.0))[..., :3]
            found = float(number_of(output, self._grades)[0])
            name = f"{sample.name.replace('/', '-')}-{found:.2f}-of-{grain_number_of(sample):.2f}"
            grey = np.repeat(sample.pixels[..., None], 3, axis=2)
            yield name, np.concatenate((grey, (colours * 255).astype(np.uint8)), axis=1)


def grain_number_of(sample: Sample) -> float:
    """A sample's grain size number.

    Raises:
        DataError: It has none, or one that is no number.
    """
    number = sample.figures.get("grain_number", math.nan)
    if not math.isfinite(number):
        raise DataError(f"{sample.name}: grain_number is {number}, expected a finite ASTM G. Correct its label.")
    return float(number)


def nearest_grade(grain_number: Tensor, grades: Sequence[float]) -> Tensor:
    """The number of the nearest grade, (N,) int64."""
    return (grain_number[:, None] - torch.tensor(grades, device=grain_number.device)).abs().argmin(1)


def number_of(output: GrainOutput, grades: Sequence[float]) -> Tensor:
    """(N,) float32: what a regression says, or the likeliest grade of a classification."""
    if output.scores.shape[1] == 1:
        return output.number
    return torch.tensor(grades, device=output.scores.device)[output.scores.argmax(1)]


def map_of(output: GrainOutput, grades: Sequence[float]) -> Tensor:
    """(N, h, w) float32: the number at each cell, or the grade of the highest class activation (paper, VI)."""
    if output.scores.shape[1] == 1:
        return output.cams[:, 0]
    return torch.tensor(grades, device=output.cams.device)[output.cams.argmax(1)]


def number_figures(found: NDArray[np.floating], true: NDArray[np.floating]) -> dict[str, float]:
    """The paper's figures: share within half a grade, and the mean absolute error.

    >>> {name: round(value, 3) for name, value in number_figures(np.array([4.25, 9.0]), np.array([4.0, 10.0])).items()}
    {'within_half': 0.5, 'mean_error': 0.625, 'bias': -0.375, 'worst_error': 1.0}
    """
    errors = np.asarray(found, float) - true
    return {
        "within_half": float(np.mean(np.abs(errors) <= ACCEPTED_G)),
        "mean_error": float(np.abs(errors).mean()),
        "bias": float(errors.mean()),
        "worst_error": float(np.abs(errors).max()),
    }
