"""Traced boundaries: followed across weak places, begun only where they are certain, one pixel wide."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.boundary_lines import thinned, trace_lines


def drawn(level: int = 220) -> np.ndarray:
    picture = np.zeros((40, 60), np.uint8)
    picture[19:22] = level
    return picture


def test_a_line_goes_on_where_it_is_faint():
    picture = drawn()
    picture[:, 25:35] = np.minimum(picture[:, 25:35], 110)
    lines = trace_lines(picture, certain=0.5, faint=0.3, min_length_px=5)
    assert lines[20].all()
    assert lines.sum(axis=0).max() == 1
    broken = trace_lines(picture, certain=0.5, faint=0.5, min_length_px=5)
    assert not broken[:, 26:34].any()


def test_what_is_nowhere_certain_is_no_line():
    assert not trace_lines(drawn(110), certain=0.5, faint=0.3, min_length_px=1).any()


def test_short_pieces_are_dropped():
    picture = np.zeros((40, 60), np.uint8)
    picture[10:13, 5:50] = 255
    picture[30:33, 5:10] = 255
    lines = trace_lines(picture, certain=0.5, faint=0.5, min_length_px=10)
    assert lines[11].any()
    assert not lines[25:].any()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_higher_threshold_finds_no_line_where_a_lower_one_finds_nothing(seed: int):
    picture = np.random.default_rng(seed).integers(0, 256, (24, 24)).astype(np.uint8)
    wide = picture >= 255 * 0.4
    lines = trace_lines(picture, certain=0.8, faint=0.4, min_length_px=0)
    assert not (lines & ~wide).any()


def test_a_pen_of_any_width_draws_the_same_line():
    narrow, wide = np.zeros((2, 41, 60), bool)
    narrow[20] = True
    wide[18:23] = True
    assert np.array_equal(thinned(wide)[:, 5:-5], narrow[:, 5:-5])


def test_speckle_in_a_line_is_no_grain():
    picture = drawn(255)
    picture[18:23] = 255
    picture[20, 30] = 0
    with_it = trace_lines(picture, certain=0.5, faint=0.5, min_length_px=5)
    without = trace_lines(picture, certain=0.5, faint=0.5, min_length_px=5, min_grain_px=4)
    assert with_it.sum() > without.sum() == 60
