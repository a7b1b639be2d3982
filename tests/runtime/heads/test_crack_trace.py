"""Tracing: what is said of shapes whose length, width and ends are known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camera.steel.crack import draw_crack
from runtime.heads.crack_trace import level_of, smooth_length_px, trace_cracks

SHAPE = (120, 160)


def strokes(*lines, shape=SHAPE):
    """(H, W) uint8: probability that falls by half at the edge of thick lines ((row, col), (row, col), radius)."""
    rows, cols = np.mgrid[: shape[0], : shape[1]].astype(float)
    probability = np.zeros(shape)
    for (row, col), (last_row, last_col), radius in lines:
        down, right = last_row - row, last_col - col
        along = ((rows - row) * down + (cols - col) * right) / max(1e-9, down * down + right * right)
        along = np.clip(along, 0.0, 1.0)
        away = np.hypot(rows - row - along * down, cols - col - along * right) - radius
        probability = np.maximum(probability, np.clip(0.5 - away, 0.0, 1.0))
    return np.rint(255 * probability).astype(np.uint8)


def tips_of(crack):
    return [(tip.row_px, tip.col_px) for tip in crack.tips]


def test_nothing_is_no_crack():
    assert trace_cracks(np.zeros(SHAPE, np.uint8), 0.5) == []


@settings(max_examples=25, deadline=None)
@given(angle=st.floats(0, 2 * math.pi), radius=st.floats(0.9, 3.0))
def test_a_straight_crack_has_its_length_its_width_and_two_tips_at_any_angle(angle, radius):
    half = 35.0
    reach = (half * math.sin(angle), half * math.cos(angle))
    ends = [(60.0 + sign * reach[0], 80.0 + sign * reach[1]) for sign in (-1, 1)]
    (crack,) = trace_cracks(strokes((*ends, radius)), 0.5)
    # The region is rounded: each end lies a radius beyond the line.
    assert crack.length_px == pytest.approx(2 * (half + radius), abs=2.0)
    assert crack.mean_width_px == pytest.approx(2 * radius, rel=0.1, abs=1.1)
    assert crack.max_width_px == pytest.approx(2 * radius, abs=1.2)
    truth = [
        (60.0 + sign * (1 + radius / half) * reach[0], 80.0 + sign * (1 + radius / half) * reach[1]) for sign in (-1, 1)
    ]
    assert len(crack.tips) == 2
    for place in truth:
        # A blunt end leaves the skeleton's last direction to a pixel or two.
        assert min(math.dist(place, tip) for tip in tips_of(crack)) < 2.0


def test_where_a_crack_leaves_the_picture_it_has_no_tip():
    (crack,) = trace_cracks(strokes(((60, -20), (60, 90), 3.0)), 0.5)
    assert tips_of(crack) == [pytest.approx((60.0, 93.0), abs=1.0)]
    assert crack.tips[0].main
    assert crack.length_px == pytest.approx(93.0, abs=1.5)
    (through,) = trace_cracks(strokes(((60, -20), (64, 200), 3.0)), 0.5)
    assert through.tips == ()
    assert through.length_px == pytest.approx(160.0, abs=2.0)


def test_where_the_specimen_ends_a_crack_has_a_mouth_and_no_tip():
    probability = strokes(((60, 10), (60, 60), 8.0), ((60, 55), (60, 130), 1.5))
    probability[:, :30] = 0
    (crack,) = trace_cracks(probability, 0.5)
    assert tips_of(crack) == [pytest.approx((60.0, 131.5), abs=1.0)]


def test_the_main_tip_ends_the_longest_path_from_the_root():
    (crack,) = trace_cracks(
        strokes(((60, -9), (60, 60), 3.0), ((60, 60), (30, 85), 1.5), ((60, 60), (100, 140), 1.5)), 0.5
    )
    assert [tip.main for tip in crack.tips] == [True, False]
    assert tips_of(crack)[0] == pytest.approx((100.7, 141.3), abs=1.2)
    assert tips_of(crack)[1] == pytest.approx((29.0, 86.0), abs=1.2)
    assert crack.length_px == pytest.approx(60 + math.hypot(40, 80) + 1.5, rel=0.03)


def test_ragged_lips_make_no_tips():
    probability = strokes(((60, -9), (60, 120), 4.0))
    probability[53:57, 20:120:12] = 255
    (crack,) = trace_cracks(probability, 0.5)
    assert len(crack.tips) == 1


def test_debris_between_the_lips_makes_no_ring_and_a_ring_makes_no_tip():
    debris = strokes(((60, -9), (60, 120), 4.0))
    debris[60, 40:44] = 0
    (crack,) = trace_cracks(debris, 0.5)
    assert len(crack.tips) == 1
    assert crack.length_px == pytest.approx(124.0, abs=2.0)
    rows, cols = np.mgrid[: SHAPE[0], : SHAPE[1]]
    ring = (np.abs(np.hypot(rows - 60, cols - 80) - 30) < 2).astype(np.uint8) * 255
    (closed,) = trace_cracks(ring, 0.5)
    assert closed.tips == ()
    assert closed.length_px > 0


@pytest.mark.parametrize("mask", [np.s_[5, 5], np.s_[5:7, 5:7], np.s_[0, 0], np.s_[119, 10:14], np.s_[:, :]])
def test_the_smallest_and_the_largest_masks_are_traced(mask):
    probability = np.zeros(SHAPE, np.uint8)
    probability[mask] = 200
    (crack,) = trace_cracks(probability, 0.5)
    assert crack.area_px == np.count_nonzero(probability)
    assert crack.length_px >= 1.0
    assert all(np.isfinite(place).all() for place in tips_of(crack))


def test_parts_come_by_size_and_small_ones_are_dropped():
    probability = strokes(((20, 20), (20, 50), 1.5), ((80, 20), (80, 120), 1.5))
    probability[110, 5:9] = 255
    large, small = trace_cracks(probability, 0.5, min_size_px=20)
    assert large.area_px > small.area_px
    assert large.first_row == pytest.approx(79, abs=1)


def test_the_border_belongs_to_the_crack_at_its_very_level():
    probability = np.zeros(SHAPE, np.uint8)
    probability[50:53, 20:60] = level_of(0.7)
    assert len(trace_cracks(probability, 0.7)) == 1
    assert trace_cracks(probability, 0.71) == []
    assert level_of(0.0) == 1
    assert level_of(1.0) == 255


def test_a_path_of_one_pixel_has_no_length():
    assert smooth_length_px(np.array([(3, 4)])) == 0.0
    assert smooth_length_px(np.array([(3, 4), (3, 5)])) == pytest.approx(1.0)


def test_the_tips_of_drawn_pipes_are_found_to_a_pixel():
    off = []
    for seed in range(8):
        made = draw_crack(seed, separate=0.0)
        first = trace_cracks(made.mask.astype(np.uint8) * 255, 0.5, min_size_px=30)[0]
        off.append(math.dist(tips_of(first)[0], made.tips[0].tolist()))
    assert np.median(off) < 1.0
    assert max(off) < 3.0
