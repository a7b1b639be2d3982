"""Optimisers and learning rate schedules by the names in a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR, OneCycleLR, ReduceLROnPlateau, StepLR

from train.recipe import Decay, OneCycle, Optimiser, Plateau, Steps


class Schedule(Protocol):
    """Moves the learning rate; its state goes into a checkpoint."""

    def after_step(self) -> None:
        """A batch has been learnt."""
        ...

    def after_validation(self, figure: float) -> None:
        """The validation figure, larger is better."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        ...


class PlateauSchedule:
    """Halve, or as the recipe says, when validation stands still (paper, 5.1)."""

    def __init__(self, optimiser: Optimizer, settings: Plateau) -> None:
        self._inner = ReduceLROnPlateau(
            optimiser, mode="max", factor=settings.factor, patience=settings.patience, threshold=1e-4
        )

    def after_step(self) -> None:
        """Nothing: this schedule looks at epochs."""

    def after_validation(self, figure: float) -> None:
        """Count an epoch without progress, or start counting again."""
        self._inner.step(figure)

    def state_dict(self) -> dict[str, Any]:
        """Of torch's schedule."""
        return self._inner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Of torch's schedule."""
        self._inner.load_state_dict(state)


class OneCycleSchedule:
    """Up, then down along a cosine; for trainings of a fixed length."""

    def __init__(self, optimiser: Optimizer, settings: OneCycle, learning_rate: float, steps: int) -> None:
        self._inner = OneCycleLR(
            optimiser, learning_rate, total_steps=steps + 1, pct_start=settings.warm_up, cycle_momentum=False
        )

    def after_step(self) -> None:
        """One step along the curve."""
        self._inner.step()

    def after_validation(self, figure: float) -> None:
        """Nothing: this schedule looks at steps."""

    def state_dict(self) -> dict[str, Any]:
        """Of torch's schedule; its curve is a function, which is made anew."""
        return {key: value for key, value in self._inner.state_dict().items() if not callable(value)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Of torch's schedule."""
        self._inner.load_state_dict(state)


class StairSchedule:
    """Down a stair whose steps are counted in batches.

    Args:
        inner: Torch's schedule, which says how wide and how high they are.
    """

    def __init__(self, inner: LRScheduler) -> None:
        self._inner = inner

    def after_step(self) -> None:
        """One batch along the stairs."""
        self._inner.step()

    def after_validation(self, figure: float) -> None:
        """Nothing: this schedule looks at steps."""

    def state_dict(self) -> dict[str, Any]:
        """Of torch's schedule."""
        return self._inner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Of torch's schedule."""
        self._inner.load_state_dict(state)


_OPTIMISERS: Mapping[str, Callable[..., Optimizer]] = MappingProxyType(
    {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
    }
)


def make_optimiser(model: nn.Module, settings: Optimiser) -> Optimizer:
    """The recipe's optimiser over all weights."""
    return _OPTIMISERS[settings.kind](model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)


def make_schedule(
    optimiser: Optimizer, settings: Plateau | OneCycle | Decay | Steps, learning_rate: float, steps: int
) -> Schedule:
    """The recipe's schedule.

    Args:
        optimiser: Whose learning rate is moved.
        settings: The recipe's `schedule`.
        learning_rate: The recipe's, in units of the optimiser.
        steps: Batches of the whole training.
    """
    if isinstance(settings, Plateau):
        return PlateauSchedule(optimiser, settings)
    if isinstance(settings, Decay):
        return StairSchedule(StepLR(optimiser, step_size=settings.every_steps, gamma=settings.factor))
    if isinstance(settings, Steps):
        milestones = [round(ratio * steps) for ratio in settings.at_ratios]
        return StairSchedule(MultiStepLR(optimiser, milestones, gamma=settings.factor))
    return OneCycleSchedule(optimiser, settings, learning_rate, steps)
