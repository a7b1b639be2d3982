"""Grain: the rescaling augmentation, the task's labels and losses, its networks and its data."""

from __future__ import annotations

import math
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from camera.steel.austenite import make_micrograph
from runtime.errors import ConfigError, DataError
from train.ablation_measures import JudgedOn
from train.datasets import Dataset, Sample
from train.datasets.synthetic_grain import SyntheticGrains, SyntheticGrainSettings, open_synthetic_grain
from train.models import GrainOutput, build, count_parameters
from train.recipe import RECIPES, Recipe, load_recipe
from train.rescale import View, look, zoom_of
from train.tasks import open_dataset, open_task
from train.tasks.grain import GrainTask, grain_number_of, map_of, nearest_grade, number_of

GRADES = (5.0, 6.0, 8.0)


def data(**changes: object) -> dict[str, object]:
    small = {"kind": "synthetic-grain", "train_per_grade": 2, "validation_per_grade": 1, "test_per_grade": 1}
    return {**small, "grades": GRADES, "test_grades": (6.5,), "height_px": 256, "width_px": 320, **changes}


def recipe(task: str = "grain", **changes: object) -> Recipe:
    loss = {"grain": "smooth_l1", "grain-classes": "cross_entropy"}[task]
    table = {
        "task": task,
        "variant": "compact",
        "model": {"architecture": "resnet12-cells"},
        "data": data(),
        "phases": [{"epochs": 1, "loss": loss, "batch": 6, "crops": [[96, 128]], "steps": 2}],
    }
    return Recipe.model_validate({**table, **changes})


def opened(cache: Path, task: str = "grain", **changes: object) -> GrainTask:
    made = recipe(task, **changes)
    found = open_task(made, open_dataset(made, cache))
    assert isinstance(found, GrainTask)
    return found


@given(st.floats(-2, 2), st.floats(-2, 2))
def test_zooms_multiply_where_grades_add(first: float, second: float):
    assert zoom_of(first) * zoom_of(second) == pytest.approx(zoom_of(first + second))
    assert -2 * math.log2(zoom_of(first)) == pytest.approx(first)


def test_a_zoom_moves_the_density_as_its_label_says():
    """Edges for each length go with the root of the grains for each area: one grade is a factor of 2^(1/2)."""
    made = make_micrograph(2, [7.0], height_px=768, width_px=768)
    drawn = (made.boundary * 255).astype(np.uint8)
    for moved in (-1.0, 1.0):
        size = 400
        seen = look(drawn, (384.0, 384.0), (size, size), View(zoom_of(moved)))[0].numpy()
        plain = look(drawn, (384.0, 384.0), (size, size), View())[0].numpy()
        ratio = crossings(seen) / crossings(plain)
        assert 2 * math.log2(ratio) == pytest.approx(moved, abs=0.25)


def crossings(picture: np.ndarray) -> int:
    on = picture[::10] > 60
    return int(np.count_nonzero(on[:, 1:] & ~on[:, :-1]))


def test_looking_straight_gives_the_picture_itself():
    pixels = np.random.default_rng(1).integers(0, 256, (40, 60), dtype=np.uint8)
    assert np.array_equal(look(pixels, (20.0, 30.0), (40, 60), View())[0].numpy().round(), pixels)
    mirrored = look(pixels, (20.0, 30.0), (40, 60), View(mirrored=True))[0].numpy().round()
    assert np.array_equal(mirrored, pixels[:, ::-1])
    turned = look(pixels, (20.0, 30.0), (40, 60), View(angle_rad=math.pi))[0].numpy().round()
    assert np.array_equal(turned, pixels[::-1, ::-1])


@settings(max_examples=25)
@given(st.floats(0.7, 1.4), st.floats(0, 2 * math.pi), st.booleans())
def test_a_piece_lies_within_its_reach(zoom: float, angle: float, mirrored: bool):
    view = View(zoom, angle, mirrored)
    down, across = view.reach((30, 50))
    pixels = np.zeros((200, 200), np.uint8)
    rows, cols = (
        slice(int(100 - down / 2) - 1, int(100 + down / 2) + 2),
        slice(int(100 - across / 2) - 1, int(100 + across / 2) + 2),
    )
    pixels[rows, cols] = 255
    assert look(pixels, (100.0, 100.0), (30, 50), view).min() == pytest.approx(255, abs=1e-2)


def test_batches_hold_every_grade_alike_and_labels_within_half_a_grade(cache: Path):
    task = opened(cache)
    phase = recipe().phases[0]
    batches = list(task.batches(phase, epoch_in_phase=0, rng=np.random.default_rng(1), rank=0, world=1))
    assert len(batches) == 2
    for batch in batches:
        assert batch.frames.shape == (6, 1, 96, 128)
        assert batch.frames.dtype == torch.uint8
        labelled = [float(name.rsplit("G", 1)[1]) for name in batch.names]
        assert sorted(labelled) == sorted(GRADES * 2)
        assert (batch.grain_number - torch.tensor(labelled)).abs().max() < 0.5 + 0.35  # few grains a small picture


def test_pieces_as_seen_keep_the_pictures_own_pixels(cache: Path):
    changes = {"settings": {"as_seen_share": 1.0}, "augmentation": {"brightness": 0.0, "contrast": 0.0}}
    task = opened(cache, **changes)
    phase = recipe().phases[0]
    dataset = open_dataset(recipe(), cache)
    values = {dataset.sample(i).name: dataset.sample(i) for i in range(len(dataset))}
    (batch, *_) = task.batches(phase, epoch_in_phase=0, rng=np.random.default_rng(1), rank=0, world=1)
    for name, frame, number in zip(batch.names, batch.frames, batch.grain_number, strict=True):
        assert float(number) == pytest.approx(grain_number_of(values[name]))
        turns = [np.rot90(frame[0].numpy(), turn) for turn in range(4)]
        assert any(holds(values[name].pixels, view) for turn in turns for view in (turn, turn[:, ::-1]))


def holds(picture: np.ndarray, piece: np.ndarray) -> bool:
    corners = np.lib.stride_tricks.sliding_window_view(picture, piece.shape)[..., :2, :3]
    places = zip(*np.nonzero((corners == piece[:2, :3]).all((2, 3))), strict=True)
    return any((picture[y : y + piece.shape[0], x : x + piece.shape[1]] == piece).all() for y, x in places)


def test_whole_pictures_are_only_enlarged(cache: Path):
    task = opened(cache)
    phase = recipe().phases[0].model_copy(update={"crops": ()})
    (batch, *_) = task.batches(phase, epoch_in_phase=0, rng=np.random.default_rng(1), rank=0, world=1)
    assert batch.frames.shape == (6, 1, 256, 320)
    dataset = open_dataset(recipe(), cache)
    counted = {dataset.sample(i).name: grain_number_of(dataset.sample(i)) for i in range(len(dataset))}
    moved = batch.grain_number - torch.tensor([counted[name] for name in batch.names])
    assert (moved <= 0).all()
    assert (moved >= -0.5 - 1e-5).all()


def test_a_classification_moves_by_whole_grades_that_it_knows(cache: Path):
    task = opened(cache, "grain-classes")
    assert task.class_names == ("5", "6", "8")
    phase = recipe("grain-classes").phases[0]
    rng = np.random.default_rng(3)
    for batch in task.batches(phase, epoch_in_phase=0, rng=rng, rank=0, world=1):
        for name, grade in zip(batch.names, batch.grade, strict=True):
            made_as = float(name.rsplit("G", 1)[1])
            # 8 has no neighbour, so it stays; 5 and 6 may become each other.
            assert GRADES[int(grade)] in ({8.0} if made_as == 8.0 else {5.0, 6.0})


def test_processes_share_an_epoch_without_a_piece_twice(cache: Path):
    task = opened(cache)
    phase = recipe().phases[0].model_copy(update={"batch": 3})
    whole, half = (
        [
            frame
            for rank in range(world)
            for batch in task.batches(phase, epoch_in_phase=0, rng=np.random.default_rng(7), rank=rank, world=world)
            for frame in batch.frames
        ]
        for world in (1, 2)
    )
    first = {frame.numpy().tobytes() for frame in half}
    assert len(first) == len(half) == 2 * len(whole)


def test_losses_are_the_papers(cache: Path):
    numbers = torch.tensor([5.0, 6.0])
    output = GrainOutput(torch.tensor([[5.5], [8.0]]), torch.zeros(2, 1, 3, 3))
    task = opened(cache)
    phase = recipe().phases[0]
    batch = next(iter(task.batches(phase, epoch_in_phase=0, rng=np.random.default_rng(1), rank=0, world=1)))
    batch = batch._replace(grain_number=numbers, grade=torch.tensor([0, 1]))
    # Equation 2 with alpha 1: d^2 / 2 below 1, |d| - 1/2 above.
    assert float(task.loss(phase, output, batch)) == pytest.approx((0.125 + 1.5) / 2)
    classes = opened(cache, "grain-classes")
    scores = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    expected = -torch.log_softmax(scores, 1)[[0, 1], [0, 1]].mean()
    graded = GrainOutput(scores, torch.zeros(2, 3, 3, 3))
    assert float(classes.loss(phase, graded, batch)) == pytest.approx(float(expected))


def test_validation_gives_the_papers_figures(cache: Path):
    for name in ("grain", "grain-classes"):
        task = opened(cache, name)
        model = task.build_model().eval()
        with torch.inference_mode():
            figures = task.validate(model, torch.device("cpu"))
            examples = dict(task.examples(model, torch.device("cpu")))
        assert {"within_half", "mean_error", "negative_loss"} <= set(figures)
        assert all(math.isfinite(value) for value in figures.values())
        assert next(iter(examples.values())).shape == (256, 640, 3)


def test_grades_never_trained_on_are_judged_apart(cache: Path):
    made = recipe(data=data(test_grades=(GRADES[0], 6.5, 7.5)))
    task = open_task(made, cast("Dataset", JudgedOn(open_dataset(made, cache), "test")))
    with torch.inference_mode():
        figures = task.validate(task.build_model().eval(), torch.device("cpu"))
    together = (figures["mean_error_seen"] + 2 * figures["mean_error_unseen"]) / 3
    assert figures["mean_error"] == pytest.approx(together)


@pytest.mark.parametrize("outputs", [1, 11])
def test_the_compact_network_is_small_and_its_map_is_exact(outputs: int):
    model = build("grain", "resnet12-cells", classes=outputs).eval()
    assert count_parameters(model) <= 1_000_000
    frames = torch.randint(0, 256, (2, 1, 128, 192), dtype=torch.uint8)
    with torch.inference_mode():
        output = model(frames)
    assert output.scores.shape == (2, outputs)
    assert output.cams.shape == (2, outputs, 4, 6)
    assert torch.allclose(output.cams.mean((2, 3)), output.scores, atol=1e-4)


def test_cells_beyond_the_picture_count_by_what_is_picture():
    model = build("grain", "resnet12-cells").eval()
    with torch.inference_mode():
        output = model(torch.randint(0, 256, (1, 1, 40, 64), dtype=torch.uint8))
    cams = output.cams[0, 0]
    assert cams.shape == (2, 2)
    assert float(output.number[0]) == pytest.approx(float((32 * cams[0].mean() + 8 * cams[1].mean()) / 40), abs=1e-4)


def test_numbers_and_maps_of_both_methods():
    cams = torch.tensor([[[[1.0, 0.0]], [[0.0, 3.0]], [[0.5, 0.0]]]])
    graded = GrainOutput(torch.tensor([[0.1, 2.0, 0.3]]), cams)
    assert number_of(graded, GRADES).tolist() == [6.0]
    assert map_of(graded, GRADES).tolist() == [[[5.0, 6.0]]]
    single = GrainOutput(torch.tensor([[7.25]]), cams[:, :1])
    assert number_of(single, GRADES).tolist() == [7.25]
    assert nearest_grade(torch.tensor([5.4, 7.2]), GRADES).tolist() == [0, 2]


def test_the_data_is_made_once_and_split_by_seed(cache: Path):
    chosen = SyntheticGrainSettings.model_validate({key: value for key, value in data().items() if key != "kind"})
    dataset = open_synthetic_grain(chosen, cache)
    again = open_synthetic_grain(chosen, cache)
    assert isinstance(dataset, SyntheticGrains)
    assert dataset.digest == again.digest
    assert [len(dataset.split[part]) for part in ("train", "validation", "test")] == [6, 3, 1]
    sample = dataset.sample(9)
    assert sample.figures["grade"] == 6.5
    assert sample.name == "seed40009-G6.5"
    assert abs(sample.figures["grain_number"] - 6.5) < 0.3
    assert sample.masks.shape == (1, 256, 320)
    made = make_micrograph(40_009, [6.5], height_px=256, width_px=320)
    assert np.array_equal(sample.pixels, made.pixels)


@pytest.mark.parametrize("name", ["grain", "grain-compact", "grain-classes", "grain-classes-compact"])
def test_recipes_are_valid(name: str):
    found = load_recipe(RECIPES / f"{name}.toml")
    outputs = 1 if found.task == "grain" else 11
    assert build("grain", found.model.architecture, classes=outputs) is not None
    assert not set(SyntheticGrainSettings().grades) & set(SyntheticGrainSettings().test_grades)


@pytest.mark.parametrize("grades", [(1.0, 5.0), (5.0, 14.0), (5.0, 5.0)])
def test_grades_that_cannot_be_made_are_refused(grades: tuple[float, ...], cache: Path):
    with pytest.raises(ConfigError, match="grades"):
        open_dataset(recipe(data=data(grades=grades)), cache)


def test_a_label_that_is_no_number_is_refused():
    sample = Sample("a", np.zeros((8, 8), np.uint8), np.zeros((1, 8, 8), bool), {"grain_number": math.nan})
    with pytest.raises(DataError, match=r"a: grain_number is nan"):
        grain_number_of(sample)


def test_a_recipe_that_does_not_fit_is_refused(cache: Path):
    wrong = [{"epochs": 1, "loss": "cross_entropy", "batch": 2}]
    with pytest.raises(ConfigError, match="'smooth_l1' for a regression"):
        opened(cache, phases=wrong)
    fracture = {"kind": "synthetic-fracture", "train_specimens": 1, "validation_specimens": 1}
    with pytest.raises(ConfigError, match="does not say the grade"):
        opened(cache, data=fracture)
