"""What a grain network has learnt to see: its features of each picture, on the two axes along which they differ most.

The grain paper's figures 6 and 7: a classifier's grades are clusters in no order, a regressor's lie along one axis, and
half grades that it never saw lie between their neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from runtime.errors import ConfigError
from train.sampling import evenly

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from train.datasets.base import Dataset

_LEAST = 3


@dataclass(frozen=True, slots=True)
class Projection:
    """Two axes of features.

    Attributes:
        mean: (d,), which is moved to the origin.
        axes: (2, d), of length 1 and at right angles, the one along which most lies first.
        explained_ratio: Share of all that differs that lies along either.
    """

    mean: NDArray[np.float64]
    axes: NDArray[np.float64]
    explained_ratio: tuple[float, float]

    def place(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """(n, 2) of features (n, d)."""
        return (features - self.mean) @ self.axes.T


def principal_axes(features: NDArray[np.floating]) -> Projection:
    """The axes along which features (n, d) differ most (PCA).

    Raises:
        ConfigError: Fewer than three.
    """
    if len(features) < _LEAST:
        raise ConfigError(f"features: found {len(features)} pictures, expected {_LEAST} or more to tell axes from.")
    mean = features.mean(axis=0, dtype=np.float64)
    _, lengths, axes = np.linalg.svd(features - mean, full_matrices=False)
    shares = lengths**2 / max(float((lengths**2).sum()), 1e-12)
    return Projection(mean, axes[:2], (float(shares[0]), float(shares[1])))


@torch.inference_mode()
def read_features(
    model: nn.Module, dataset: Dataset, indices: Sequence[int], device: torch.device
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """What a network's last layer is given for each picture, mean over its places, and the pictures' numbers.

    Returns:
        (n, d) float32 and (n,) float64.
    """
    last = [each for each in model.modules() if isinstance(each, nn.Linear | nn.Conv2d)][-1]
    seen: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        features: Tensor = inputs[0]
        seen.append(features.flatten(2).mean(2) if features.ndim > 2 else features)

    hook = last.register_forward_pre_hook(keep)
    numbers = []
    try:
        for index in indices:
            sample = dataset.sample(index)
            model(torch.from_numpy(np.array(sample.pixels))[None, None].to(device))
            numbers.append(sample.figures["grain_number"])
    finally:
        hook.remove()
    return torch.cat(seen).float().cpu().numpy(), np.asarray(numbers)


def rank_correlation(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Spearman's, -1 to 1: whether an axis orders pictures as their numbers do.

    >>> rank_correlation(np.array([1.0, 2.0, 4.0]), np.array([1.0, 8.0, 9.0]))
    1.0
    """
    ranks = np.stack([each.argsort().argsort() for each in (first, second)])
    return round(float(np.asarray(np.corrcoef(ranks))[0, 1]), 12)


def draw_features(
    known: tuple[NDArray[np.floating], NDArray[np.float64]],
    unseen: tuple[NDArray[np.floating], NDArray[np.float64]] | None,
    title: str,
    path: Path,
) -> float:
    """The picture: pictures of trained grades, and beside them unseen ones on the same axes.

    Args:
        known: Features (n, d) and numbers (n,) of grades that were trained on; they make the axes.
        unseen: The same of others.
        title: Over the picture.
        path: Where the PNG goes.

    Returns:
        The rank correlation of the first axis with the numbers, without its sign, over all pictures.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    axes = principal_axes(known[0])
    parts = [("trained grades", *known)] + ([("grades never trained on", *unseen)] if unseen is not None else [])
    canvas = Figure(figsize=(5.2 * len(parts) + 0.8, 4.6), layout="constrained")
    FigureCanvasAgg(canvas)
    panels = canvas.subplots(1, len(parts), sharex=True, sharey=True, squeeze=False)[0]
    numbers = np.concatenate([each[2] for each in parts])
    places = [axes.place(each[1]) for each in parts]
    dots = None
    for panel, (name, _, grades), place in zip(panels, parts, places, strict=True):
        dots = panel.scatter(*place.T, c=grades, cmap="viridis", vmin=numbers.min(), vmax=numbers.max(), s=26)
        panel.set_title(name)
        panel.set_xlabel(f"first axis ({100 * axes.explained_ratio[0]:.0f} %)")
    panels[0].set_ylabel(f"second axis ({100 * axes.explained_ratio[1]:.0f} %)")
    if dots is not None:
        canvas.colorbar(dots, ax=list(panels), label="ASTM G")
    correlation = abs(rank_correlation(np.concatenate(places)[:, 0], numbers))
    canvas.suptitle(f"{title}: rank correlation of the first axis with G {correlation:.2f}")
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path, dpi=110)
    return correlation


def features_of_run(run: Path, out: Path, cache: Path, most: int = 110) -> float:
    """Draw the features of a grain run on its validation part, and on the grades of its test part that are new to it.

    Returns:
        As `draw_features`.

    Raises:
        ConfigError: It is no run folder, or none of a grain network.
        DataError: Its data is missing.
    """
    from train.run_folder import load_run
    from train.tasks import open_dataset

    loaded = load_run(run)
    if loaded.record.task not in ("grain", "grain-classes"):
        raise ConfigError(f"run {run}: found a run of {loaded.record.task!r}, expected grain or grain-classes.")
    dataset, device = open_dataset(loaded.recipe, cache), torch.device("cpu")
    known = read_features(loaded.model, dataset, evenly(dataset.split["validation"], most), device)
    test = evenly([index for index in dataset.split["test"] if not _is_trained(dataset, index)], most)
    unseen = read_features(loaded.model, dataset, test, device) if test else None
    title = f"{loaded.record.architecture}, {loaded.record.task}"
    return draw_features(known, unseen, title, out)


def _is_trained(dataset: Dataset, index: int) -> bool:
    """Whether the training part has pictures of this picture's grade, where the data says grades at all."""
    grades = getattr(dataset, "grades", None)
    return grades is not None and bool((grades[list(dataset.split["train"])] == grades[index]).any())
