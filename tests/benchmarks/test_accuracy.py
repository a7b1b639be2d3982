from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.accuracy import AccuracyPlan, AccuracyReport, accuracy_markdown, evaluate
from benchmarks.evaluation_data import USUAL_FIRST_SEED, USUAL_STRIPS, Picture, open_data
from benchmarks.every_frame import OPEN_SIZES, EveryFrame
from runtime import rle
from runtime.bundle import open_bundle
from runtime.errors import ConfigError, DataError, EngineError
from runtime.spec import read_spec
from tests.bundles import CLASS_GREY, gate_reference, make_strip_bundle, plain_frames, seal, segmenter_reference

SIZE = (64, 256)
DEFECTS = {2: (0, 12), 5: (3, 40), 6: (1, 3)}
"""By frame: the class's plane, and the rows of the defect, which is 10 columns wide."""


def write_severstal(folder: Path, *, hidden: int | None = None) -> Path:
    """Ten frames that the tiny bundle reads perfectly, but for `hidden`, whose defect its pixels do not show."""
    (folder / "train_images").mkdir(parents=True)
    frames = plain_frames(10, *SIZE, seed=1)
    rows: list[list[str]] = [["ImageId", "ClassId", "EncodedPixels"]]
    for number, frame in enumerate(frames[:, 0]):
        name = f"{number:04d}.png"
        if number in DEFECTS:
            plane, tall = DEFECTS[number]
            mask = np.zeros(SIZE, bool)
            mask[8 : 8 + tall, 30:40] = True
            if number != hidden:
                frame[mask] = CLASS_GREY[plane]
            rows.append([name, str(plane + 1), rle.encode(mask)])
        cv2.imwrite(str(folder / "train_images" / name), frame)
    with (folder / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def trained_on(bundle: Path, data: dict, digest: str = "0" * 64) -> Path:
    """The bundle, as if both its graphs had been trained on `data`."""
    provenance = read_spec(bundle).provenance.model_dump()
    provenance["recipe"] = {role: {"data": data} for role in ("gate", "segmenter")}
    provenance["data"] = dict.fromkeys(("gate", "segmenter"), digest)
    return seal(bundle, provenance=provenance)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A tiny bundle whose recipes name Severstal frames of its own size, with minimum sizes of 50 px."""
    bundle = make_strip_bundle(tmp_path / "bundle", *SIZE, settings={"min_size_px": (50, 50, 50, 50)})
    return trained_on(bundle, {"kind": "severstal", "height_px": 64, "width_px": 256, "test_ratio": 0.3})


def test_a_perfect_bundle_but_for_what_it_cannot_see(small: Path, tmp_path: Path) -> None:
    data = write_severstal(tmp_path / "data", hidden=5)
    report = evaluate(small, AccuracyPlan((f"severstal={data}",), part="all", threads=1, batch=4))
    assert AccuracyReport.model_validate_json(report.to_json()) == report
    (figures,) = report.data
    gate = figures.gate
    assert (gate.tp, gate.fn, gate.fp, gate.tn) == (2, 1, 0, 7)
    # Frame 6 shows 30 px of a class that counts from 50: the gate sees it, the head drops it.
    assert figures.sliver_frames == 1
    assert (figures.gate_without_slivers.tp, figures.gate_without_slivers.fn) == (1, 1)
    assert figures.all_empty_dice == pytest.approx(37 / 40)
    assert figures.with_gate.dice == figures.without_gate.dice == pytest.approx(38 / 40)
    assert figures.with_gate.dice_defective == pytest.approx(1 / 3, abs=1e-6)
    assert figures.with_gate.by_class["pitting"].iou == 1.0
    assert figures.with_gate.by_class["patch"].iou == 0.0
    assert figures.with_gate.by_class["scratches"].iou is None
    assert figures.defects is None
    assert "segmenter alone" in accuracy_markdown(report)


def test_the_gate_keeps_out_what_the_segmenter_alone_would_report(tmp_path: Path) -> None:
    bundle = make_strip_bundle(tmp_path / "bundle", *SIZE, settings={"gate_threshold": 0.999})
    trained_on(bundle, {"kind": "severstal", "height_px": 64, "width_px": 256})
    data = write_severstal(tmp_path / "data")
    (figures,) = evaluate(bundle, AccuracyPlan((f"severstal={data}",), part="all", threads=1)).data
    # Only the brightest class passes so strict a gate.
    assert (figures.gate.tp, figures.gate.fn) == (2, 1)
    assert figures.without_gate.dice == 1.0
    assert figures.with_gate.dice == pytest.approx(39 / 40)


def test_a_consecutive_strip_also_gives_whole_defects(tiny: Path) -> None:
    (figures,) = evaluate(tiny, AccuracyPlan(("synthetic=5:12",), threads=1)).data
    assert (figures.frames, figures.part, figures.sizes_px) == (12, "all", 1)
    assert figures.defects is not None
    assert figures.defects.frames_clean == figures.gate.clean
    assert figures.defects.found <= figures.defects.planted


def test_the_figures_do_not_depend_on_the_batch(tiny: Path) -> None:
    one, five = (evaluate(tiny, AccuracyPlan(("synthetic=5:7",), batch=batch, threads=1)).data[0] for batch in (1, 5))
    assert one.model_copy(update={"seconds": 0.0}) == five.model_copy(update={"seconds": 0.0})


def test_pictures_of_many_sizes_go_through_graphs_that_leave_the_size_open(tiny_any_size: Path) -> None:
    sizes = [(64, 80 + 8 * (number % (OPEN_SIZES + 1))) for number in range(12)]
    pictures = [
        Picture(str(number), plain_frames(1, *size, seed=number)[0, 0], np.zeros((4, *size), bool))
        for number, size in enumerate(sizes)
    ]
    for picture in pictures:
        picture.pixels[4:9, 4:9] = CLASS_GREY[int(picture.name) % 4]
    bundle = open_bundle(tiny_any_size)
    with EveryFrame(bundle, "openvino", batch=2, threads=1) as cascade:
        seen = []
        for picture, output in cascade.run(pictures):
            frames = picture.pixels[None, None]
            assert output.gate_probability == pytest.approx(gate_reference(frames)[0], abs=2e-3)
            assert np.array_equal(output.class_probability, segmenter_reference(frames)[0])
            seen.append(picture.name)
    assert sorted(seen, key=int) == [picture.name for picture in pictures]
    assert cascade.sizes_seen == set(sizes)


def test_a_picture_of_another_size_than_the_graphs_is_refused(tiny: Path) -> None:
    picture = Picture("tall", plain_frames(1, 80, 256)[0, 0], np.zeros((4, 80, 256), bool))
    with EveryFrame(open_bundle(tiny), "openvino", threads=1) as cascade, pytest.raises(EngineError, match="80 rows"):
        list(cascade.run([picture]))


def test_the_part_that_the_recipes_held_out_is_known_by_the_digest(small: Path, tmp_path: Path) -> None:
    data = write_severstal(tmp_path / "data")
    text = f"severstal={data}"
    held_out = open_data(text, read_spec(small), "test", SIZE)
    assert held_out.count == 3
    assert held_out.training.startswith("perhaps")
    recipe = read_spec(small).provenance.recipe["gate"]["data"]
    trained_on(small, recipe, held_out.digest)
    assert open_data(text, read_spec(small), "test", SIZE).training.startswith("no")
    assert open_data(text, read_spec(small), "train", SIZE).training.startswith("yes")
    assert open_data(text, read_spec(trained_on(small, {"kind": "tiles"})), "all", SIZE).training.startswith("no")


def test_a_seed_of_the_training_strips_is_known(tiny: Path) -> None:
    data = {"kind": "synthetic", "first_seed": 40, "train_strips": 3, "validation_strips": 2}
    spec = read_spec(tiny)
    provenance = spec.provenance.model_copy(update={"recipe": {"gate": {"data": data}}})
    trained = spec.model_copy(update={"provenance": provenance})
    seen = [open_data(f"synthetic={seed}:1", trained, "test", SIZE).training[:2] for seed in (39, 40, 44, 45)]
    assert seen == ["no", "ye", "ye", "no"]


def test_the_usual_strips_are_the_labs() -> None:
    synthetic = pytest.importorskip("train.datasets.synthetic")
    usual = synthetic.SyntheticSettings()
    assert usual.first_seed == USUAL_FIRST_SEED
    assert {name: getattr(usual, f"{name}_strips") for name in USUAL_STRIPS} == USUAL_STRIPS


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("synthetic", "expected NAME=PATH"),
        ("synthetic=abc", "expected synthetic=SEED"),
        ("synthetic=4:", "expected synthetic=SEED"),
        ("synthetic=4:0", "found no frames"),
        ("pictures=/nowhere", "expected one of .*severstal, .*tiles"),
    ],
)
def test_data_that_have_no_such_name_are_refused(tiny: Path, data: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluate(tiny, AccuracyPlan((data,)))


@pytest.mark.parametrize("data", ["severstal=/nowhere", "tiles=/nowhere"])
def test_data_that_are_not_there_are_missing_data_and_no_wrong_setting(tiny: Path, data: str) -> None:
    with pytest.raises(DataError, match="/nowhere"):
        evaluate(tiny, AccuracyPlan((data,)))


def test_without_the_lab_datasets_are_refused_and_strips_are_not(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="no 'train' folder"):
        open_data("severstal=data", read_spec(tiny), "test", SIZE)
    assert open_data("synthetic=4:1", read_spec(tiny), "test", SIZE).count == 1


def test_data_of_other_classes_is_refused(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiles"
    for name in ("Free", "Blowhole", "Break", "Crack", "Fray", "Uneven"):
        (folder / f"MT_{name}").mkdir(parents=True)
        for number in range(5):
            tile = folder / f"MT_{name}" / f"exp1_num_{number}.jpg"
            cv2.imwrite(str(tile), plain_frames(1, 40, 40)[0, 0])
            cv2.imwrite(str(tile.with_suffix(".png")), np.zeros((40, 40), np.uint8))
    with pytest.raises(ConfigError, match="found 5 classes"):
        evaluate(tiny, AccuracyPlan((f"tiles={folder}",)))
