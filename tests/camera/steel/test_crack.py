"""The drawn pipe: a function of its seed, with a truth that fits what is seen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt, label

from camera.steel.crack import draw_crack

SIZE = {"height_px": 160, "width_px": 200}


def test_a_picture_is_a_function_of_its_seed():
    one, same, other = (draw_crack(seed, **SIZE) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.pixels, same.pixels)
    np.testing.assert_array_equal(one.mask, same.mask)
    np.testing.assert_array_equal(one.tips, same.tips)
    assert (one.pixels != other.pixels).mean() > 0.5


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**31), height=st.integers(64, 150), width=st.integers(64, 150))
def test_every_tip_lies_on_the_edge_of_the_mask_and_in_the_picture(seed, height, width):
    made = draw_crack(seed, height_px=height, width_px=width)
    assert made.pixels.shape == made.mask.shape == (height, width)
    assert (made.pixels.dtype, made.mask.dtype, made.tips.dtype) == (np.uint8, np.bool_, np.float32)
    assert len(made.tips) >= 1
    away = distance_transform_edt(~made.mask)
    for row, col in made.tips:
        assert 2.0 < row < height - 3.0
        assert 2.0 < col < width - 3.0
        assert away[round(float(row)), round(float(col))] <= 1.5


@pytest.mark.parametrize("seed", range(6))
def test_a_tip_ends_something(seed):
    """Around a tip at most half of a small circle is crack: it is no point along one."""
    made = draw_crack(seed)
    row, col = np.rint(made.tips[0]).astype(int)
    window = made.mask[row - 4 : row + 5, col - 4 : col + 5]
    parts, count = label(np.pad(window, 1, constant_values=False)[1:-1, 1:-1], np.ones((3, 3)))
    edge = np.concatenate((parts[0], parts[-1], parts[:, 0], parts[:, -1]))
    assert count == 1
    assert np.count_nonzero(edge) <= len(edge) / 3


def test_without_a_crack_there_is_no_truth_and_still_a_picture():
    made = draw_crack(5, cracked=False, **SIZE)
    assert not made.mask.any()
    assert made.tips.shape == (0, 2)
    assert made.pixels.std() > 5.0


def test_the_crack_is_darker_than_the_steel_beside_it():
    for seed in range(8):
        made = draw_crack(seed, **SIZE)
        away = distance_transform_edt(~made.mask)
        beside = (away > 4.0) & (away < 10.0)
        assert made.pixels[made.mask].mean() < 0.75 * np.median(made.pixels[beside])


def test_a_lone_main_crack_has_one_tip():
    for seed in range(4):
        made = draw_crack(seed, branches=0.0, separate=0.0, **SIZE)
        assert len(made.tips) == 1
        assert label(made.mask, np.ones((3, 3)))[1] == 1


def test_branches_and_separate_cracks_add_tips():
    tips = [len(draw_crack(seed, branches=6.0, separate=6.0).tips) for seed in range(3)]
    assert min(tips) > 1
