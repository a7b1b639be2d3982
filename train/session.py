"""One training from its recipe to its run folder; what the commands `train TASK` and `train ablation` share."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_fabric import Fabric

from train.fit import fit
from train.models import count_parameters, fine_tune_from
from train.progress import Bar
from train.run_folder import Row, RunFolder, RunRecord, git_commit, read_record
from train.tasks import open_dataset, open_task

if TYPE_CHECKING:
    from torch import nn

    from train.recipe import Recipe
    from train.tasks.base import Task

_LIBRARIES = ("torch", "torchvision", "timm", "segmentation-models-pytorch", "lightning-fabric", "numpy")


@dataclass(frozen=True, slots=True)
class Machine:
    """What a training runs on.

    Attributes:
        device: `cpu`, `cuda` or `auto`.
        devices: How many of them; each is a process.
        precision: `32-true`, `bf16-mixed` or `16-mixed`.
    """

    device: str = "auto"
    devices: int = 1
    precision: str = "32-true"


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training left.

    Attributes:
        record: Of the run.
        history: A row an epoch.
        first: Whether this process is the one that speaks.
    """

    record: RunRecord
    history: list[Row]
    first: bool


def train_run(
    recipe: Recipe,
    folder: RunFolder,
    machine: Machine,
    *,
    cache: Path,
    command: str,
    resume: bool = False,
    weights: Path | None = None,
    title: str | None = None,
) -> Trained:
    """Open everything, fit, and keep the run folder.

    Args:
        recipe: As it runs.
        folder: A new one, or the one to go on with.
        machine: What to run on.
        cache: Where rendered pictures are kept for the next run.
        command: As typed, for the record.
        resume: Go on from the folder's last whole epoch.
        weights: Fine-tune from a run's safetensors.
        title: Of the progress bar; the task's name where there is none.

    Raises:
        ConfigError: Recipe, folder or weights do not fit.
        DataError: The data is missing or unreadable.
        TrainingError: A loss is not finite.
    """
    fabric = Fabric(accelerator=machine.device, devices=machine.devices, precision=machine.precision)  # type: ignore[arg-type]
    fabric.launch()
    fabric.seed_everything(recipe.seed, verbose=False)
    task = open_task(recipe, open_dataset(recipe, cache))
    model = task.build_model()
    if resume:
        record = read_record(folder.path)
    else:
        if weights is not None:
            fine_tune_from(model, weights)
        record = _new_record(task, recipe, fabric, model, weights, machine.precision, command)
        if fabric.global_rank == 0:
            folder.create(recipe, record)
    with Bar(title or recipe.task) as bar:
        record, progress = fit(task, recipe, fabric, folder, record, model, resume=resume, report=bar)
    return Trained(record, progress.history, first=fabric.global_rank == 0)


def _new_record(
    task: Task, recipe: Recipe, fabric: Fabric, model: nn.Module, weights: Path | None, precision: str, command: str
) -> RunRecord:
    """What is known before the first epoch."""
    origin = (
        {} if weights is None else {"file": str(weights), "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    )
    return RunRecord(
        task=recipe.task,
        role=task.role,  # type: ignore[arg-type]  # checked by pydantic
        architecture=recipe.model.architecture,
        variant=recipe.variant,
        classes=task.class_names,
        parameters=count_parameters(model),
        weights_from=origin,
        data_digest=task.data_digest,
        git_commit=git_commit(Path(__file__).parent),
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        versions={name: version(name) for name in _LIBRARIES},
        device=str(fabric.device),
        precision=precision,
        command=command,
    )
