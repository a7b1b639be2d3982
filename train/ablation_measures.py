"""How the trainings of an ablation are judged: on the test part of their own data, alone or as a cascade."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from runtime.errors import ConfigError
from train.metrics import CompetitionDice, GateFigures
from train.models import load_weights
from train.sampling import whole_batches
from train.tasks import open_dataset, open_task
from train.tasks.strip_gate import StripGate

if TYPE_CHECKING:
    from torch import nn

    from train.datasets import Dataset
    from train.datasets.base import Split
    from train.recipe import Recipe
    from train.session import Machine

GATE, SEGMENTER = "gate", "segmenter"
_BATCH = 4


@dataclass(frozen=True, slots=True)
class Finished:
    """One finished training: its case, its recipe, and its run folder."""

    case: str
    recipe: Recipe
    folder: Path


class JudgedOn:
    """A dataset whose part for validation is another one, so that a task validates on that."""

    def __init__(self, dataset: Dataset, part: Split) -> None:
        if not dataset.split.get(part):
            raise ConfigError(
                f"ablation: the data has no {part} part, expected one to judge by. Set its size in the ablation's "
                "file, such as data.test_specimens=40."
            )
        self._dataset = dataset
        self.split = {**dataset.split, "validation": dataset.split[part]}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    def __len__(self) -> int:
        return len(self._dataset)


def measure_each(finished: Sequence[Finished], machine: Machine, cache: Path) -> dict[str, dict[str, float]]:
    """The task's own figures of every case's best weights, on the test part, and the pictures a second.

    Args:
        finished: Trainings, each judged alone.
        machine: What to run on.
        cache: Where rendered pictures are kept.

    Returns:
        By case. `images_per_s`: whole test pictures, one at a time, forward alone, in the training's precision.

    Raises:
        ConfigError: The data has no test part.
    """
    rows: dict[str, dict[str, float]] = {}
    for each in finished:
        fabric = _fabric(machine)
        dataset = JudgedOn(open_dataset(each.recipe, cache), "test")
        task = open_task(each.recipe, dataset)  # type: ignore[arg-type]
        model = _best(task.build_model(), each.folder, fabric)
        picture = dataset.sample(dataset.split["test"][0]).pixels
        frame = torch.from_numpy(np.array(picture))[None, None].to(fabric.device)
        with torch.inference_mode(), fabric.autocast():
            rows[each.case] = task.validate(model, fabric.device)
            rows[each.case]["images_per_s"] = 1.0 / _median_s(partial(model, frame), fabric.device)
    return rows


def _median_s(run: Callable[[], object], device: torch.device, runs: int = 15, warm_up: int = 3) -> float:
    """How long a call takes, in seconds; the first calls, which make plans and buffers, are left out."""
    times: list[float] = []
    for _ in range(warm_up + runs):
        began_s = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began_s)
    return statistics.median(times[warm_up:])


def measure_cascade(finished: Sequence[Finished], machine: Machine, cache: Path) -> dict[str, dict[str, float]]:
    """The competition's Dice of the strip's segmenter, alone and behind its gate, on the test part.

    The gate's threshold is the one that keeps its recall on the validation part. Where the gate says clean, the masks
    are empty, as in the paper (section 5.3). Two rows need no training: nothing found at all, and a gate that knows.

    Raises:
        ConfigError: There is not one training of a gate and one of a segmenter, or no test part.
    """
    by_task = {each.recipe.task: each for each in finished}
    if set(by_task) != {"strip-gate", "strip-segmenter"}:
        raise ConfigError(
            f"ablation: found trainings of {', '.join(sorted(by_task))}, expected strip-gate and strip-segmenter."
        )
    fabric = _fabric(machine)
    gate_run, segmenter_run = by_task["strip-gate"], by_task["strip-segmenter"]
    dataset = JudgedOn(open_dataset(segmenter_run.recipe, cache), "test")
    gate_data = open_dataset(gate_run.recipe, cache)
    gate_task = open_task(gate_run.recipe, gate_data)
    if not isinstance(gate_task, StripGate):  # for the type checker: the name says so
        raise ConfigError("ablation: the gate's recipe opens no gate.")
    segmenter_task = open_task(segmenter_run.recipe, dataset)  # type: ignore[arg-type]
    gate = _best(gate_task.build_model(), gate_run.folder, fabric)
    segmenter = _best(segmenter_task.build_model(), segmenter_run.folder, fabric)
    dice = {row: CompetitionDice().to(fabric.device) for row in CASCADE_ROWS}
    figures = GateFigures(0.99, fabric.device)
    with torch.inference_mode(), fabric.autocast():
        threshold = gate_task.validate(gate, fabric.device)["threshold_at_recall"]
        for batch in whole_batches(dataset, list(dataset.split["test"]), _BATCH):  # type: ignore[arg-type]
            frames, truth = batch.frames.to(fabric.device), batch.masks.to(fabric.device) > 0
            found = segmenter(frames).logits > 0.0
            probability = gate(frames).logit.float().sigmoid()
            label = gate_task.labels(batch.masks).to(fabric.device)
            known = ~torch.isnan(label)
            if bool(known.any()):
                figures.update(probability[known], label[known] > 0.5)
            judged = {
                NOTHING: torch.zeros_like(found),
                ALONE: found,
                GATED: _where(probability >= threshold, found),
                PERFECT: _where(truth.flatten(1).any(1), found),
            }
            for row, masks in judged.items():
                dice[row].update(masks, truth)
    rows = {row: metric.compute() for row, metric in dice.items()}
    rows[GATED] |= {name: float(value) for name, value in figures.compute().items()} | {"threshold": threshold}
    return rows


NOTHING, ALONE, GATED, PERFECT = "nothing found", "segmenter alone", "gate, then segmenter", "perfect gate"
CASCADE_ROWS = (NOTHING, ALONE, GATED, PERFECT)


def _where(passed: Tensor, masks: Tensor) -> Tensor:
    return masks & passed[:, None, None, None]


def _fabric(machine: Machine) -> Fabric:
    fabric = Fabric(accelerator=machine.device, devices=1, precision=machine.precision)  # type: ignore[arg-type]
    fabric.launch()
    return fabric


def _best(model: nn.Module, folder: Path, fabric: Fabric) -> nn.Module:
    model.load_state_dict(load_weights(folder / "best.safetensors"))
    return model.to(fabric.device).to(memory_format=torch.channels_last).eval()
