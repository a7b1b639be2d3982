"""The folder of one training: what went in, how it went, and the weights that came out.

| file | what |
|---|---|
| `recipe.json` | the recipe as it ran, overrides and all |
| `run.json` | the record: task, architecture, classes, parameters, data digest, git commit, versions, best figures |
| `metrics.csv` | one row an epoch |
| `curves.png` | losses, learning rate and validation figures over the epochs |
| `examples/*.png` | predictions beside the truth |
| `best.safetensors`, `last.safetensors` | weights |
| `checkpoint.pt` | all that a resume needs |

`load_run` is the way back: the exporter asks it for the model and for its provenance.
"""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from runtime.errors import ConfigError
from train.models import Variant, build, job_of, load_weights
from train.recipe import Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

RECIPE_FILE, RECORD_FILE, METRICS_FILE, CURVES_FILE = "recipe.json", "run.json", "metrics.csv", "curves.png"
CHECKPOINT_FILE, EXAMPLES_FOLDER = "checkpoint.pt", "examples"

Row = dict[str, float]


class RunRecord(BaseModel):
    """What a run is and what it reached; `run.json`.

    Attributes:
        role: Of the graph in its bundle; `model` where the task has one graph.
        classes: The names of the network's outputs, in their order; for a gate, the data's classes.
        parameters: Trainable parameters of the model.
        weights_from: The file that a fine-tuning began from, and its SHA-256; empty for a fresh start.
        data_digest: SHA-256 of the training data.
        git_commit: Of the working tree; ends in `-dirty` where tracked files differed from it.
        created_at: UTC, ISO 8601.
        versions: Of the libraries that decide the result.
        command: As typed.
        epochs_done: Whole epochs behind the last checkpoint.
        train_s: Wall time of all epochs, in seconds, resumes included.
        best_epoch: The epoch, counted from 1, of `best.safetensors`; 0 before the first validation.
        best: Validation figures at those weights.
        finished: Whether all epochs of the recipe are done.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    schema_version: Literal["ferrosight.run/1"] = "ferrosight.run/1"
    task: str
    role: Literal["gate", "segmenter", "model"]
    architecture: str
    variant: Variant
    classes: tuple[str, ...]
    parameters: int
    weights_from: dict[str, str]
    data_digest: str
    git_commit: str
    created_at: str
    versions: dict[str, str]
    device: str
    precision: str
    command: str
    epochs_done: int = 0
    train_s: float = 0.0
    best_epoch: int = 0
    best: dict[str, float] = {}
    finished: bool = False


@dataclass(frozen=True, slots=True)
class LoadedRun:
    """A trained model with its provenance.

    Attributes:
        model: In float32 on the CPU, in eval mode; frames (N, 1, H, W) uint8 to the named tuple of its job.
        recipe: As it ran.
        record: The run's record.
    """

    model: nn.Module
    recipe: Recipe
    record: RunRecord


def load_run(folder: Path, *, weights: Literal["best", "last"] = "best") -> LoadedRun:
    """Open a run folder, finished or still running.

    Args:
        folder: As `ferrosight train` wrote it.
        weights: The best weights by the validation figure, or the last ones.

    Raises:
        ConfigError: It is no run folder, or its weights do not fit its record.
    """
    recipe, record = read_recipe(folder), read_record(folder)
    classes = 1 if record.role == "gate" else len(record.classes)
    model = build(job_of(record.task), record.architecture, classes=classes)
    path = folder / f"{weights}.safetensors"
    try:
        model.load_state_dict(load_weights(path))
    except RuntimeError as error:
        raise ConfigError(
            f"run {folder}: {path.name} does not fit {record.architecture}: {str(error).splitlines()[0]} "
            "Train again with this version of ferrosight."
        ) from error
    return LoadedRun(model.eval(), recipe, record)


def read_recipe(folder: Path) -> Recipe:
    """The recipe of a run.

    Raises:
        ConfigError: There is none, or it is of another version.
    """
    return _read(folder / RECIPE_FILE, Recipe)


def read_record(folder: Path) -> RunRecord:
    """The record of a run.

    Raises:
        ConfigError: There is none, or it is of another version.
    """
    return _read(folder / RECORD_FILE, RunRecord)


def read_last_figures(folder: Path) -> dict[str, float]:
    """The row of `metrics.csv` of a run's last epoch.

    Raises:
        ConfigError: There is none yet.
    """
    path = folder / METRICS_FILE
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {key: float(value) for key, value in rows[-1].items() if value}
    except (OSError, IndexError, ValueError) as error:
        raise ConfigError(f"run {folder}: {path.name} has no readable row ({error}), expected one an epoch.") from error


def _read(path: Path, model: type[Any]) -> Any:
    try:
        return model.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"run {path.parent}: found no readable {path.name} ({error.strerror}), expected the folder of a training. "
            "Give the folder that 'ferrosight train' wrote."
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError(
            f"run {path.parent}: {path.name} is not valid at {'.'.join(map(str, first['loc']))}: {first['msg']}. "
            "Train again with this version of ferrosight."
        ) from error


class RunFolder:
    """Writes a run's files; each appears whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self, recipe: Recipe, record: RunRecord) -> None:
        """Make the folder.

        Raises:
            ConfigError: There is a run in it already, or it cannot be written.
        """
        if (self.path / RECIPE_FILE).exists():
            raise ConfigError(
                f"run {self.path}: found another run, expected a new folder. Give another --out, or --resume it."
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._write(RECIPE_FILE, recipe.model_dump_json(indent=2) + "\n")
            self.save_record(record)
        except OSError as error:
            raise ConfigError(f"run {self.path}: {error.strerror}, expected a writable folder. Set --out.") from error

    def save_record(self, record: RunRecord) -> None:
        """Write `run.json`."""
        self._write(RECORD_FILE, record.model_dump_json(indent=2) + "\n")

    def save_history(self, history: Sequence[Row]) -> None:
        """Write `metrics.csv` and draw `curves.png`."""
        columns = list(dict.fromkeys(key for row in history for key in row))
        draft = self.path / f".{METRICS_FILE}"
        with draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows({key: f"{value:.7g}" for key, value in row.items()} for row in history)
        draft.replace(self.path / METRICS_FILE)
        _draw_curves(history, self.path / CURVES_FILE)

    def save_weights(self, name: Literal["best", "last"], model: nn.Module) -> None:
        """Write the weights as safetensors."""
        from safetensors.torch import save_file

        state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
        draft = self.path / f".{name}.safetensors"
        save_file(state, draft)
        draft.replace(self.path / f"{name}.safetensors")

    def save_examples(self, pictures: Iterable[tuple[str, NDArray[np.uint8]]]) -> None:
        """Write pictures in place of the ones there."""
        from train.pictures import save_png

        folder = self.path / EXAMPLES_FOLDER
        folder.mkdir(exist_ok=True)
        for old in folder.glob("*.png"):
            old.unlink()
        for name, picture in pictures:
            save_png(folder / f"{name}.png", picture)

    def _write(self, name: str, text: str) -> None:
        draft = self.path / f".{name}"
        draft.write_text(text, encoding="utf-8")
        draft.replace(self.path / name)


def git_commit(folder: Path) -> str:
    """The commit that a folder's working tree stands on, `-dirty` where tracked files differ, or `unknown`."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],  # noqa: S607
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def _draw_curves(history: Sequence[Row], path: Path) -> None:
    """Losses above, validation figures between 0 and 1 below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True)
    for key in dict.fromkeys(key for row in history for key in row):
        points = [(row["epoch"], row[key]) for row in history if key in row]
        values = np.array([value for _, value in points])
        if key in ("train_loss", "loss"):
            above.plot(*zip(*points, strict=True), marker=".", label=key)
        elif key not in ("epoch", "phase", "learning_rate", "epoch_s") and values.size and values.max() <= 1.0:
            below.plot(*zip(*points, strict=True), marker=".", label=key)
    above.set_ylabel("loss")
    below.set_ylabel("validation")
    below.set_xlabel("epoch")
    for axes in (above, below):
        axes.grid(alpha=0.3)
        if axes.has_data():
            axes.legend(fontsize="small", ncols=2)
    draft = path.with_name(f".{path.name}")
    figure.savefig(draft, dpi=110, format="png")
    draft.replace(path)


def to_json(record: RunRecord, folder: Path, history: Sequence[Row]) -> str:
    """What `--json` prints at the end: the record, the folder and the last row."""
    last: Mapping[str, float] = history[-1] if history else {}
    return json.dumps({"run": str(folder), "record": record.model_dump(mode="json"), "last": last}, indent=2)
