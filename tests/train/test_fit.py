"""The loop: it learns, resumes to equal weights, stops on NaN, and leaves a folder that opens again."""

import csv

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from runtime.errors import ConfigError, TrainingError
from train.checkpoint import load_checkpoint
from train.fit import fit
from train.models import count_parameters
from train.optimise import make_optimiser, make_schedule
from train.progress import Silent
from train.recipe import Recipe
from train.run_folder import RunFolder, RunRecord, git_commit, load_run
from train.tasks import open_dataset, open_task

SMALL_STRIPS = {
    "kind": "synthetic",
    "train_strips": 2,
    "validation_strips": 1,
    "frames_per_strip": 6,
    "height_px": 64,
    "width_px": 160,
    "defects_per_frame": 2.0,
}


def recipe_of(task="strip-segmenter", **changes):
    gate = task == "strip-gate"
    phases = [
        {"epochs": 2, "loss": "bce" if gate else "bce_dice", "batch": 2, "crops": [[64, 64], [64, 96]], "steps": 2},
        {"epochs": 1, "loss": "bce" if gate else "tversky", "batch": 2, "steps": 2},
    ]
    table = {
        "task": task,
        "variant": "compact",
        "seed": 3,
        "model": {"architecture": "resnet10-cells" if gate else "unet-resnet10-narrow"},
        "data": SMALL_STRIPS,
        "schedule": {"kind": "plateau", "patience": 1},
        "phases": phases,
    }
    return Recipe.model_validate(table | changes)


def train(recipe, folder, cache, *, resume=False, epochs=None):
    """As the command does it; `epochs` breaks off after so many."""
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    fabric.seed_everything(recipe.seed, verbose=False)
    task = open_task(recipe, open_dataset(recipe, cache))
    model = task.build_model()
    record = RunRecord(
        task=recipe.task, role=task.role, architecture=recipe.model.architecture, variant=recipe.variant,
        classes=task.class_names, parameters=count_parameters(model), weights_from={}, data_digest=task.data_digest,
        git_commit="unknown", created_at="2020-01-01T00:00:00+00:00", versions={}, device="cpu", precision="32-true",
        command="test",
    )  # fmt: skip
    run = RunFolder(folder)
    if not resume:
        run.create(recipe, record)
    report = Silent() if epochs is None else BreakOff(epochs)
    return fit(task, recipe, fabric, run, record, model, resume=resume, report=report)


class BreakOff(Silent):
    """Interrupts, as a person or a power cut does, inside the epoch behind the given one."""

    def __init__(self, epochs):
        self.left = epochs

    def epoch(self, row, *, best):
        self.left -= 1

    def step(self, loss):
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("schedule", [{"kind": "plateau", "patience": 1}, {"kind": "one_cycle"}])
@pytest.mark.parametrize("task", ["strip-gate", "strip-segmenter"])
def test_a_resumed_run_ends_with_equal_weights(task, schedule, tmp_path, cache):
    recipe = recipe_of(task, schedule=schedule)
    whole, _ = train(recipe, tmp_path / "whole", cache)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "broken", cache, epochs=1)
    torch.rand(7)  # whatever happened in between
    resumed, progress = train(recipe, tmp_path / "broken", cache, resume=True)
    assert progress.epochs_done == 3
    assert resumed.finished
    for weights in ("best", "last"):
        one, other = (load_run(tmp_path / name, weights=weights).model.state_dict() for name in ("whole", "broken"))
        assert one.keys() == other.keys()
        for key in one:
            assert torch.equal(one[key], other[key]), key
    assert resumed.best == whole.best


def test_run_folder_tells_what_happened(tmp_path, cache):
    recipe = recipe_of()
    record, _ = train(recipe, tmp_path / "run", cache)
    run = load_run(tmp_path / "run")
    assert run.recipe == recipe
    assert run.record == record
    assert record.epochs_done == 3
    assert record.best_epoch >= 1
    assert not run.model.training
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [row["phase"] for row in rows] == ["0", "0", "1"]
    assert float(rows[record.best_epoch - 1]["dice"]) == pytest.approx(record.best["dice"], rel=1e-5)
    assert (tmp_path / "run" / "curves.png").stat().st_size > 5000
    assert list((tmp_path / "run" / "examples").glob("*.png"))
    with torch.inference_mode():
        assert run.model(torch.zeros(1, 1, 64, 160, dtype=torch.uint8)).logits.shape == (1, 4, 64, 160)


def test_training_lowers_the_loss(tmp_path, cache):
    phases = [{"epochs": 3, "loss": "bce_dice", "batch": 4, "crops": [[64, 96]], "steps": 12}]
    recipe = recipe_of(phases=phases, optimiser={"learning_rate": 3e-3}, validate_every=3)
    _, progress = train(recipe, tmp_path / "run", cache)
    losses = [row["train_loss"] for row in progress.history]
    assert losses[-1] < 0.95 * losses[0]


def test_nan_stops_with_the_batch_named_and_can_be_resumed(tmp_path, cache):
    recipe = recipe_of()

    class Poison(Silent):
        def epoch(self, row, *, best):
            with torch.no_grad():
                next(model.parameters()).fill_(torch.nan)

    fabric = Fabric(accelerator="cpu", devices=1)
    task = open_task(recipe, open_dataset(recipe, cache))
    model = task.build_model()
    whole, _ = train(recipe, tmp_path / "run", cache)
    run = RunFolder(tmp_path / "poisoned")
    run.create(recipe, whole)
    with pytest.raises(TrainingError, match=r"epoch 2, step 1: the loss is nan.*batch was seed100\d-frame\d+\["):
        fit(task, recipe, fabric, run, whole, model, resume=False, report=Poison())
    record, _ = train(recipe, tmp_path / "poisoned", cache, resume=True)
    assert record.finished
    assert all(bool(torch.isfinite(each).all()) for each in load_run(tmp_path / "poisoned").model.state_dict().values())


def test_a_folder_with_a_run_in_it_is_not_overwritten(tmp_path, cache):
    train(recipe_of(), tmp_path / "run", cache)
    with pytest.raises(ConfigError, match="found another run, expected a new folder"):
        train(recipe_of(), tmp_path / "run", cache)


def test_a_damaged_checkpoint_is_refused(tmp_path, cache):
    recipe = recipe_of()
    model = open_task(recipe, open_dataset(recipe, cache)).build_model()
    optimiser = make_optimiser(model, recipe.optimiser)
    schedule = make_schedule(optimiser, recipe.schedule, 1e-3, 10)
    (tmp_path / "checkpoint.pt").write_bytes(b"PK\x03\x04 not a checkpoint")
    with pytest.raises(ConfigError, match=r"checkpoint\.pt: .*expected the checkpoint of this very recipe"):
        load_checkpoint(tmp_path / "checkpoint.pt", model, optimiser, schedule)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"found no readable recipe\.json"):
        load_run(tmp_path)


def test_git_commit_outside_a_repository_is_unknown(tmp_path):
    assert git_commit(tmp_path) == "unknown"


def test_wrong_loss_for_a_task_names_the_known_ones(tmp_path, cache):
    recipe = recipe_of(phases=[{"epochs": 1, "loss": "tverski", "batch": 2}])
    with pytest.raises(ConfigError, match=r"phases.0.loss is 'tverski', did you mean 'tversky'\?"):
        open_task(recipe, open_dataset(recipe, cache))


def test_examples_show_frame_truth_and_finding(tmp_path, cache):
    recipe = recipe_of()
    task = open_task(recipe, open_dataset(recipe, cache))
    model = task.build_model().eval()
    with torch.inference_mode():
        pictures = dict(task.examples(model, torch.device("cpu")))
    assert pictures
    assert all(picture.shape == (3 * 64 + 8, 160, 3) and picture.dtype == np.uint8 for picture in pictures.values())
