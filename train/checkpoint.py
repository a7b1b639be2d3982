"""The whole state of a training at the end of an epoch, so that a resumed one ends with equal weights."""

from __future__ import annotations

import pickle
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from runtime.errors import ConfigError
from train.optimise import Schedule


@dataclass(slots=True)
class Progress:
    """Where a training stands.

    Attributes:
        epochs_done: Whole epochs learnt.
        train_s: Wall time so far, in seconds.
        best: The best value of the selecting figure; None before the first validation.
        best_epoch: Its epoch, counted from 1.
        best_figures: All validation figures of that epoch.
        history: One row an epoch.
    """

    epochs_done: int
    train_s: float
    best: float | None
    best_epoch: int
    best_figures: dict[str, float]
    history: list[dict[str, float]]


def fresh_progress() -> Progress:
    """Before the first epoch."""
    return Progress(0, 0.0, None, 0, {}, [])


def save_checkpoint(path: Path, model: nn.Module, optimiser: Optimizer, schedule: Schedule, progress: Progress) -> None:
    """Write the state; a crash in between leaves the older checkpoint.

    The batches of an epoch are drawn from generators seeded by the recipe's seed and the epoch's number, so the sampler
    has no state but the epoch.
    """
    state = {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "schedule": schedule.state_dict(),
        "progress": {field: getattr(progress, field) for field in Progress.__slots__},
        "torch_rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python_rng": _tuple_free(random.getstate()),
        "numpy_rng": _numpy_state(),
    }
    draft = path.with_name(f".{path.name}")
    torch.save(state, draft)
    draft.replace(path)


def load_checkpoint(path: Path, model: nn.Module, optimiser: Optimizer, schedule: Schedule) -> Progress:
    """Put everything back as it was.

    Raises:
        ConfigError: The file is missing, damaged, or of another model.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        progress = Progress(**state["progress"])
        torch.set_rng_state(state["torch_rng"])
        if torch.cuda.is_available() and len(state["cuda_rng"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda_rng"])
        version, numbers, gauss = state["python_rng"]
        random.setstate((version, tuple(numbers), gauss))
        np.random.set_state(tuple(state["numpy_rng"]))  # noqa: NPY002  the state that libraries draw from
    except (
        OSError,
        RuntimeError,
        KeyError,
        TypeError,
        ValueError,
        pickle.UnpicklingError,
        EOFError,
    ) as error:
        raise ConfigError(
            f"checkpoint {path}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}, expected "
            "the checkpoint of this very recipe. Resume the folder that it was written in."
        ) from error
    return progress


def _tuple_free(state: tuple[Any, ...]) -> list[Any]:
    version, numbers, gauss = state
    return [version, list(numbers), gauss]


def _numpy_state() -> list[Any]:
    """As plain numbers, so that a checkpoint can be read without running code from it."""
    name, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
    return [name, [int(key) for key in keys], int(position), int(has_gauss), float(gauss)]
