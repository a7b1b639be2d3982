import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from runtime.label_scores import LabelScores, boundary_f1, label_map, mean_boundary_f1, outline


def maps(seed: int, phases: int = 2, shape: tuple[int, int] = (30, 40)) -> tuple[np.ndarray, np.ndarray]:
    """Found and true labels that mostly agree."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, phases, shape, dtype=np.uint8)
    return np.where(rng.random(shape) < 0.8, truth, rng.integers(0, phases, shape, dtype=np.uint8)), truth


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3]))
def test_pixel_figures_are_those_of_torchmetrics(seed: int, phases: int) -> None:
    pairs = [maps(seed + number, phases) for number in range(2)]
    scores = LabelScores([f"phase {number}" for number in range(phases)])
    for found, truth in pairs:
        scores.add(found, truth)
    found, truth = (torch.from_numpy(np.stack(each)) for each in zip(*pairs, strict=True))
    figures = scores.figures()
    expected = {
        "mean_iou": MulticlassJaccardIndex(phases, average="macro"),
        "weighted_iou": MulticlassJaccardIndex(phases, average="weighted"),
        "mean_accuracy": MulticlassAccuracy(phases, average="macro"),
        "global_accuracy": MulticlassAccuracy(phases, average="micro"),
    }
    for name, metric in expected.items():
        assert figures[name] == pytest.approx(float(metric(found, truth)), abs=1e-6), name


def test_perfect_maps_score_one() -> None:
    scores = LabelScores(("ferrite", "pearlite"))
    truth = np.zeros((50, 50), np.uint8)
    truth[10:30, 5:20] = 1
    scores.add(truth, truth)
    figures = scores.figures()
    assert {figures[name] for name in ("global_accuracy", "mean_iou", "weighted_iou", "mean_bf_score")} == {1.0}
    assert figures["fraction_error_percent"] == figures["fraction_bias_percent"] == 0.0


def test_fraction_errors_do_not_cancel_but_biases_do() -> None:
    scores = LabelScores(("ferrite", "pearlite"))
    truth = np.zeros((10, 10), np.uint8)
    truth[:5] = 1
    for row in (4, 6):
        found = np.zeros_like(truth)
        found[:row] = 1
        scores.add(found, truth)
    figures = scores.figures()
    assert figures["fraction_error_percent"] == pytest.approx(10.0)
    assert figures["fraction_bias_percent"] == pytest.approx(0.0)


def test_a_phase_that_is_neither_there_nor_found_is_left_out() -> None:
    scores = LabelScores(("ferrite", "pearlite"))
    empty = np.zeros((10, 10), np.uint8)
    scores.add(empty, empty)
    assert scores.figures()["mean_iou"] == 1.0


def test_the_outline_is_inside_and_the_picture_s_border_is_none() -> None:
    region = np.zeros((6, 7), bool)
    region[2:, 3:] = True
    expected = np.zeros_like(region)
    expected[2, 3:] = expected[2:, 3] = True
    assert np.array_equal(outline(region), expected)
    assert not outline(np.ones((4, 4), bool)).any()


@pytest.mark.parametrize(("shift", "tolerance_px", "score"), [(2, 2.0, 1.0), (3, 2.0, 0.0)])
def test_the_boundary_score_forgives_the_tolerance_and_no_more(shift: int, tolerance_px: float, score: float) -> None:
    edge = np.zeros((60, 60), bool)
    edge[:, 30:] = True
    assert boundary_f1(np.roll(edge, shift, axis=1)[:, shift:], edge[:, shift:], tolerance_px) == score


def test_an_outline_that_is_missed_scores_nothing() -> None:
    region = np.zeros((20, 20), bool)
    region[5:10, 5:10] = True
    assert boundary_f1(np.zeros_like(region), region) == 0.0
    assert boundary_f1(region, np.zeros_like(region)) == 0.0
    assert math.isnan(boundary_f1(np.zeros_like(region), np.zeros_like(region)))
    assert math.isnan(mean_boundary_f1(np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8), 2))


def test_the_tolerance_grows_with_the_picture_where_none_is_given() -> None:
    found, truth = np.zeros((400, 400), bool), np.zeros((400, 400), bool)
    found[100:300, 103:303] = truth[100:300, 100:300] = True
    assert boundary_f1(found, truth) == 1.0
    assert boundary_f1(found[95:305, 95:305], truth[95:305, 95:305]) < 0.6


def test_labels_of_planes() -> None:
    planes = np.array([[[1, 0, 1, 0]], [[0, 1, 1, 0]]], bool)
    assert label_map(planes).tolist() == [[1, 2, 2, 0]]
