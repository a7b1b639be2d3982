"""The phase task: its data, its tiles, its loss, its figures, and one short training."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional

from camera.images import write_png
from runtime.errors import ConfigError, DataError
from tests.train.learning import losses_of, open_recipe
from train.datasets import DATASETS
from train.datasets.base import Sample
from train.models import PhaseOutput
from train.recipe import RECIPES, Recipe, load_recipe
from train.sampling import Batch
from train.tasks import open_dataset
from train.tasks.phase import labels_of
from train.tiles import TURNS, grid, grid_tiles, random_tiles, turned

SMALL = {
    "kind": "synthetic-phase",
    "train_micrographs": 4,
    "validation_micrographs": 2,
    "height_px": 70,
    "width_px": 90,
}
UHCS = Path(__file__).parents[3] / "shared" / "data" / "uhcs_spheroidite"


def recipe_of(**changes):
    table = {
        "task": "phase",
        "variant": "compact",
        "model": {"architecture": "unet-narrow"},
        "data": SMALL,
        "phases": [{"epochs": 1, "loss": "cross_entropy", "batch": 2, "crops": [[32, 32]], "steps": 2}],
        "augmentation": {"flip_horizontal": False, "flip_vertical": False, "move_probability": 0.0},
    }
    return Recipe.model_validate(table | changes)


def task_of(cache, **changes):
    return open_recipe(recipe_of(**changes), cache)


# --- data


def test_synthetic_micrographs_are_rendered_once_and_parted_by_seed(cache):
    dataset = open_dataset(recipe_of(), cache)
    assert (len(dataset), list(dataset.split["train"]), list(dataset.split["validation"])) == (6, [0, 1, 2, 3], [4, 5])
    sample = dataset.sample(5)
    assert sample.name == "seed20005"
    assert sample.pixels.shape == (70, 90)
    assert sample.masks.shape == (1, 70, 90)
    assert sample.figures["pearlite_ratio"] == sample.masks.mean()
    files = {path: path.stat().st_mtime_ns for path in cache.rglob("*.npy")}
    again = open_dataset(recipe_of(), cache)
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.npy")} == files
    assert again.digest == dataset.digest
    assert open_dataset(recipe_of(data={**SMALL, "first_seed": 1}), cache).digest != dataset.digest


def test_fractions_out_of_order_are_refused(cache):
    with pytest.raises(DataError, match="min_pearlite_ratio"):
        open_dataset(recipe_of(data={**SMALL, "min_pearlite_ratio": 0.8, "max_pearlite_ratio": 0.2}), cache)


def phase_folder(root: Path, count: int = 10) -> Path:
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(count):
        mask = (rng.random((20, 30)) < 0.4).astype(np.uint8)
        write_png(root / "images" / f"steel{number}.png", np.where(mask, 80, 200).astype(np.uint8))
        write_png(root / "masks" / f"steel{number}.png", mask * np.uint8(255 if number % 2 else 1))
    return root


def open_folder(root: Path, **settings):
    return DATASETS["phase"].open(DATASETS["phase"].settings(path=root, **settings), root)


def test_a_folder_of_pictures_and_maps(tmp_path):
    dataset = open_folder(phase_folder(tmp_path))
    assert {part: len(indices) for part, indices in dataset.split.items()} == {"train": 7, "validation": 2, "test": 1}
    assert dataset.class_names == ("pearlite",)
    assert dataset.present.all()
    for index in range(len(dataset)):  # 0 and 1, or 0 and 255: the picture says which it is
        sample = dataset.sample(index)
        assert np.array_equal(sample.masks[0], sample.pixels == 80)


def test_a_third_phase_has_a_plane_of_its_own(tmp_path):
    phase_folder(tmp_path, 1)
    labels = np.zeros((20, 30), np.uint8)
    labels[:5], labels[5:10] = 1, 2
    write_png(tmp_path / "masks" / "steel0.png", labels)
    sample = open_folder(tmp_path, phases=("ferrite", "pearlite", "martensite")).sample(0)
    assert sample.masks.sum(axis=(1, 2)).tolist() == [150, 150]
    assert sample.figures == {"pearlite_ratio": 0.25, "martensite_ratio": 0.25}


@pytest.mark.parametrize(
    ("folder", "picture", "text"),
    [
        (
            "masks",
            np.full((20, 30), 7, np.uint8),
            r"steel3\.png: found label 7 at row 0, column 0.*0 ferrite, 1 pearlite",
        ),
        ("masks", np.zeros((20, 31), np.uint8), r"steel3\.png: found 20x31 px, expected 20x30"),
        ("images", np.zeros((20, 30), np.uint16), r"steel3\.png: found 16 bits"),
        ("images", np.dstack([np.full((20, 30), v, np.uint8) for v in (1, 2, 3)]), r"steel3\.png: found colour"),
        ("masks", np.zeros((20, 30), np.uint16), r"steel3\.png: found 16 bits"),
    ],
    ids=["label", "size", "16-bit picture", "colour", "16-bit map"],
)
def test_a_bad_file_is_named_before_training(tmp_path, folder, picture, text):
    phase_folder(tmp_path)
    assert cv2.imwrite(str(tmp_path / folder / "steel3.png"), picture)
    with pytest.raises(DataError, match=text):
        open_folder(tmp_path)


def test_a_picture_without_its_map_is_named(tmp_path):
    phase_folder(tmp_path)
    (tmp_path / "masks" / "steel4.png").unlink()
    with pytest.raises(DataError, match=r"steel4\.png: found no map"):
        open_folder(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        open_folder(tmp_path / "elsewhere")


@pytest.mark.skipif(not UHCS.is_dir(), reason="the spheroidite pictures are not here")
def test_spheroidite_keeps_the_authors_split():
    dataset = DATASETS["uhcs"].open(DATASETS["uhcs"].settings(path=UHCS), UHCS)
    names = {part: [dataset.sample(index).name for index in indices] for part, indices in dataset.split.items()}
    assert all(name.startswith("train_") for name in names["train"] + names["validation"])
    assert all(name.startswith("valid_") for name in names["test"])
    assert all(names.values())
    assert all(0.05 < dataset.sample(index).figures["cementite_ratio"] < 0.3 for index in range(len(dataset)))
    with pytest.raises(DataError, match="'nothing'"):
        DATASETS["uhcs"].open(DATASETS["uhcs"].settings(path=UHCS, validation=("nothing",)), UHCS)


# --- tiles


def test_the_paper_s_grid():
    """54 tiles of a micrograph of 2080 x 1542, in four turns each: 7344 of 34 (paper, 2.2)."""
    assert 34 * TURNS * len(grid((1542, 2080), 224)) == 7344


def test_every_tile_comes_in_every_turn_before_any_comes_again(cache):
    dataset = open_dataset(recipe_of(), cache)
    count = 4 * 2 * 2 * TURNS
    parts = [
        [next(tiles).name for _ in range(count // 2)]
        for tiles in (
            grid_tiles(dataset, range(4), 32, np.random.default_rng(1), skip=2, first=rank) for rank in range(2)
        )
    ]
    assert len({*parts[0], *parts[1]}) == count


def test_random_tiles_of_two_processes_are_those_of_one(cache):
    dataset = open_dataset(recipe_of(), cache)
    alone = random_tiles(dataset, range(4), 32, np.random.default_rng(1))
    shared = [random_tiles(dataset, range(4), 32, np.random.default_rng(1), skip=2, first=rank) for rank in range(2)]
    for _ in range(5):
        for part in shared:
            assert next(part).name == next(alone).name


def test_pixels_and_masks_turn_together():
    masks = np.zeros((1, 8, 8), bool)
    masks[0, 1, 2:5] = True
    sample = Sample("x", (masks[0] * 200).astype(np.uint8), masks)
    for turn in range(TURNS):
        other = turned(sample, turn)
        assert np.array_equal(other.pixels > 0, other.masks[0])
    assert not np.array_equal(turned(sample, 1).pixels, sample.pixels)


# --- the task


def test_the_loss_is_equation_1(cache):
    task = task_of(cache)
    dataset = open_dataset(recipe_of(), cache)
    shares = np.mean([dataset.sample(index).masks.mean() for index in range(4)])
    weights = torch.tensor([0.5 / (1 - shares), 0.5 / shares], dtype=torch.float32)
    logits = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    masks = (torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(2)) < 0.3).to(torch.uint8)
    truth = masks[:, 0].long()
    chosen = functional.log_softmax(logits, dim=1).gather(1, truth[:, None])[:, 0]
    expected = -(weights[truth] * chosen).sum() / weights[truth].sum()
    loss = task.loss(recipe_of().phases[0], PhaseOutput(logits), Batch(["a"], masks, masks))
    torch.testing.assert_close(loss, expected)
    plain = task_of(cache, settings={"class_weights": "none"})
    loss = plain.loss(recipe_of().phases[0], PhaseOutput(logits), Batch(["a"], masks, masks))
    torch.testing.assert_close(loss, -chosen.mean())


def test_labels_of_overlapping_planes():
    masks = torch.tensor([[[[1, 0, 1, 0]], [[0, 1, 1, 0]]]])
    assert labels_of(masks).tolist() == [[[1, 2, 2, 0]]]


def test_a_perfect_model_scores_one(cache):
    task = task_of(cache)
    dataset = open_dataset(recipe_of(), cache)
    truth = {dataset.sample(i).pixels.tobytes(): dataset.sample(i).masks for i in dataset.split["validation"]}

    def model(frames):
        planes = np.stack([truth[frame.numpy().tobytes()] for frame in frames[:, 0]])
        return PhaseOutput(torch.cat([~torch.from_numpy(planes), torch.from_numpy(planes)], dim=1).float())

    figures = task.validate(model, torch.device("cpu"))
    assert figures["mean_iou"] == figures["mean_bf_score"] == 1.0
    assert task.select in figures
    assert task.class_names == ("ferrite", "pearlite")
    names = [name for name, _ in task.examples(model, torch.device("cpu"))]
    assert names == ["seed20004", "seed20005"]


def test_a_few_steps_learn(cache):
    task = task_of(cache)
    phase = recipe_of().phases[0]
    model = task.build_model()
    torch.manual_seed(1)
    batch = next(task.batches(phase, epoch_in_phase=0, rng=np.random.default_rng(1), rank=0, world=1))
    losses = losses_of(task, phase, model, batch, steps=12, learning_rate=1e-2)
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"phases": [{"epochs": 1, "loss": "dice", "batch": 2, "crops": [[32, 32]]}]}, "phases.0.loss"),
        ({"phases": [{"epochs": 1, "loss": "cross_entropy", "batch": 2, "crops": [[32, 48]]}]}, "phases.0.crops"),
        ({"phases": [{"epochs": 1, "loss": "cross_entropy", "batch": 2}]}, "phases.0.crops"),
        ({"settings": {"matrix": "pearlite"}}, "settings.matrix"),
        ({"settings": {"class_weight": "none"}}, "class_weights"),
        ({"data": {**SMALL, "min_pearlite_ratio": 1.0, "max_pearlite_ratio": 1.0}}, "no training pixel of ferrite"),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused(cache, change, text):
    with pytest.raises(ConfigError, match=text):
        task_of(cache, **change)


def test_the_recipes_say_what_the_paper_says():
    paper = load_recipe(RECIPES / "phase.toml")
    assert (paper.optimiser.kind, paper.optimiser.learning_rate, paper.epochs) == ("adam", 1e-3, 3)
    assert (paper.phases[0].batch, paper.phases[0].crops) == (32, ((224, 224),))
    assert load_recipe(RECIPES / "phase-compact.toml").variant == "compact"
