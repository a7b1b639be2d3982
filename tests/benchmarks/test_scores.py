from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from benchmarks.scores import Found, MaskScores, gate_figures, label_map, only_slivers

NAMES = ("pitting", "patch")
PLANES = hnp.arrays(np.bool_, (2, 6, 8))


def score(truth, found):
    scores = MaskScores(NAMES)
    for true, masks in zip(truth, found, strict=True):
        scores.add(true, label_map(true), None if masks is None else Found(masks, label_map(masks)))
    return scores


def block(plane: int, rows: slice, cols: slice) -> np.ndarray:
    masks = np.zeros((2, 6, 8), bool)
    masks[plane, rows, cols] = True
    return masks


def test_a_perfect_answer_scores_one_everywhere():
    truth = [block(0, np.s_[:3], np.s_[:4]), block(1, np.s_[2:], np.s_[4:]), np.zeros((2, 6, 8), bool)]
    figures = score(truth, truth).figures()
    assert (figures.dice, figures.dice_defective, figures.mean_iou, figures.background_iou) == (1, 1, 1, 1)
    assert figures.by_class["pitting"].pairs == 1


def test_half_of_a_defect_found_among_clean_frames():
    truth = [block(0, np.s_[:2], np.s_[:4]), np.zeros((2, 6, 8), bool)]
    scores = score(truth, [block(0, np.s_[:1], np.s_[:4]), None])
    figures = scores.figures()
    half = 2 * 4 / (8 + 4)
    assert figures.dice == pytest.approx((half + 3) / 4, abs=1e-6)
    assert figures.dice_defective == pytest.approx(half, abs=1e-6)
    assert figures.by_class["pitting"].iou == 0.5
    assert figures.background_iou == pytest.approx(88 / 92, abs=1e-6)
    assert figures.mean_iou == pytest.approx((0.5 + 88 / 92) / 2, abs=1e-6)
    assert figures.by_class["patch"].iou is None
    assert figures.by_class["patch"].dice_defective is None
    assert scores.all_empty_dice() == 0.75


def test_a_false_alarm_on_a_clean_frame_costs_the_whole_pair():
    clean = np.zeros((2, 6, 8), bool)
    figures = score([clean], [block(1, np.s_[:1], np.s_[:1])]).figures()
    assert figures.dice == 0.5
    assert figures.dice_defective is None
    assert figures.by_class["patch"].iou == 0.0


@settings(deadline=None)
@given(st.lists(st.tuples(PLANES, PLANES), min_size=1, max_size=4))
def test_finding_nothing_is_the_all_empty_baseline_and_bounds_hold(pairs):
    truth, found = zip(*pairs, strict=True)
    empty = score(truth, [None] * len(truth))
    assert empty.figures().dice == pytest.approx(empty.all_empty_dice(), abs=1e-5)
    figures = score(truth, found).figures()
    assert 0 <= figures.dice <= 1
    assert 0 <= figures.mean_iou <= 1


@settings(deadline=None)
@given(PLANES)
def test_none_and_an_empty_answer_count_alike(truth):
    empty = np.zeros_like(truth)
    assert score([truth], [None]).figures() == score([truth], [empty]).figures()


@settings(deadline=None)
@given(PLANES, PLANES)
def test_dice_agrees_with_the_labs(truth, found):
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("train.metrics")
    lab = metrics.CompetitionDice()
    lab.update(torch.from_numpy(found[None]), torch.from_numpy(truth[None]))
    ours = score([truth], [found]).figures()
    theirs = lab.compute()
    assert ours.dice == pytest.approx(theirs["dice"], abs=1e-5)
    assert (ours.dice_defective or 0.0) == pytest.approx(theirs["dice_defective"], abs=1e-5)


def test_frames_may_have_many_sizes():
    scores = MaskScores(NAMES)
    for size in ((6, 8), (3, 20)):
        truth = np.zeros((2, *size), bool)
        truth[0, 0, 0] = True
        scores.add(truth, label_map(truth), Found(truth, label_map(truth)))
    assert scores.figures().dice == 1


def test_no_frames_is_an_error():
    with pytest.raises(ValueError, match="found no frames"):
        MaskScores(NAMES).figures()


def test_gate_counts():
    figures = gate_figures(np.array([1, 1, 1, 0, 0], bool), np.array([1, 1, 0, 1, 0], bool))
    assert (figures.tp, figures.fn, figures.fp, figures.tn) == (2, 1, 1, 1)
    assert figures.recall == pytest.approx(2 / 3, abs=1e-6)
    assert figures.false_gate_ratio == 0.5


def test_gate_without_clean_frames_has_no_false_gate_ratio():
    figures = gate_figures(np.ones(3, bool), np.ones(3, bool))
    assert figures.recall == 1.0
    assert figures.false_gate_ratio is None


def test_a_frame_is_a_sliver_only_if_every_class_it_shows_is_small():
    assert only_slivers(np.array([3, 0]), (5, 5))
    assert only_slivers(np.array([3, 4]), (5, 5))
    assert not only_slivers(np.array([3, 5]), (5, 5))
    assert not only_slivers(np.array([0, 0]), (5, 5))
