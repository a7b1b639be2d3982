import numpy as np
import pytest

from benchmarks.judges import judge_of
from benchmarks.judges.fracture import open_judge, synthetic
from runtime.heads.fracture import FractureRules, FractureSettings, judge
from runtime.spec import read_spec
from tests.fracture_bundles import make_fracture_bundle
from tests.runtime.delivery import wire

SETTINGS = FractureSettings(cell_px=8, uncertainty_floor_percent=2.0, uncertainty_per_soft=0.1)


def said_of(picture, shift=0.0):
    """The message of a network that sees the truth, moved by so much."""
    brittle = picture.truth[0].astype(np.float32)
    height, width = brittle.shape
    padded = np.pad(brittle, ((0, -height % 8), (0, -width % 8)), mode="edge")
    activation = padded.reshape(padded.shape[0] // 8, 8, -1, 8).mean(axis=(1, 3)) + np.float32(shift)
    ratio = float(brittle.mean()) + shift
    verdict, result = judge(activation, ratio, (height, width), picture.facts, SETTINGS, FractureRules())
    return wire.scored(1).model_copy(update={"facts": picture.facts, "verdict": verdict, "result": result})


@pytest.fixture(scope="module")
def pictures():
    return list(synthetic(3, 6))


def test_specimens_are_those_of_their_seed(pictures):
    assert [each.name for each in pictures] == [f"seed3-{number}" for number in range(6)]
    np.testing.assert_array_equal(next(synthetic(3, 1)).pixels, pictures[0].pixels)
    views = {each.facts.notch_side for each in pictures}
    assert views == {"left", None}


def test_the_truth_scores_full(pictures, tmp_path):
    assert judge_of("fracture").open_judge is open_judge
    held = open_judge(read_spec(make_fracture_bundle(tmp_path / "bundle")))
    for picture in pictures:
        held.add(picture, {}, said_of(picture))
    figures = held.figures()
    assert figures["ratio_within_5_points_ratio"] == figures["rated_within_5_points_ratio"] == 1.0
    assert figures["ratio_average_error"] < 1e-6
    assert figures["rated_worst_error"] < 0.01
    assert figures["interval_coverage_ratio"] == 1.0
    assert figures["verdict_agreement_ratio"] == 1.0
    assert figures["wrongly_accepted"] == 0.0
    assert figures["map_iou"] > 0.9
    assert held.baseline()["ratio_average_error"] > 0.05


def test_an_error_is_counted_as_the_paper_counts_it(pictures, tmp_path):
    held = open_judge(read_spec(make_fracture_bundle(tmp_path / "bundle")))
    low = [each for each in pictures if each.figures["brittle_ratio"] < 0.9]
    for number, picture in enumerate(low):
        held.add(picture, {}, said_of(picture, 0.06 if number == 0 else 0.03))
    figures = held.figures()
    assert figures["ratio_within_5_points_ratio"] == pytest.approx(1 - 1 / len(low))
    assert figures["ratio_worst_error"] == pytest.approx(0.06, abs=1e-6)
    assert figures["ratio_average_error"] == pytest.approx(0.03 + 0.03 / len(low), abs=1e-6)
    assert figures["interval_coverage_ratio"] < 0.5
