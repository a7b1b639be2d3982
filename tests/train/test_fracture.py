"""VR-net's task: its loss to the last term, its eight orientations, its compact network and its data."""

import csv

import numpy as np
import pytest
import torch
from torch import nn

from camera.images import write_png
from camera.steel.fracture import fracture_surface
from runtime.errors import ConfigError, DataError
from runtime.heads.fracture import pixel_weights
from tests.train.learning import open_recipe
from train.datasets import DATASETS
from train.datasets.base import Sample
from train.models import FractureOutput, build, count_parameters
from train.optimise import make_schedule
from train.recipe import RECIPES, Decay, Recipe, load_recipe
from train.sampling import Batch
from train.tasks import open_dataset
from train.tasks.fracture import ORIENTATIONS, cell_size, spread, turned

SMALL = {
    "kind": "synthetic-fracture",
    "train_specimens": 3,
    "validation_specimens": 2,
    "height_px": 70,
    "width_px": 101,
}


def recipe_of(**changes):
    table = {
        "task": "fracture",
        "variant": "compact",
        "model": {"architecture": "vgg8-cells"},
        "data": SMALL,
        "phases": [{"epochs": 1, "loss": "classmap", "batch": 2, "crops": [[48, 64]]}],
        "augmentation": {"flip_horizontal": False, "flip_vertical": False, "move_probability": 0.0},
    }
    return Recipe.model_validate(table | changes)


def task_of(cache, **changes):
    return open_recipe(recipe_of(**changes), cache)


# --- the network


@pytest.mark.parametrize("shape", [(64, 96), (61, 90), (9, 17)])
def test_the_ratio_is_the_mean_of_the_map_over_the_picture(shape):
    """Global average pooling and one fully connected unit, whatever part of the last cells the picture covers."""
    network = build("fracture", "vgg8-cells").eval()
    frames = torch.randint(0, 256, (2, 1, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        output = network(frames)
    assert output.activation.shape == (2, -(-shape[0] // 8), -(-shape[1] // 8))
    pixels = output.activation.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, : shape[0], : shape[1]]
    torch.testing.assert_close(output.ratio, pixels.mean((1, 2)), atol=1e-5, rtol=1e-4)


def test_the_compact_network_is_small():
    assert count_parameters(build("fracture", "vgg8-cells")) == 361_761


def test_a_network_of_even_cells_has_no_cell_size():
    assert cell_size(build("fracture", "vgg8-cells")) == 8
    assert cell_size(nn.Linear(1, 1)) is None


@pytest.mark.parametrize("cell_px", [8, None])
def test_training_and_line_read_the_map_alike(cell_px):
    activation = torch.rand(1, 8, 12, generator=torch.Generator().manual_seed(2))
    rows, cols = pixel_weights(61, 8, cell_px), pixel_weights(90, 12, cell_px)
    found = spread(activation, (61, 90), cell_px)[0].numpy()
    np.testing.assert_allclose(found, rows @ activation[0].numpy() @ cols.T, atol=1e-5)


# --- the loss


def test_the_loss_is_equation_3(cache):
    task = task_of(cache)
    task.build_model()
    masks = torch.zeros(2, 1, 16, 16, dtype=torch.uint8)
    masks[0, 0, :, :8] = 1
    output = FractureOutput(torch.tensor([0.7, 0.1]), torch.full((2, 2, 2), 0.25))
    loss = task.loss(recipe_of().phases[0], output, Batch(["a", "b"], masks, masks))
    ratios = (abs(0.7 - 0.5) + abs(0.1 - 0.0)) / 2
    maps = (0.5 * 0.75 + 0.5 * 0.25 + 0.25) / 2
    assert float(loss) == pytest.approx(ratios + maps, abs=1e-6)


def test_without_classmap_regulation_the_map_is_free(cache):
    task = task_of(cache, settings={"classmap": False})
    masks = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    output = FractureOutput(torch.tensor([0.2]), torch.full((1, 2, 2), 9.0))
    assert float(task.loss(recipe_of().phases[0], output, Batch(["a"], masks, masks))) == pytest.approx(0.2)


# --- orientations and batches


def test_the_eight_orientations_differ_and_move_the_map_alike():
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    found = [turned(Sample("a", pixels, pixels[None] > 5), number) for number in range(ORIENTATIONS)]
    assert len({(each.pixels.shape, each.pixels.tobytes()) for each in found}) == ORIENTATIONS
    for each in found:
        np.testing.assert_array_equal(each.masks[0], each.pixels > 5)


def test_an_epoch_shows_every_specimen_in_every_orientation_once(cache):
    task = task_of(cache, phases=[{"epochs": 1, "loss": "classmap", "batch": 1}])
    phase = recipe_of(phases=[{"epochs": 1, "loss": "classmap", "batch": 1}]).phases[0]
    names = [
        batch.names[0] for batch in task.batches(phase, epoch_in_phase=0, rng=np.random.default_rng(1), rank=0, world=1)
    ]
    assert len(names) == task.steps(phase, 1) == 3 * ORIENTATIONS
    assert len(set(names)) == 3 * ORIENTATIONS


def test_crops_have_one_size_whatever_their_orientation(cache):
    task, phase = task_of(cache), recipe_of().phases[0]
    for batch in task.batches(phase, epoch_in_phase=0, rng=np.random.default_rng(1), rank=0, world=1):
        assert batch.frames.shape == (2, 1, 48, 64)
        assert batch.masks.shape == (2, 1, 48, 64)


def test_a_batch_of_whole_pictures_is_refused(cache):
    with pytest.raises(ConfigError, match="expected 1 for whole pictures"):
        task_of(cache, phases=[{"epochs": 1, "loss": "classmap", "batch": 2}])
    with pytest.raises(ConfigError, match=r"phases\.0\.loss is 'dice'"):
        task_of(cache, phases=[{"epochs": 1, "loss": "dice", "batch": 1}])


def test_validation_gives_the_papers_figures(cache):
    task = task_of(cache)
    task.build_model()

    def half(frames):
        return FractureOutput(torch.full((len(frames),), 0.5), torch.full((len(frames), 9, 13), 0.5))

    figures = task.validate(half, torch.device("cpu"))
    truths = [task._dataset.sample(index).masks.mean() for index in task._validation]
    assert figures["average_error"] == pytest.approx(np.mean([abs(0.5 - each) for each in truths]), abs=1e-5)
    assert figures[task.select] == -figures["average_error"]
    assert figures["map_error"] == pytest.approx(0.5)


# --- recipes


def test_the_papers_recipe_is_the_papers():
    recipe = load_recipe(RECIPES / "fracture.toml")
    assert (recipe.optimiser.kind, recipe.optimiser.learning_rate) == ("adam", 1e-5)
    assert recipe.schedule == Decay(factor=0.96, every_steps=10_000)
    assert (recipe.phases[0].batch, recipe.phases[0].crops) == (1, ())
    assert recipe.model.architecture == "vr-vgg19"


def test_the_learning_rate_decays_in_steps():
    optimiser = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=1e-5)
    schedule = make_schedule(optimiser, Decay(factor=0.96, every_steps=3), 1e-5, 100)
    rates = []
    for _ in range(7):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.after_step()
    assert rates == pytest.approx([1e-5] * 3 + [0.96e-5] * 3 + [0.96**2 * 1e-5])


# --- the data


def test_synthetic_specimens_are_the_generators(cache):
    dataset = open_dataset(recipe_of(), cache)
    made = fracture_surface(10_001, height_px=70, width_px=101)
    sample = dataset.sample(1)
    np.testing.assert_array_equal(sample.pixels, made.pixels)
    np.testing.assert_array_equal(sample.masks[0], made.brittle)
    assert sample.figures["brittle_ratio"] == pytest.approx(made.brittle_ratio)
    assert dataset.split == {"train": range(3), "validation": range(3, 5), "test": range(5, 5)}
    assert [bool(each) for each in dataset.present[:, 0]] == [dataset.sample(n).masks.any() for n in range(5)]


def test_a_changed_setting_is_another_digest(cache, tmp_path):
    kind = DATASETS["synthetic-fracture"]
    small = {key: value for key, value in SMALL.items() if key != "kind"} | {"train_specimens": 1}
    first = kind.open(kind.settings(**small), tmp_path)
    (written,) = tmp_path.iterdir()
    stamp = (written / "pixels.npy").stat().st_mtime_ns
    assert kind.open(kind.settings(**small), tmp_path).digest == first.digest
    assert (written / "pixels.npy").stat().st_mtime_ns == stamp
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"expected a writable folder with .* GB free"):
        kind.open(kind.settings(**small, first_seed=1), tmp_path / "file")


def picture_set(folder, count=5):
    for name in range(count):
        made = fracture_surface(name, view="rated", brittle_ratio=0.2 * name, height_px=64, width_px=80 + name)
        for part, pixels in (("images", made.pixels), ("maps", made.brittle * np.uint8(255))):
            (folder / part).mkdir(parents=True, exist_ok=True)
            write_png(folder / part / f"{name}.png", pixels)
    return folder


def open_fracture(folder):
    kind = DATASETS["fracture"]
    return kind.open(kind.settings(path=folder, validation_ratio=0.2, test_ratio=0.2), folder)


def test_pictures_and_their_maps(tmp_path):
    dataset = open_fracture(picture_set(tmp_path))
    assert len(dataset) == 5
    assert {part: len(numbers) for part, numbers in dataset.split.items()} == {"train": 3, "validation": 1, "test": 1}
    sample = dataset.sample(3)
    assert (sample.name, sample.pixels.shape) == ("3", (64, 83))
    assert sample.figures["brittle_ratio"] == pytest.approx(sample.masks.mean())
    assert not dataset.present[0, 0]
    assert dataset.present[4, 0]


def spoil_missing(folder):
    (folder / "maps" / "2.png").unlink()


def spoil_orphan(folder):
    (folder / "images" / "2.png").unlink()


def spoil_picture_for_map(folder):
    (folder / "maps" / "2.png").write_bytes((folder / "images" / "2.png").read_bytes())


def spoil_cut_off(folder):
    path = folder / "maps" / "2.png"
    path.write_bytes(path.read_bytes()[:60])


def spoil_no_pictures(folder):
    for path in (folder / "images").iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (spoil_missing, r"picture .*2\.png: found no map"),
        (spoil_orphan, r"map .*2\.png: found no picture of that name"),
        (spoil_picture_for_map, r"map .*2\.png: found \d+ % of the pixels neither black nor white"),
        (spoil_cut_off, r"2\.png: found a truncated PNG"),
        (spoil_no_pictures, "found no pictures"),
    ],
)
def test_a_set_that_is_not_whole_is_refused_when_it_is_opened(tmp_path, spoil, text):
    spoil(picture_set(tmp_path))
    with pytest.raises(DataError, match=text):
        open_fracture(tmp_path)


def test_a_map_of_another_size_and_a_dark_picture_are_refused(tmp_path):
    picture_set(tmp_path)
    write_png(tmp_path / "maps" / "1.png", np.zeros((64, 99), np.uint8))
    write_png(tmp_path / "images" / "2.png", np.full((64, 82), 3, np.uint8))
    dataset = open_fracture(tmp_path)
    with pytest.raises(DataError, match=r"maps.1\.png: found 64x99 px, expected 64x81"):
        dataset.sample(1)
    with pytest.raises(DataError, match=r"images.2\.png: found no grey level above 3, nearly all dark"):
        dataset.sample(2)


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DataError, match="found no such folder"):
        open_fracture(tmp_path / "nothing")


# --- all of it


def test_a_training_from_the_command_line(tmp_path, cache):
    from typer.testing import CliRunner

    from train.cli import app

    small = [f"data.{key}={value}" for key, value in SMALL.items() if key != "kind"]
    few = ["phases.0.epochs=1", "phases.0.steps=1", "phases.0.batch=2", "phases.0.crops=[[48, 64]]"]
    options = [part for each in (*small, *few) for part in ("--set", each)]
    out = tmp_path / "run"
    command = ["fracture", "--variant", "compact", "--device", "cpu", "--cache", str(cache), "--out", str(out)]
    result = CliRunner().invoke(app, [*command, *options])
    assert result.exit_code == 0, result.output
    (row,) = csv.DictReader((out / "metrics.csv").read_text(encoding="utf-8").splitlines())
    assert 0.0 <= float(row["average_error"]) <= 1.0
    assert len(list((out / "examples").iterdir())) == 2
