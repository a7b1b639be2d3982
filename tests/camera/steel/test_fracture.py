import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camera.base import CameraError
from camera.steel.fracture import LIGAMENT_MM, fracture_surface


def test_a_seed_is_a_specimen():
    first, again, other = (fracture_surface(seed, height_px=96, width_px=160) for seed in (7, 7, 8))
    assert np.array_equal(first.pixels, again.pixels)
    assert np.array_equal(first.brittle, again.brittle)
    assert not np.array_equal(first.pixels, other.pixels)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    ratio=st.floats(0.0, 1.0),
    height_px=st.integers(64, 140),
    width_px=st.integers(64, 200),
    view=st.sampled_from(("ligament", "rated")),
)
def test_the_ratio_is_the_one_asked_for(seed, ratio, height_px, width_px, view):
    made = fracture_surface(seed, view=view, brittle_ratio=ratio, height_px=height_px, width_px=width_px)
    assert made.pixels.shape == made.brittle.shape == (height_px, width_px)
    assert made.pixels.dtype == np.uint8
    # The dark bench beyond the free surfaces is none of the steel that the ratio was asked of.
    assert 0.85 * ratio - 0.02 <= made.brittle_ratio <= ratio + 0.02


def test_nothing_and_everything():
    assert fracture_surface(3, brittle_ratio=0.0).brittle_ratio == 0.0
    assert fracture_surface(3, brittle_ratio=1.0).brittle_ratio > 0.9


def test_sizes_are_those_of_the_papers_pictures():
    for seed in range(4):
        made = fracture_surface(seed, view="rated")
        assert 611 <= made.pixels.shape[1] <= 810
        assert 262 <= made.pixels.shape[0] <= 676


def test_a_ligament_is_rated_without_a_thickness_at_both_ends():
    made = fracture_surface(5, view="ligament")
    first, stop = made.rated_cols
    width = made.pixels.shape[1]
    assert made.mm_per_px * width == pytest.approx(LIGAMENT_MM)
    assert first == pytest.approx(made.thickness_mm / made.mm_per_px, abs=0.5)
    assert stop == width - first
    assert made.rated_brittle_ratio == made.brittle[:, first:stop].mean()


def test_brittle_steel_is_brighter_and_rougher():
    """What a person sees must be what the map says, in nearly all specimens."""
    brighter = rougher = 0
    for seed in range(12):
        made = fracture_surface(seed, view="rated", brittle_ratio=0.5, height_px=160, width_px=220)
        inside = np.s_[12:-12]
        pixels, brittle = made.pixels[inside].astype(float), made.brittle[inside]
        step = np.abs(np.diff(pixels, axis=1))
        brighter += pixels[brittle].mean() > pixels[~brittle].mean()
        rougher += step[brittle[:, 1:]].mean() > step[~brittle[:, 1:]].mean()
    assert brighter >= 11
    assert rougher >= 11


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"seed": 1, "brittle_ratio": 1.2}, r"brittle_ratio is 1\.2"),
        ({"seed": 1, "height_px": 20}, "height_px is 20"),
        ({"seed": 1, "width_px": 0}, "width_px is 0"),
    ],
)
def test_a_setting_out_of_range_is_named(settings, text):
    with pytest.raises(CameraError, match=text):
        fracture_surface(settings.pop("seed"), **settings)
