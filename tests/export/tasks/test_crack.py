"""The crack export: levels inside the graph, parity of masks and tips."""

import numpy as np
import pytest
import torch

from export.parity import Comparison
from export.tasks import export_task
from export.tasks.base import MODEL, Choices
from export.tasks.crack import FP32_LIMITS, LIMITS, CrackChoices, compare, finish, golden_frames
from runtime.heads.crack import CrackSettings
from train.models import CrackOutput

SETTINGS = {"pixel_threshold": 0.5, "min_size_px": 20, "min_branch_px": 8.0}


def straight(tip_col, level=255, rows=3):
    """(1, 1, 48, 80) uint8: a crack from the left border to a column."""
    probability = np.zeros((1, 1, 48, 80), np.uint8)
    probability[..., 20 : 20 + rows, : tip_col + 1] = level
    return probability


def figures_of(found, truth):
    return compare({"crack_probability": found}, {"crack_probability": truth}, SETTINGS)


def test_the_output_is_the_sigmoid_in_levels():
    logits = torch.tensor([[[[-20.0, 0.0, 20.0]]]])
    (levels,) = finish(CrackOutput(logits))
    assert levels.dtype == torch.uint8
    assert levels.flatten().tolist() == [0, 128, 255]


def test_the_same_is_no_difference():
    assert figures_of(straight(50), straight(50)) == {"dice_loss": 0.0, "level_mean_abs": 0.0, "tip_px": 0.0}
    nothing = np.zeros((1, 1, 48, 80), np.uint8)
    assert figures_of(nothing, nothing)["dice_loss"] == 0.0


def test_a_tip_elsewhere_is_seen_in_px():
    figures = figures_of(straight(53), straight(50))
    assert figures["tip_px"] == pytest.approx(3.0, abs=0.2)
    assert figures["dice_loss"] == pytest.approx(1 - 2 * 51 / (51 + 54), abs=1e-6)
    assert figures["level_mean_abs"] == pytest.approx(255 * 9 / (48 * 80))


def test_a_lost_tip_is_infinitely_far():
    assert figures_of(np.zeros_like(straight(50)), straight(50))["tip_px"] == np.inf


def test_what_torch_itself_leaves_open_is_left_out():
    doubtful = straight(50)
    doubtful[..., 20:23, 45:51] = 130  # a little over the threshold
    moved = straight(44)
    figures = figures_of(moved, doubtful)
    assert figures["tip_px"] == 0.0
    assert figures["dice_loss"] == 0.0
    assert figures["level_mean_abs"] > 0.0


def test_limits_are_those_of_the_contract():
    comparison = export_task("crack").graphs[MODEL].comparison
    assert isinstance(comparison, Comparison)
    assert (LIMITS["dice_loss"], LIMITS["tip_px"]) == (0.002, 1.0)
    assert all(FP32_LIMITS[name] <= LIMITS[name] for name in LIMITS)
    assert {*figures_of(straight(50), straight(50))} == {*LIMITS}


def test_golden_pipes_are_mostly_cracked_and_all_different():
    frames = golden_frames(4, (64, 80))
    assert (frames.shape, frames.dtype) == ((4, 1, 64, 80), np.uint8)
    assert len({frame.tobytes() for frame in frames}) == 4


def test_settings_are_what_was_chosen():
    own = CrackChoices(pixel_threshold=0.4, min_size_px=7)
    chosen = export_task("crack").settings({}, own, Choices(), lambda *_: None)
    assert chosen == CrackSettings(pixel_threshold=0.4, min_size_px=7, min_branch_px=10.0)
