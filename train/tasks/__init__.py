"""Tasks by name. A task is opened from a recipe and its dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from runtime.errors import ConfigError
from train.datasets import DATASETS, Dataset
from train.recipe import Recipe, check, near
from train.tasks.base import Task
from train.tasks.boundary import open_boundary
from train.tasks.crack import open_crack
from train.tasks.fracture import FractureTask
from train.tasks.grain import GrainTask
from train.tasks.phase import PhaseTask
from train.tasks.strip_gate import StripGate
from train.tasks.strip_segmenter import StripSegmenter

TASKS: Mapping[str, Callable[[Recipe, Dataset], Task]] = MappingProxyType(
    {
        "boundary": open_boundary,
        "crack": open_crack,
        "fracture": FractureTask,
        "grain": GrainTask,
        "grain-classes": GrainTask,
        "phase": PhaseTask,
        "strip-gate": StripGate,
        "strip-segmenter": StripSegmenter,
    }
)
"""By the recipe's `task`; raises `ConfigError` where the recipe does not fit."""


def open_dataset(recipe: Recipe, cache: Path) -> Dataset:
    """The recipe's data.

    Raises:
        ConfigError: No such kind of data, or a setting is wrong.
        DataError: The data is missing or unreadable.
    """
    kind = recipe.data["kind"]
    if kind not in DATASETS:
        raise ConfigError(f"recipe: data.kind is {kind!r}, {near(kind, list(DATASETS))}")
    settings = {key: value for key, value in recipe.data.items() if key != "kind"}
    return DATASETS[kind].open(check(DATASETS[kind].settings, settings, f"recipe: data ({kind})"), cache)


def open_task(recipe: Recipe, dataset: Dataset) -> Task:
    """The recipe's task.

    Raises:
        ConfigError: No such task, or its settings are wrong.
    """
    if recipe.task not in TASKS:
        raise ConfigError(f"recipe: task is {recipe.task!r}, {near(recipe.task, list(TASKS))}")
    return TASKS[recipe.task](recipe, dataset)
