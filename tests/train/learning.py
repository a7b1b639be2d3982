"""The task of a recipe, and a few steps of training."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from train.recipe import Recipe
from train.tasks import open_dataset, open_task


def open_recipe(recipe: Recipe, cache: Path) -> Any:
    """The task, with its data drawn or read."""
    return open_task(recipe, open_dataset(recipe, cache))


def losses_of(task: Any, phase: Any, model: nn.Module, batch: Any, steps: int, learning_rate: float) -> list[float]:
    """The loss before each of some steps with Adam, all on one batch."""
    optimiser = torch.optim.Adam(model.parameters(), learning_rate)
    losses: list[float] = []
    for _ in range(steps):
        loss = task.loss(phase, model(batch.frames), batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses
