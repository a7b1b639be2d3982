from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from export.tasks.strip_tune import ClassTuner, choose_gate_threshold
from runtime.errors import BundleError

PROBABILITIES = arrays.arrays(np.float32, 30, elements=st.floats(0, 1, width=32))


@given(PROBABILITIES, arrays.arrays(np.bool_, 30), st.floats(0.5, 1.0))
def test_the_threshold_keeps_the_recall_with_the_fewest_false_gates(
    probability: np.ndarray, defective: np.ndarray, min_recall: float
) -> None:
    assume(defective.any() and not defective.all())
    threshold = choose_gate_threshold(probability, defective, min_recall)

    def figures(at: float) -> tuple[float, int]:
        passed = probability >= at
        return float(passed[defective].mean()), int(passed[~defective].sum())

    recall, false_gates = figures(threshold)
    assert 0.0 <= threshold <= 1.0
    # Probabilities within a hair of each other, 0 or 1 cannot be told apart in log-odds.
    settled = np.diff(np.unique(probability.clip(1e-6, 1 - 1e-6))).min(initial=1.0) > 1e-6
    if settled and probability.min() > 1e-6 and probability.max() < 1 - 1e-6:
        assert recall >= min_recall - 1e-9
        enough = [figures(float(other))[1] for other in probability if figures(float(other))[0] >= min_recall]
        assert false_gates <= min(enough)


def test_one_kind_of_frames_gives_no_threshold() -> None:
    with pytest.raises(BundleError, match="found 3 defective frames among 3, expected some defective and some clean"):
        choose_gate_threshold(np.array([0.1, 0.2, 0.3]), np.ones(3, np.bool_), 0.9)


def frame_with(*blocks: tuple[int, int, int]) -> np.ndarray:
    """One plane, 1 x 40 x 40: square blocks of (top left corner, side, level)."""
    plane = np.zeros((1, 40, 40), np.uint8)
    for corner, side, level in blocks:
        plane[0, corner : corner + side, corner : corner + side] = level
    return plane


def test_false_specks_set_the_minimum_size() -> None:
    tuner = ClassTuner("component", [(0, 16, 32, 100)], [(0.5,)])
    tuner.add(frame_with((2, 8, 200), (30, 3, 200)), frame_with((2, 8, 1)) > 0)  # 64 px true, 9 px not
    tuner.add(frame_with((10, 4, 200)), frame_with() > 0)  # 16 px of nothing
    (choice,) = tuner.choose()
    assert (choice.min_size_px, choice.dice) == (32, 1.0)


def test_the_total_counts_where_the_rule_says_so() -> None:
    tuner = ClassTuner("class_total", [(0, 10, 50, 100)], [(0.5,)])
    tuner.add(frame_with((2, 6, 200), (20, 6, 200)), frame_with((2, 6, 1), (20, 6, 1)) > 0)  # 72 px in two parts
    tuner.add(frame_with((2, 4, 200), (20, 4, 200)), frame_with() > 0)  # 32 px of nothing
    (choice,) = tuner.choose()
    assert (choice.min_size_px, choice.dice) == (50, 1.0)


def test_the_threshold_follows_the_levels_and_a_tie_takes_a_half() -> None:
    sure = ClassTuner("component", [(0,)])
    sure.add(frame_with((2, 8, 255)), frame_with((2, 8, 1)) > 0)
    assert sure.choose()[0].pixel_threshold == 0.5
    halo = ClassTuner("component", [(0,)])
    halo.add(frame_with((0, 12, 150), (2, 8, 240)), frame_with((2, 8, 1)) > 0)
    assert halo.choose()[0].pixel_threshold == 0.6


def test_a_frame_that_the_gate_held_back_counts_as_empty() -> None:
    tuner = ClassTuner("component", [(0,)], [(0.5,)])
    tuner.add(None, frame_with() > 0)
    tuner.add(None, frame_with((2, 8, 1)) > 0)
    assert tuner.choose()[0].dice == 0.5


def test_no_frames_no_choice() -> None:
    with pytest.raises(BundleError, match="found no validation frames to tune on"):
        ClassTuner("component", [(0,)]).choose()


def test_each_class_has_candidates_of_its_own() -> None:
    tuner = ClassTuner("component", [(0, 32), (600,)], [(0.5,), (0.5,)])
    speck = np.concatenate([frame_with((2, 4, 200)), frame_with((2, 4, 200))])
    tuner.add(speck, np.zeros((2, 40, 40), np.bool_))
    assert [choice.min_size_px for choice in tuner.choose()] == [32, 600]
