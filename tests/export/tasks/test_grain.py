"""The end of a grain graph, and what parity and validation say of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from export.tasks import export_task
from export.tasks.grain import (
    CLASS_LIMITS,
    FP32_LIMITS,
    LIMITS,
    NUMBER_END,
    compare_grades,
    compare_number,
    finish_grades,
    finish_number,
    golden_frames,
    least_error,
)
from runtime.heads.grain import MAP, NUMBER, PROBABILITY
from train.models import GrainOutput, build


def test_a_regression_gives_its_number_and_its_map():
    output = GrainOutput(torch.tensor([[7.5], [3.0]]), torch.arange(12.0).reshape(2, 1, 2, 3))
    number, grain_map = finish_number(output)
    assert number.tolist() == [7.5, 3.0]
    assert grain_map.shape == (2, 2, 3)
    assert grain_map.dtype == number.dtype == torch.float32


def test_a_classification_gives_probabilities_and_the_place_of_the_highest_activation():
    cams = torch.tensor([[[[1.0, 0.0]], [[0.0, 3.0]], [[0.5, 2.0]]]])
    probability, grain_map = finish_grades(GrainOutput(torch.tensor([[0.0, 2.0, 1.0]]), cams))
    assert probability.sum().item() == pytest.approx(1.0)
    assert probability.argmax().item() == 1
    assert grain_map.tolist() == [[[0.0, 1.0]]]


def test_parity_speaks_of_grades():
    ours = {NUMBER: np.array([7.0, 4.0], np.float32), MAP: np.full((2, 3, 4), 7.0, np.float32)}
    theirs = {NUMBER: np.array([7.0, 4.2], np.float32), MAP: np.full((2, 3, 4), 7.5, np.float32)}
    found = compare_number(ours, theirs, {})
    assert found == pytest.approx({"number_g": 0.2, "map_g": 0.5}, abs=1e-6)
    assert set(found) == set(LIMITS) == set(FP32_LIMITS)
    assert found["number_g"] > LIMITS["number_g"]
    grades = {PROBABILITY: np.array([[0.5, 0.5]], np.float32), MAP: np.zeros((1, 2, 2), np.float32)}
    others = {PROBABILITY: np.array([[0.75, 0.25]], np.float32), MAP: np.array([[[0, 0], [0, 1]]], np.float32)}
    assert compare_grades(grades, others, {}) == pytest.approx({"probability_max_abs": 0.25, "flipped_ratio": 0.25})
    assert set(compare_grades(grades, grades, {})) == set(CLASS_LIMITS)


def test_the_error_holds_as_many_numbers_as_asked():
    rng = np.random.default_rng(1)
    errors, intervals = np.abs(rng.normal(0, 0.3, 200)), np.full(200, 0.1)
    error = least_error(errors, intervals, 0.97)
    assert np.mean(errors <= np.hypot(error, intervals)) >= 0.97
    assert np.mean(errors <= np.hypot(0.9 * error, intervals)) < 0.985


def test_both_trainings_make_a_grain_bundle():
    assert export_task("grain").name == export_task("grain-classes").name == "grain"
    assert [each.name for each in export_task("grain").graphs["model"].outputs] == [NUMBER, MAP]
    assert [each.name for each in export_task("grain-classes").graphs["model"].outputs] == [PROBABILITY, MAP]


def test_golden_frames_are_a_function_of_their_size():
    frames = golden_frames(3, (384, 512))
    assert frames.shape == (3, 1, 384, 512)
    assert np.array_equal(frames[:2], golden_frames(2, (384, 512)))


def test_the_graph_keeps_its_sizes_free():
    from export.to_onnx import output_specs, to_onnx

    model = to_onnx(build("grain", "resnet12-cells").eval(), "model", NUMBER_END, None)
    assert [spec.shape for spec in output_specs(model, NUMBER_END)] == [("N",), ("N", "h", "w")]
