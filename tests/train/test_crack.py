"""The crack U-Net's task: the paper's four losses, its stair of learning rates, its network for CPUs, and its data."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from camera.images import write_png
from runtime.errors import ConfigError, DataError
from tests.train.learning import losses_of, open_recipe
from train.datasets import DATASETS
from train.models import CrackOutput, build, count_parameters
from train.optimise import make_schedule
from train.recipe import RECIPES, Recipe, Steps, load_recipe
from train.sampling import Batch
from train.tasks import open_dataset
from train.tasks.crack import CrackTaskSettings
from train.tasks.mask import MASK_LOSSES

CRACKFOREST = Path(__file__).resolve().parents[2].parent / "shared/data/crackforest"
SMALL = {
    "kind": "synthetic-crack",
    "train_pictures": 4,
    "validation_pictures": 2,
    "height_px": 80,
    "width_px": 101,
    "clean_ratio": 0.25,
}


def recipe_of(**changes):
    table = {
        "task": "crack",
        "variant": "compact",
        "model": {"architecture": "unet-folded"},
        "data": SMALL,
        "phases": [{"epochs": 1, "loss": "dice", "batch": 2, "crops": [[48, 64]]}],
        "augmentation": {"move_probability": 0.0, "brightness": 0.0, "contrast": 0.0},
    }
    return Recipe.model_validate(table | changes)


def task_of(cache, **changes):
    return open_recipe(recipe_of(**changes), cache)


# --- the network


@pytest.mark.parametrize("shape", [(64, 96), (61, 90), (9, 17)])
def test_the_compact_network_gives_a_logit_for_each_pixel_of_any_size(shape):
    network = build("crack", "unet-folded").eval()
    frames = torch.randint(0, 256, (2, 1, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        logits = network(frames).logits
    assert logits.shape == (2, 1, *shape)
    assert logits.dtype == torch.float32


def test_the_compact_network_is_a_third_of_the_papers():
    assert count_parameters(build("crack", "unet-folded")) == 595_652


# --- losses


def loss_of(name, logits, truth, **own):
    return float(MASK_LOSSES[name](CrackTaskSettings(**own))(logits, truth))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_losses_are_the_papers_formulas(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 1, 9, 7, generator=generator)
    truth = (torch.rand(2, 1, 9, 7, generator=generator) > 0.7).float()
    p = logits.sigmoid()
    tp, fp, fn = (p * truth).sum(), (p * (1 - truth)).sum(), ((1 - p) * truth).sum()
    right = torch.where(truth > 0, p, 1 - p)
    weight = torch.where(truth > 0, 0.25, 0.75)
    expected = {
        "bce": -right.log().mean(),
        "dice": 1 - (2 * tp + 2) / (p.sum() + truth.sum() + 2),
        "focal": -(weight * (1 - right) ** 2 * right.log()).mean(),
        "tversky": 1 - (tp + 1) / (tp + 0.3 * fp + 0.7 * fn + 1),
    }
    for name, value in expected.items():
        assert loss_of(name, logits, truth) == pytest.approx(float(value), abs=1e-5), name


def test_tversky_with_even_weights_is_dice():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(1, 1, 40, 40, generator=generator)
    truth = (torch.rand(1, 1, 40, 40, generator=generator) > 0.5).float()
    even = loss_of("tversky", logits, truth, tversky_alpha=0.5, tversky_beta=0.5)
    assert even == pytest.approx(loss_of("dice", logits, truth), abs=1e-6)


def test_an_unknown_loss_or_figure_is_refused(cache):
    with pytest.raises(ConfigError, match=r"phases.0.loss is 'dise', did you mean 'dice'"):
        task_of(cache, phases=[{"epochs": 1, "loss": "dise", "batch": 2}])
    with pytest.raises(ConfigError, match="select"):
        task_of(cache, settings={"select": "accuracy"})


def test_data_of_other_classes_is_refused(cache):
    with pytest.raises(ConfigError, match="expected crack alone"):
        task_of(cache, data={"kind": "synthetic", "train_strips": 1, "validation_strips": 1, "frames_per_strip": 1,
                             "height_px": 64, "width_px": 64})  # fmt: skip


# --- recipes and schedule


def test_the_papers_recipe_is_the_papers():
    recipe = load_recipe(RECIPES / "crack.toml")
    assert (recipe.epochs, recipe.phases[0].batch, recipe.phases[0].crops) == (120, 16, ())
    assert (recipe.data["train_pictures"], recipe.data["validation_pictures"]) == (1612, 403)
    assert recipe.augmentation.flip_horizontal
    assert recipe.augmentation.flip_vertical
    assert recipe.phases[0].steps == 4 * 1612 // 16


def test_the_learning_rate_falls_in_three_steps():
    weight = nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.Adam([weight], lr=1e-4)
    schedule = make_schedule(optimiser, load_recipe(RECIPES / "crack.toml").schedule, 1e-4, 120)
    rates = []
    for _ in range(120):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.after_step()
    assert rates == pytest.approx([1e-4] * 60 + [1e-5] * 30 + [1e-6] * 30)


def test_a_resume_goes_on_where_the_stair_was():
    optimiser = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make_schedule(optimiser, Steps(at_ratios=(0.5,)), 1.0, 4)
    optimiser.step()
    schedule.after_step()
    again = make_schedule(optimiser, Steps(at_ratios=(0.5,)), 1.0, 4)
    again.load_state_dict(schedule.state_dict())
    again.after_step()
    assert optimiser.param_groups[0]["lr"] == pytest.approx(0.1)


def test_ratios_that_do_not_rise_are_refused():
    with pytest.raises(ValueError, match="must rise"):
        Steps(at_ratios=(0.75, 0.5))


# --- the task


def test_a_step_of_training_lowers_the_loss(cache):
    torch.manual_seed(0)
    task = task_of(cache, phases=[{"epochs": 1, "loss": "bce_dice", "batch": 4, "crops": [[48, 64]], "steps": 1}])
    phase = recipe_of(phases=[{"epochs": 1, "loss": "bce_dice", "batch": 4, "crops": [[48, 64]], "steps": 1}]).phases[0]
    (batch,) = task.batches(phase, epoch_in_phase=0, rng=np.random.default_rng(0), rank=0, world=1)
    assert isinstance(batch, Batch)
    assert batch.frames.shape == batch.masks.shape == (4, 1, 48, 64)
    losses = losses_of(task, phase, task.build_model().train(), batch, steps=8, learning_rate=3e-3)
    assert losses[-1] < 0.8 * losses[0]


def test_the_truth_validates_full_and_is_drawn(cache):
    task = task_of(cache)
    dataset = open_dataset(recipe_of(), cache)
    truths = [torch.from_numpy(np.array(dataset.sample(index).masks)) for index in dataset.split["validation"]]
    asked = iter(torch.stack(truths).split(len(truths)))

    def model(frames):
        del frames
        return CrackOutput(torch.where(next(asked), 4.0, -4.0))

    figures = task.validate(model, torch.device("cpu"))
    assert figures == dict.fromkeys(("mean_iou", "mean_pixel_accuracy", "iou", "f1", "f1_tolerant"), 1.0)
    assert task.select in figures
    pictures = dict(task.examples(lambda frames: CrackOutput(torch.zeros(frames.shape)), torch.device("cpu")))
    assert len(pictures) == 2


# --- data


def test_drawn_pipes_are_kept_with_their_tips(cache):
    dataset = open_dataset(recipe_of(), cache)
    assert [len(dataset.split[part]) for part in ("train", "validation", "test")] == [4, 2, 0]
    samples = [dataset.sample(index) for index in range(6)]
    assert [bool(each.masks.any()) for each in samples] == [True, True, True, False, True, True]
    np.testing.assert_array_equal(dataset.present[:, 0], [each.masks.any() for each in samples])
    assert all((len(each.points) > 0) == bool(each.masks.any()) for each in samples)
    again = open_dataset(recipe_of(), cache)
    assert again.digest == dataset.digest
    assert open_dataset(recipe_of(data={**SMALL, "look_alikes": 0.5}), cache).digest != dataset.digest


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="Set --cache"):
        open_dataset(recipe_of(), tmp_path / "file")


def open_forest(path, **own):
    kind = DATASETS["crackforest"]
    return kind.open(kind.settings.model_validate({"path": path, **own}), path)


def plant(folder, numbers, shape=(16, 24)):
    for number in numbers:
        grey = np.full(shape, 90, np.uint8)
        mask = np.zeros(shape, np.uint8)
        mask[number % shape[0]] = 255
        for kind, picture, suffix in (("images", grey, "jpg"), ("masks", mask, "png")):
            path = folder / kind / f"{number:03d}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_png(path, picture)  # a decoder goes by the bytes, not by the name
    return folder


def test_crackforest_is_split_by_blocks_of_numbers(tmp_path):
    forest = open_forest(plant(tmp_path, (1, 40, 62, 63, 72, 73, 118)))
    names = {part: [forest.sample(index).name for index in indices] for part, indices in forest.split.items()}
    assert names == {"train": ["001", "040", "062"], "validation": ["063", "072"], "test": ["073", "118"]}
    sample = forest.sample(1)
    assert sample.masks.shape == (1, 16, 24)
    assert sample.masks[0, 40 % 16].all()
    assert np.count_nonzero(sample.masks) == 24


def test_a_crackforest_with_something_missing_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"found no images/\*.jpg"):
        open_forest(tmp_path)
    plant(tmp_path, (1, 2))
    (tmp_path / "masks/002.png").unlink()
    with pytest.raises(DataError, match=r"found no mask .*002.png"):
        open_forest(tmp_path)
    plant(tmp_path, (2,))
    (tmp_path / "images/two.jpg").write_bytes((tmp_path / "images/002.jpg").read_bytes())
    with pytest.raises(DataError, match="expected a number"):
        open_forest(tmp_path)


def test_a_mask_of_another_size_is_named(tmp_path):
    plant(tmp_path, (1,))
    write_png(tmp_path / "masks/001.png", np.zeros((8, 8), np.uint8))
    with pytest.raises(DataError, match=r"001.png: found 8x8 px, expected 16x24"):
        open_forest(tmp_path).sample(0)


def test_a_crackforest_without_pictures_to_learn_from_is_refused(tmp_path):
    with pytest.raises(DataError, match="to learn from"):
        open_forest(plant(tmp_path, (90, 91)))
    with pytest.raises(ValueError, match="at most last_train"):
        open_forest(tmp_path, last_train=10, last_learnt=20)


@pytest.mark.skipif(not CRACKFOREST.is_dir(), reason="the public set is not on this machine")
def test_the_public_crackforest_opens():
    forest = open_forest(CRACKFOREST)
    assert forest.sample(0).pixels.shape == (320, 480)
    assert 0.0 < forest.sample(0).masks.mean() < 0.1


def test_of_magnetic_tiles_the_cracked_and_the_sound_are_kept(tmp_path):
    number = 0
    for name in ("MT_Free", "MT_Blowhole", "MT_Break", "MT_Crack", "MT_Fray", "MT_Uneven"):
        (tmp_path / name).mkdir()
        for _ in range(5):
            number += 1
            mask = np.zeros((20, 30), np.uint8)
            mask[number % 20] = 255
            write_png(tmp_path / name / f"exp1_num_{number}.jpg", np.full((20, 30), 100, np.uint8))
            if name != "MT_Free":
                write_png(tmp_path / name / f"exp1_num_{number}.png", mask)
    kind = DATASETS["tiles-crack"]
    tiles = kind.open(kind.settings.model_validate({"path": tmp_path}), tmp_path)
    assert (len(tiles), tiles.class_names) == (10, ("crack",))
    samples = [tiles.sample(index) for index in range(10)]
    assert {each.name.partition("/")[0] for each in samples} == {"MT_Free", "MT_Crack"}
    assert all(each.masks.shape == (1, 20, 30) for each in samples)
    np.testing.assert_array_equal(tiles.present[:, 0], [each.masks.any() for each in samples])
    assert sorted(index for part in tiles.split.values() for index in part) == list(range(10))
