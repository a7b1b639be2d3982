from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import convolve1d

from runtime.tiling import cut_tiles, plan_tiles, stitch


@st.composite
def plans(draw: st.DrawFn) -> tuple[tuple[int, int], int, int, int]:
    """A picture's shape, and tile, radius and stride that fit together."""
    stride = draw(st.sampled_from([1, 2, 4, 8]))
    radius = stride * draw(st.integers(0, 4))
    tile = 2 * radius + stride * draw(st.integers(1, 8))
    return (draw(st.integers(1, 150)), draw(st.integers(1, 150))), tile, radius, stride


@given(plans())
def test_every_pixel_is_answered_for_once(case: tuple[tuple[int, int], int, int, int]) -> None:
    shape, tile, radius, stride = case
    plan = plan_tiles(shape, tile, radius, stride)
    answered = np.zeros(shape, int)
    for row, col in plan.places():
        answered[row.keep_first : row.keep_stop, col.keep_first : col.keep_stop] += 1
    assert (answered == 1).all()


@given(plans())
def test_a_pixel_lies_a_radius_inside_its_tile_or_the_tile_ends_with_the_picture(
    case: tuple[tuple[int, int], int, int, int],
) -> None:
    shape, tile, radius, stride = case
    plan = plan_tiles(shape, tile, radius, stride)
    for spans, size, padded in zip((plan.rows, plan.cols), plan.tile_px, plan.padded_px, strict=True):
        assert spans[-1].first + size == padded
        for span in spans:
            assert span.first % stride == 0
            assert span.first == 0 or span.keep_first - span.first >= radius
            assert span.first + size == padded or span.first + size - span.keep_stop >= radius
        assert all(span.first < following.first for span, following in pairwise(spans))


@settings(deadline=None)
@given(plans(), st.integers(0, 2**32 - 1))
def test_a_local_filter_of_the_tiles_is_that_of_the_whole(
    case: tuple[tuple[int, int], int, int, int], seed: int
) -> None:
    shape, tile, radius, _ = case
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 256, shape).astype(np.int64)
    kernels = rng.integers(-3, 4, (2, 2 * radius + 1))

    def local(plane: NDArray[np.int64]) -> NDArray[np.int64]:
        down = convolve1d(plane, kernels[0], axis=0, mode="constant")
        return convolve1d(down, kernels[1], axis=1, mode="constant")

    plan = plan_tiles(shape, tile, radius)
    filtered = (local(each[0]) for each in cut_tiles(picture, plan))
    assert np.array_equal(stitch(filtered, plan, np.int64), local(picture))


def test_a_small_picture_is_one_tile() -> None:
    plan = plan_tiles((30, 50), 64, 8, 8)
    assert plan.count == 1
    assert plan.tile_px == (32, 56)
    tiles = cut_tiles(np.arange(1500, dtype=np.int32).reshape(30, 50), plan)
    assert tiles.shape == (1, 1, 32, 56)
    assert (tiles[0, 0, 29:, 49:] == 1499).all()


@pytest.mark.parametrize(
    ("shape", "tile", "radius", "stride"), [((0, 5), 8, 0, 1), ((9, 9), 16, 8, 8), ((9, 9), 20, 8, 8)]
)
def test_numbers_that_do_not_fit_are_refused(shape: tuple[int, int], tile: int, radius: int, stride: int) -> None:
    with pytest.raises(ValueError, match="px"):
        plan_tiles(shape, tile, radius, stride)
