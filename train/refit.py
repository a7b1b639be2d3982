"""The last layer of a grain regression, solved on whole pictures instead of learnt on crops.

A regression whose number is the mean of its cells' is linear in the mean of its features, so the best last layer for
given features is a ridge regression, which needs no steps and no learning rate. Crops are turned and rescaled, which
blurs the finest grain, and hold a grain or two of the coarsest; whole pictures, as the microscope gives them, do
neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from runtime.errors import ConfigError
from train.features import read_features
from train.tasks.grain import number_figures

if TYPE_CHECKING:
    from numpy.typing import NDArray

_RIDGES = 10.0 ** np.arange(-4.0, 3.01, 0.25)


@dataclass(frozen=True, slots=True)
class LinearFit:
    """A number as a linear function of features.

    Attributes:
        weight: (d,).
        bias: Added.
        ridge: The penalty that was chosen.
        left_out_errors: (n,) of each picture by the fit to all the others.
    """

    weight: NDArray[np.float64]
    bias: float
    ridge: float
    left_out_errors: NDArray[np.float64]


def fit_linear(features: NDArray[np.floating], numbers: NDArray[np.floating]) -> LinearFit:
    """The ridge regression whose left-out errors are least in the mean.

    Args:
        features: (n, d).
        numbers: (n,).

    Raises:
        ConfigError: Fewer than ten pictures.
    """
    if len(features) < 10:
        raise ConfigError(f"refit: found {len(features)} pictures, expected ten or more. Give the run more data.")
    mean, middle = features.mean(axis=0, dtype=np.float64), float(numbers.mean())
    scale = np.maximum(features.std(axis=0, dtype=np.float64), 1e-6)
    left, lengths, right = np.linalg.svd((features - mean) / scale, full_matrices=False)
    wanted = np.asarray(numbers, np.float64) - middle
    best: LinearFit | None = None
    for ridge in _RIDGES.tolist():
        shrunk = lengths**2 / (lengths**2 + ridge)
        # What a picture's own number adds to its own fit; taking it away gives the error of the fit without it.
        own = (left**2) @ shrunk + 1.0 / len(features)
        errors = (left @ (shrunk * (left.T @ wanted)) - wanted) / (1.0 - np.minimum(own, 0.999))
        if best is None or np.abs(errors).mean() < np.abs(best.left_out_errors).mean():
            weight = right.T @ (lengths / (lengths**2 + ridge) * (left.T @ wanted)) / scale
            best = LinearFit(weight, middle - float(mean @ weight), ridge, errors)
    assert best is not None  # noqa: S101 - _RIDGES is not empty
    return best


def refit_run(run: Path, out: Path, cache: Path, command: str) -> dict[str, float]:
    """A new run folder with a run's last weights, the last layer solved on its training pictures.

    Args:
        run: A finished run of a regression with one layer behind its mean.
        out: The new folder.
        cache: Where rendered pictures are kept.
        command: As typed, for the record.

    Returns:
        Figures on the validation part, before (`before_NAME`) and after.

    Raises:
        ConfigError: It is no such run, or the folder cannot be made.
        DataError: Its data is missing.
    """
    from train.run_folder import RunFolder, load_run
    from train.tasks import open_dataset

    loaded = load_run(run, weights="last")
    layer = getattr(loaded.model, "fully_connected", None)
    if loaded.record.task != "grain" or not isinstance(layer, nn.Conv2d):
        raise ConfigError(
            f"run {run}: found {loaded.record.architecture} of {loaded.record.task!r}, expected a regression of grain "
            "whose number is the mean of its cells'. Refit a run of 'train grain --variant compact'."
        )
    dataset, device = open_dataset(loaded.recipe, cache), torch.device("cpu")
    known = read_features(loaded.model, dataset, dataset.split["train"], device)
    judged = read_features(loaded.model, dataset, dataset.split["validation"], device)
    before = number_figures(_numbers(loaded.model, layer, judged[0]), judged[1])
    found = fit_linear(*known)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(found.weight).to(layer.weight).reshape(layer.weight.shape))
        assert layer.bias is not None  # noqa: S101 - the network is ours
        layer.bias.fill_(found.bias - _middle(loaded.model))
    after = number_figures(_numbers(loaded.model, layer, judged[0]), judged[1])
    folder = RunFolder(out)
    record = loaded.record.model_copy(
        update={
            "command": f"{loaded.record.command}; {command}",
            "best": after,
            "best_epoch": loaded.record.epochs_done,
        }
    )
    folder.create(loaded.recipe, record)
    for name in ("last", "best"):
        folder.save_weights(name, loaded.model)
    folder.save_history([{"epoch": float(record.epochs_done), **after}])
    folder.save_record(record)
    return {f"before_{name}": value for name, value in before.items()} | after


def _numbers(model: nn.Module, layer: nn.Conv2d, features: NDArray[np.float32]) -> NDArray[np.float64]:
    weight = layer.weight.detach().double().flatten().numpy()
    bias = 0.0 if layer.bias is None else float(layer.bias.detach()[0])
    return np.asarray(features, np.float64) @ weight + bias + _middle(model)


def _middle(model: nn.Module) -> float:
    """What the network adds to its last layer."""
    return float(getattr(model, "middle", 0.0))
