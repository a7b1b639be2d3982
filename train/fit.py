"""The training loop: epochs, phases, validation, checkpoints; the same for every task."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from runtime.errors import TrainingError
from train.checkpoint import Progress, fresh_progress, load_checkpoint, save_checkpoint
from train.optimise import Schedule, make_optimiser, make_schedule
from train.run_folder import CHECKPOINT_FILE, RunFolder, RunRecord

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from train.progress import Report
    from train.recipe import Recipe
    from train.tasks.base import Task


def fit(
    task: Task,
    recipe: Recipe,
    fabric: Fabric,
    folder: RunFolder,
    record: RunRecord,
    model: nn.Module,
    *,
    resume: bool,
    report: Report,
    clock_s: Callable[[], float] = time.monotonic,
) -> tuple[RunRecord, Progress]:
    """Train a model by its recipe and keep its run folder up to date after every epoch.

    Args:
        task: Gives batches, losses and figures.
        recipe: Phases, optimiser, schedule.
        fabric: Launched; says which devices and which precision.
        folder: Created, with the record in it.
        record: What is known before the first epoch.
        model: With its first weights, on the CPU.
        resume: Go on from the folder's checkpoint.
        report: Told of every step and every epoch.
        clock_s: Monotonic seconds.

    Returns:
        The record and the progress at the end.

    Raises:
        TrainingError: A loss is not finite; the text names the pieces of that batch.
        ConfigError: The checkpoint cannot be resumed.
    """
    model = model.to(memory_format=torch.channels_last)
    optimiser = make_optimiser(model, recipe.optimiser)
    world, rank = fabric.world_size, fabric.global_rank
    steps = sum(phase.epochs * task.steps(phase, world) for phase in recipe.phases)
    schedule = make_schedule(optimiser, recipe.schedule, recipe.optimiser.learning_rate, steps)
    checkpoint = folder.path / CHECKPOINT_FILE
    shared, stepper = fabric.setup(model, optimiser)
    # After the setup, so that the optimiser's state lands on the model's device.
    progress = load_checkpoint(checkpoint, model, optimiser, schedule) if resume else fresh_progress()

    report.start(steps, sum(task.steps(recipe.phase_of(epoch)[1], world) for epoch in range(progress.epochs_done)))
    for epoch in range(progress.epochs_done, recipe.epochs):
        began_s = clock_s()
        number, _ = recipe.phase_of(epoch)
        loss = _learn_epoch(task, recipe, fabric, shared, stepper, schedule, epoch, report)
        row = {
            "epoch": epoch + 1,
            "phase": number,
            "train_loss": loss,
            "learning_rate": optimiser.param_groups[0]["lr"],
        }
        figures: dict[str, float] = {}
        if (epoch + 1) % recipe.validate_every == 0 or epoch + 1 == recipe.epochs:
            # One process validates, and the others learn of it, so that all schedules move alike.
            if rank == 0:
                figures = _validate(task, fabric, model)
            figures = fabric.broadcast(figures)
            if task.select in figures:
                schedule.after_validation(figures[task.select])
        progress.epochs_done = epoch + 1
        progress.train_s += clock_s() - began_s
        progress.history.append(row | figures | {"epoch_s": clock_s() - began_s})
        if rank == 0:
            record = _keep(task, folder, record, model, figures, progress, finished=epoch + 1 == recipe.epochs)
            save_checkpoint(checkpoint, model, optimiser, schedule, progress)
            report.epoch(progress.history[-1], best=progress.best_epoch == epoch + 1)
        fabric.barrier()
    if rank == 0:
        model.eval()
        with torch.inference_mode():
            folder.save_examples(task.examples(model, fabric.device))
    return record, progress


def _learn_epoch(
    task: Task,
    recipe: Recipe,
    fabric: Fabric,
    model: Any,
    optimiser: Any,
    schedule: Schedule,
    epoch: int,
    report: Report,
) -> float:
    """All batches of one epoch; returns their mean loss."""
    number, phase = recipe.phase_of(epoch)
    first = sum(each.epochs for each in recipe.phases[:number])
    # Both generators are a function of seed and epoch, so an epoch is the same after a resume.
    rng = np.random.default_rng((recipe.seed, epoch))
    torch.manual_seed(int(np.random.default_rng((recipe.seed, epoch, fabric.global_rank, 1)).integers(2**62)))
    model.train()
    losses: list[float] = []
    batches = task.batches(
        phase, epoch_in_phase=epoch - first, rng=rng, rank=fabric.global_rank, world=fabric.world_size
    )
    for batch in batches:
        moved = fabric.to_device(batch)
        loss: Tensor = task.loss(phase, model(moved.frames), moved)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"training: epoch {epoch + 1}, step {len(losses) + 1}: the loss is {value}, expected a number. The "
                f"batch was {', '.join(batch.names)}. Look at these pictures, lower optimiser.learning_rate, or set "
                "optimiser.clip_norm; --resume goes on from the last whole epoch."
            )
        fabric.backward(loss)
        if recipe.optimiser.clip_norm is not None:
            fabric.clip_gradients(model, optimiser, max_norm=recipe.optimiser.clip_norm)
        optimiser.step()
        optimiser.zero_grad()
        schedule.after_step()
        losses.append(value)
        report.step(value)
    return sum(losses) / len(losses)


def _validate(task: Task, fabric: Fabric, model: nn.Module) -> dict[str, float]:
    """The task's figures, in the training's precision, without the other processes."""
    model.eval()
    with torch.inference_mode(), fabric.autocast():
        return task.validate(model, fabric.device)


def _keep(
    task: Task,
    folder: RunFolder,
    record: RunRecord,
    model: nn.Module,
    figures: dict[str, float],
    progress: Progress,
    *,
    finished: bool,
) -> RunRecord:
    """Write weights, record and history; `best` are the last weights where nothing can be validated."""
    folder.save_weights("last", model)
    figure = figures.get(task.select)
    if figure is not None and math.isfinite(figure) and (progress.best is None or figure > progress.best):
        progress.best, progress.best_epoch, progress.best_figures = figure, progress.epochs_done, figures
    if progress.best is None or progress.best_epoch == progress.epochs_done:
        folder.save_weights("best", model)
    record = record.model_copy(
        update={
            "epochs_done": progress.epochs_done,
            "train_s": round(progress.train_s, 1),
            "best_epoch": progress.best_epoch,
            "best": progress.best_figures,
            "finished": finished,
        }
    )
    folder.save_history(progress.history)
    folder.save_record(record)
    return record
