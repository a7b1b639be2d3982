import numpy as np
import pytest

from benchmarks.evaluation_data import Picture
from benchmarks.judges import judge_of
from benchmarks.judges.crack import open_judge, synthetic
from runtime.crack_figures import CrackFigures
from runtime.facts import Facts
from runtime.heads.crack import CrackRules, CrackSettings, judge
from runtime.spec import read_spec
from tests.crack_bundles import make_crack_bundle
from tests.runtime.delivery import wire


def said_of(picture, mask):
    """The message of a network that gives this mask."""
    probability = mask.astype(np.uint8) * 255
    verdict, result = judge(picture.pixels, probability, Facts(), CrackSettings(min_size_px=10), CrackRules())
    return wire.scored(1).model_copy(update={"verdict": verdict, "result": result})


@pytest.fixture(scope="module")
def pictures():
    return list(synthetic(2, 10))


@pytest.fixture
def held(tmp_path):
    return open_judge(read_spec(make_crack_bundle(tmp_path / "bundle")))


def test_pictures_are_those_of_their_seed_and_each_tenth_is_sound(pictures):
    assert judge_of("crack").open_judge is open_judge
    assert [each.name for each in pictures] == [f"seed2-{number}" for number in range(10)]
    np.testing.assert_array_equal(next(synthetic(2, 1)).pixels, pictures[0].pixels)
    assert [bool(each.truth.any()) for each in pictures] == [True] * 9 + [False]


def test_the_truth_scores_full(pictures, held):
    for picture in pictures:
        held.add(picture, {}, said_of(picture, picture.truth[0]))
    figures = held.figures()
    assert figures["mean_iou"] > 0.999  # the smallest parts are dropped
    assert figures["f1_tolerant"] > 0.999
    assert figures["wrongly_accepted"] == figures["false_alarms"] == figures["main_tip_missing"] == 0.0
    assert figures["main_tip_median_px"] < 1.0
    assert figures["main_tip_within_3_px_ratio"] >= 8 / 9
    assert figures["tips_met_ratio"] > 0.9
    assert figures["tips_right_ratio"] > 0.85
    assert held.baseline()["iou"] == 0.0


def test_nothing_found_is_nothing_right(pictures, held):
    for picture in pictures:
        held.add(picture, {}, said_of(picture, np.zeros_like(picture.truth[0])))
    figures = held.figures()
    assert figures["wrongly_accepted"] == figures["main_tip_missing"] == 9.0
    assert figures["tips_met_ratio"] == figures["main_tip_within_3_px_ratio"] == 0.0
    assert figures["mean_iou"] == held.baseline()["mean_iou"]
    assert "main_tip_median_px" not in figures


def test_a_crack_in_sound_steel_is_a_false_alarm(pictures, held):
    mask = np.zeros_like(pictures[9].truth[0])
    mask[100:103, 100:200] = True
    held.add(pictures[9], {}, said_of(pictures[9], mask))
    assert held.figures()["false_alarms"] == 1.0


def test_where_nobody_marked_tips_none_are_judged(held):
    mask = np.zeros((60, 80), np.bool_)
    mask[30:33, :50] = True
    pixels = np.where(mask, 20, 160).astype(np.uint8)
    picture = Picture("asphalt", pixels, mask[None])
    held.add(picture, {}, said_of(picture, mask))
    assert held.figures()["mean_iou"] == 1.0
    assert "tips_met_ratio" not in held.figures()


def test_a_mask_moved_by_a_pixel_is_right_within_the_tolerance():
    truth = np.zeros((60, 80), np.bool_)
    truth[30:33, 10:70] = True
    figures = CrackFigures(2)
    figures.add(np.roll(truth, 1, axis=0), truth)
    found = figures.compute()
    assert found["f1_tolerant"] == 1.0
    assert found["iou"] == pytest.approx(0.5)
    assert found["f1"] == pytest.approx(2 / 3)
    assert found["mean_pixel_accuracy"] == pytest.approx(0.5 * (2 / 3 + (60 * 80 - 180 - 60) / (60 * 80 - 180)))
    far = CrackFigures(2)
    far.add(np.roll(truth, 8, axis=0), truth)
    assert far.compute()["f1_tolerant"] == 0.0


def test_nothing_in_nothing_is_right():
    figures = CrackFigures()
    figures.add(np.zeros((9, 9), np.bool_), np.zeros((9, 9), np.bool_))
    assert figures.compute() == {
        "mean_iou": 1.0, "mean_pixel_accuracy": 1.0, "iou": 1.0, "f1": 1.0, "f1_tolerant": 1.0
    }  # fmt: skip
