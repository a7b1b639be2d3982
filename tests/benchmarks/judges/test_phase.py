from pathlib import Path

import numpy as np
import pytest

from benchmarks.evaluation_data import Picture
from benchmarks.judges import judge_of
from benchmarks.judges.phase import open_judge, otsu, part_sizes, synthetic
from runtime.heads.phase import PhaseSettings, measure
from runtime.label_scores import label_map
from runtime.messages import Scored
from runtime.spec import read_spec
from tests.phase_bundles import SETTINGS, make_phase_bundle
from tests.runtime.delivery import wire

HEAD = PhaseSettings.model_validate(SETTINGS)


def said_of(labels: np.ndarray) -> Scored:
    """The message of a network that gives these labels."""
    return wire.scored(1).model_copy(update={"result": measure(labels, HEAD)})


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    return list(synthetic(3, 2))


def test_micrographs_are_those_of_their_seed(pictures: list[Picture]) -> None:
    assert [each.name for each in pictures] == ["seed3-0", "seed3-1"]
    np.testing.assert_array_equal(next(synthetic(3, 1)).pixels, pictures[0].pixels)
    assert pictures[0].figures["pearlite_ratio"] == pictures[0].truth.mean()


def test_the_truth_scores_full(pictures: list[Picture], tmp_path: Path) -> None:
    assert judge_of("phase").open_judge is open_judge
    held = open_judge(read_spec(make_phase_bundle(tmp_path)))
    for picture in pictures:
        held.add(picture, {}, said_of(label_map(picture.truth)))
    figures = held.figures()
    assert figures["mean_iou"] == figures["mean_bf_score"] == figures["size_ks_passed_ratio"] == 1.0
    assert figures["fraction_error_percent"] == figures["size_ks_statistic"] == 0.0
    assert 0.3 < held.baseline()["mean_iou"] < 1.0


def test_the_baseline_takes_the_side_that_agrees_better(tmp_path: Path) -> None:
    held = open_judge(read_spec(make_phase_bundle(tmp_path)))
    bright = np.zeros((1, 30, 30), bool)
    bright[0, 5:15, 5:15] = True
    pixels = np.where(bright[0], 220, 60).astype(np.uint8)
    held.add(Picture("sem", pixels, bright), {}, said_of(np.zeros((30, 30), np.uint8)))
    assert held.baseline()["iou_pearlite"] == 1.0
    assert held.figures()["iou_pearlite"] == 0.0


def test_parts_are_counted_by_area_and_specks_are_not() -> None:
    region = np.zeros((40, 40), bool)
    region[2:6, 2:6] = region[6:9, 6:9] = True  # they touch at a corner: one part
    region[20:23, 20:23] = True
    region[30, 30] = True
    assert sorted(part_sizes(region).tolist()) == [9, 25]


def test_otsu_parts_two_levels() -> None:
    pixels = np.array([[10, 12, 200, 210]], np.uint8)
    assert otsu(pixels).tolist() == [[False, False, True, True]]
