"""A run folder as the export sees it: the trained network, its provenance, and its validation pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from runtime.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from train.datasets.base import Sample


@dataclass(frozen=True, slots=True)
class TrainedGraph:
    """A trained network and all that a bundle says about it.

    Attributes:
        task: The training task, as the run names it.
        role: Of the graph in the bundle.
        network: In eval mode, on the CPU; frames (N, 1, H, W) uint8 to its named tuple.
        architecture: As the run names it.
        variant: `paper` or `compact`.
        parameters: Trainable parameters.
        class_names: The data's classes.
        recipe: As it ran.
        data_digest: SHA-256 of the training data.
        git_commit: At the training.
        metrics: Validation figures at these weights.
        data_size_px: Height and width of the data's frames; None where the data has many sizes.
    """

    task: str
    role: str
    network: nn.Module
    architecture: str
    variant: Literal["paper", "compact"]
    parameters: int
    class_names: tuple[str, ...]
    recipe: Mapping[str, Any]
    data_digest: str
    git_commit: str
    metrics: Mapping[str, float]
    data_size_px: tuple[int, int] | None


def open_run(run: Path, weights: Literal["best", "last"] = "best") -> TrainedGraph:
    """The best weights of a run folder by its validation figure, or those of its last epoch.

    Raises:
        ConfigError: It is no run folder, or names data that this version does not know.
    """
    from train.datasets import DATASETS
    from train.recipe import check, near
    from train.run_folder import load_run, read_last_figures

    loaded = load_run(run, weights=weights)
    recipe, record = loaded.recipe.model_dump(mode="json"), loaded.record
    kind = recipe["data"]["kind"]
    if kind not in DATASETS:
        raise ConfigError(f"run {run}: data.kind is {kind!r}, {near(kind, list(DATASETS))}")
    data = {key: value for key, value in recipe["data"].items() if key != "kind"}
    settings = check(DATASETS[kind].settings, data, f"run {run}: data ({kind})")
    height, width = (getattr(settings, side, None) for side in ("height_px", "width_px"))
    return TrainedGraph(
        task=record.task,
        role=record.role,
        network=loaded.model,
        architecture=record.architecture,
        variant=record.variant,
        parameters=record.parameters,
        class_names=record.classes,
        recipe=recipe,
        data_digest=record.data_digest,
        git_commit=record.git_commit,
        metrics=record.best if weights == "best" else read_last_figures(run),
        data_size_px=(height, width) if height and width else None,
    )


def validation_samples(
    trained: TrainedGraph, cache: Path, most: int, data: Mapping[str, Any] | None = None
) -> Iterator[Sample]:
    """At most `most` pictures of a run's own validation part, evenly spread.

    Args:
        trained: Whose data.
        cache: Where rendered pictures are kept.
        most: Number of pictures.
        data: Instead of the recipe's table, such as one that renders the validation part alone.

    Raises:
        ConfigError: The recipe's data is unknown.
        DataError: The data is missing or unreadable.
    """
    from train.recipe import Recipe
    from train.sampling import evenly
    from train.tasks import open_dataset

    recipe = dict(trained.recipe) | ({} if data is None else {"data": dict(data)})
    dataset = open_dataset(Recipe.model_validate(recipe), cache)
    for index in evenly(dataset.split["validation"], most):
        yield dataset.sample(index)
