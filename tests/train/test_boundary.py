"""Grain boundaries as a task: its tiles, what it refuses, and that it learns."""

import numpy as np
import pytest
import torch

from runtime.errors import ConfigError
from tests.train.learning import losses_of, open_recipe
from train.datasets.base import Sample
from train.models import BoundaryOutput, build, count_parameters
from train.recipe import RECIPES, Recipe, load_recipe
from train.sampling import Batch
from train.tasks import open_dataset
from train.tasks.boundary import specimen_of, widened
from train.tiles import viewed_tiles

SMALL = {
    "kind": "synthetic-grain",
    "train_per_grade": 2,
    "validation_per_grade": 1,
    "grades": [6.0],
    "height_px": 96,
    "width_px": 112,
}
PHASE = {"epochs": 1, "loss": "bce_dice", "batch": 4, "crops": [[64, 64]], "steps": 1}


def recipe_of(**changes):
    table = {
        "task": "boundary",
        "variant": "compact",
        "model": {"architecture": "unet-folded"},
        "data": SMALL,
        "phases": [PHASE],
        "settings": {"widen_px": 1},
    }
    return Recipe.model_validate(table | changes)


def task_of(cache, **changes):
    return open_recipe(recipe_of(**changes), cache)


def test_the_network_gives_a_logit_for_each_pixel_of_any_size():
    network = build("boundary", "unet-folded").eval()
    assert count_parameters(network) == 647_044
    with torch.inference_mode():
        logits = network(torch.zeros((2, 1, 61, 90), dtype=torch.uint8)).logits
    assert logits.shape == (2, 1, 61, 90)


def test_a_step_of_training_lowers_the_loss(cache):
    torch.manual_seed(0)
    task = task_of(cache)
    phase = recipe_of().phases[0]
    (batch,) = task.batches(phase, epoch_in_phase=0, rng=np.random.default_rng(0), rank=0, world=1)
    assert isinstance(batch, Batch)
    assert batch.frames.shape == batch.masks.shape == (4, 1, 64, 64)
    losses = losses_of(task, phase, task.build_model().train(), batch, steps=8, learning_rate=3e-3)
    assert losses[-1] < 0.8 * losses[0]


def test_the_truth_validates_full(cache):
    task = task_of(cache)
    dataset = open_dataset(recipe_of(), cache)
    truth = torch.from_numpy(np.array(dataset.sample(dataset.split["validation"][0]).masks))[None]
    figures = task.validate(lambda _: BoundaryOutput(torch.where(truth, 9.0, -9.0)), torch.device("cpu"))
    assert figures["boundary_f1"] > 0.98
    assert figures["intercept_error_percent"] < 5.0  # pieces too short to be lines are gone
    assert task.select == "boundary_f1"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {"select": "mean_iou"}}, "select must be one of boundary_f1"),
        ({"phases": [{**PHASE, "loss": "dise"}]}, "did you mean 'dice'"),
        (
            {"data": {"kind": "synthetic-crack", "train_pictures": 1, "validation_pictures": 1,
                      "height_px": 64, "width_px": 64}},
            "expected boundary alone",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(cache, changes, message):
    with pytest.raises(ConfigError, match=message):
        task_of(cache, **changes)


@pytest.mark.parametrize("crops", [[], [[64, 80]]])
def test_tiles_are_squares(cache, crops):
    task = task_of(cache, phases=[{**PHASE, "crops": crops}])
    phase = recipe_of(phases=[{**PHASE, "crops": crops}]).phases[0]
    with pytest.raises(ConfigError, match="expected squares"):
        next(task.batches(phase, epoch_in_phase=0, rng=np.random.default_rng(0), rank=0, world=1))


def crossed() -> Sample:
    pixels = np.zeros((80, 100), np.uint8)
    pixels[38:42] = pixels[:, 48:52] = 200
    return Sample("crossed", pixels, (pixels > 100)[None], {"sample": 7.0})


def test_a_tile_and_its_truth_are_turned_and_zoomed_alike():
    tiles = viewed_tiles(lambda _: crossed(), [0], 48, 0.25, np.random.default_rng(3))
    for _ in range(6):
        tile = next(tiles)
        assert tile.pixels.shape == tile.masks[0].shape == (48, 48)
        assert ((tile.pixels > 100) == tile.masks[0]).mean() > 0.98


def test_processes_share_the_tiles():
    def names(skip: int, first: int) -> list[str]:
        pieces = viewed_tiles(lambda _: crossed(), [0, 1], 48, 0.25, np.random.default_rng(5), skip=skip, first=first)
        return [next(pieces).name for _ in range(4)]

    assert names(1, 0) == [each for pair in zip(names(2, 0)[:2], names(2, 1)[:2], strict=True) for each in pair]


def test_lines_are_widened_to_both_sides():
    sample = widened(crossed(), 2)
    assert sample.masks[0, 60].sum() == 8
    assert specimen_of(sample) == "7"
    assert widened(sample, 0) is sample


def test_the_recipe_of_real_boundaries_reads():
    recipe = load_recipe(RECIPES / "boundary-tbm-compact.toml")
    assert recipe.task == "boundary"
    assert recipe.data["kind"] == "tbm"
