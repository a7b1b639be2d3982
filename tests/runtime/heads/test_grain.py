"""The grain head on maps whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from camera.base import Frame
from camera.steel.austenite import make_micrograph
from runtime.albums.grain_picture import LEAST_WIDTH_PX, bar_range, map_numbers, render_overlay
from runtime.errors import ConfigError
from runtime.facts import Facts
from runtime.heads.grain import (
    MAP,
    MAP_STEP,
    NUMBER,
    PROBABILITY,
    GrainRules,
    GrainSettings,
    answering,
    chance_spread,
    judge,
    resampled,
    scale_correction,
    shares,
)
from runtime.messages import MESSAGE, ModelIdentity, json_of

SCALE = 0.0008
SETTINGS = GrainSettings(
    method="regression", mm_per_px=SCALE, cell_px=32, lowest_g=2.5, highest_g=13.0, error_g=0.3, duplex_g=1.0
)
GRADED = GrainSettings(
    method="classification",
    grades=(5.0, 6.0, 8.0),
    mm_per_px=SCALE,
    cell_px=32,
    lowest_g=5.0,
    highest_g=8.0,
    error_g=0.3,
    duplex_g=1.0,
)
KNOWN = Facts(mm_per_px=SCALE)
MODEL = ModelIdentity(bundle="grain", digest="0" * 64, backend="openvino", precision="fp16")
ENVELOPE = {
    "line": "lab",
    "station": "microscope",
    "run": "r",
    "sequence": 0,
    "captured_at": "2026-01-01T00:00:00.000000+00:00",
}


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return make_micrograph(1, [8.0], height_px=512, width_px=768).pixels


def even(number: float) -> dict[str, np.ndarray]:
    return {NUMBER: np.float32(number), MAP: np.full((16, 24), number, np.float32)}


def halves(left: float, right: float) -> dict[str, np.ndarray]:
    grain_map = np.full((16, 24), left, np.float32)
    grain_map[:, 12:] = right
    return {NUMBER: np.float32((left + right) / 2), MAP: grain_map}


def test_an_even_map_is_homogeneous_and_as_sure_as_the_network(pixels: np.ndarray):
    verdict, result = judge(even(8.0), pixels, KNOWN, SETTINGS, GrainRules())
    assert verdict == "unrated"
    assert result.reason == ""
    assert result.grain_number == 8.0
    assert result.uncertainty == pytest.approx(0.3)
    assert not result.inhomogeneous
    assert result.spread == pytest.approx(0.0)
    assert map_numbers(result) == pytest.approx(np.full((16, 24), 8.0))


def test_two_grain_sizes_are_seen_and_make_the_number_less_sure(pixels: np.ndarray):
    _, result = judge(halves(6.0, 10.0), pixels, KNOWN, SETTINGS, GrainRules())
    assert result.inhomogeneous
    assert result.spread > 3.0
    assert result.uncertainty > 1.0
    assert map_numbers(result)[0, [0, -1]] == pytest.approx([6.0, 10.0], abs=MAP_STEP)


def test_a_few_coarse_grains_a_field_are_no_inhomogeneity(pixels: np.ndarray):
    fine, coarse = (judge(halves(g - 0.8, g + 0.8), pixels, KNOWN, SETTINGS, GrainRules())[1] for g in (10.0, 3.0))
    assert fine.inhomogeneous
    assert not coarse.inhomogeneous
    assert chance_spread(3.0, 6, 0.25) > 1.5 > chance_spread(10.0, 6, 0.25)


@pytest.mark.parametrize(
    ("rules", "verdict"),
    [
        ({"min_grain_number": 7.0}, "accepted"),
        ({"min_grain_number": 9.0}, "rejected"),
        ({"max_grain_number": 7.9}, "rejected"),
        ({"min_grain_number": 7.0, "max_grain_number": 9.0, "allow_inhomogeneous": False}, "rejected"),
        ({"allow_inhomogeneous": False}, "rejected"),
    ],
)
def test_rules_make_the_verdict(rules: dict, verdict: str, pixels: np.ndarray):
    found, _ = judge(halves(6.0, 10.0), pixels, KNOWN, SETTINGS, GrainRules(**rules))
    assert found == verdict


def test_another_scale_moves_the_number_as_the_grains_themselves_would(pixels: np.ndarray):
    # Half the magnification: what looks like G 8 has grains twice as wide, G 6.
    facts = Facts(mm_per_px=2 * SCALE)
    assert scale_correction(facts.mm_per_px, SETTINGS) == pytest.approx(-2.0)
    _, result = judge(even(8.0), pixels, facts, SETTINGS, GrainRules())
    assert result.grain_number == pytest.approx(6.0)
    assert map_numbers(result) == pytest.approx(np.full((16, 24), 6.0))


@pytest.mark.parametrize(
    ("number", "facts", "reason"),
    [
        (8.0, Facts(), "nobody said the scale"),
        (8.0, Facts(mm_per_px=1.0), "absurd"),
        (14.0, KNOWN, "beyond the 2.5 to 13"),
        (1.0, KNOWN, "beyond the 2.5 to 13"),
    ],
)
def test_a_number_that_should_not_be_relied_on_is_never_accepted(
    number: float, facts: Facts, reason: str, pixels: np.ndarray
):
    verdict, result = judge(even(number), pixels, facts, SETTINGS, GrainRules(min_grain_number=0.0))
    assert verdict == "unrated"
    assert reason in result.reason


def test_a_dark_picture_says_nothing():
    verdict, result = judge(even(8.0), np.full((512, 768), 3, np.uint8), KNOWN, SETTINGS, GrainRules())
    assert verdict == "unrated"
    assert "shows nothing" in result.reason


def test_grades_give_the_likeliest_and_all_their_probabilities(pixels: np.ndarray):
    raw = {PROBABILITY: np.array([0.1, 0.7, 0.2], np.float32), MAP: np.full((16, 24), 1.0, np.float32)}
    _, result = judge(raw, pixels, KNOWN, GRADED, GrainRules())
    assert result.grain_number == 6.0
    assert result.grade_probability == pytest.approx({"5": 0.1, "6": 0.7, "8": 0.2})
    assert result.uncertainty > 1.0  # a fifth of the belief lies two grades away
    assert map_numbers(result) == pytest.approx(np.full((16, 24), 6.0))


@pytest.mark.parametrize(
    "change",
    [{"method": "classification"}, {"grades": (5.0, 6.0)}, {"mm_per_px": 0.0}, {"duplex_g": 0.0}, {"colour": "red"}],
)
def test_settings_that_do_not_fit_are_refused(change: dict):
    with pytest.raises(ValidationError):
        GrainSettings.model_validate({**SETTINGS.model_dump(), **change})


def test_limits_that_leave_no_room_are_refused():
    with pytest.raises(ValidationError, match="above"):
        GrainRules(min_grain_number=9.0, max_grain_number=8.0)
    from runtime.decide import read_rules

    with pytest.raises(ConfigError, match="does not exist"):
        read_rules(GrainRules, {"grain": 3})


def test_shares_add_up_and_leave_out_what_lies_beyond_the_picture():
    weights = shares(70, 3, 32, 2)  # the last cell shows 6 px
    assert weights.sum(axis=1) == pytest.approx([1.0, 1.0])
    assert weights[1] == pytest.approx([0.0, 29 / 35, 6 / 35])
    grain_map = np.array([[1.0, 2.0, 100.0]])
    assert resampled(grain_map, (32, 70), 32, (1, 1))[0, 0] == pytest.approx((32 * 1 + 32 * 2 + 6 * 100) / 70)


def test_the_message_goes_over_the_wire_and_draws_the_same_picture_again(pixels: np.ndarray):
    answer = answering(SETTINGS, GrainRules(min_grain_number=5.0), MODEL, KNOWN).answer(
        Frame("microscope", 4, 0, pixels, source="a.png"), halves(6.0, 10.0)
    )
    message = answer.message(ENVELOPE, {"total": 3.0})
    again = MESSAGE.validate_json(json_of(message))
    first, second = (render_overlay(pixels, each, "a.png") for each in (message, again))
    assert np.array_equal(first, second)
    assert first.shape[1] >= max(LEAST_WIDTH_PX, pixels.shape[1])
    # Fine grain is yellow (less blue than red), coarse grain violet.
    left, right = first[100:400, 50:300].mean(axis=(0, 1)), first[100:400, 450:700].mean(axis=(0, 1))
    assert left[0] > left[2] - 10
    assert right[0] < right[2]


def test_the_bar_spans_whole_grades_and_at_least_three():
    assert bar_range(np.array([7.9, 8.1])) == (6, 9)
    assert bar_range(np.array([4.2, 11.7])) == (4, 12)
