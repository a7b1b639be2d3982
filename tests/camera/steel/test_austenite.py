"""Synthetic austenite has the grain size number that it says, and the same picture whenever it is asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label

from camera.steel.austenite import GRADES, HALF_GRADES, MM_PER_PX, make_micrograph
from camera.steel.etching import Etching
from camera.steel.tessellation import cut_section, grain_number_of, grains_per_mm2

SIZE = {"height_px": 384, "width_px": 512}


@pytest.mark.parametrize("grade", [4.0, 6.5, 9.0, 13.0])
def test_the_grain_number_is_the_one_asked_for(grade: float):
    made = make_micrograph(3, [grade], **SIZE)
    grains = grains_per_mm2(grade) * 384 * 512 * MM_PER_PX**2
    # Whole grains come no nearer than half of one.
    assert abs(made.grains - grains) <= max(0.5, 0.05 * grains) + 1.0
    assert made.grain_number == pytest.approx(grain_number_of(made.grains / (384 * 512 * MM_PER_PX**2)))
    assert made.pixels.shape == made.boundary.shape == (384, 512)
    assert made.pixels.dtype == np.uint8


def test_a_picture_is_a_function_of_its_seed():
    first, again, other = (make_micrograph(seed, [7.0], **SIZE) for seed in (11, 11, 12))
    assert np.array_equal(first.pixels, again.pixels)
    assert np.array_equal(first.boundary, again.boundary)
    assert not np.array_equal(first.pixels, other.pixels)


def test_the_boundaries_enclose_every_grain_once():
    section = cut_section(np.random.default_rng(5), (300, 400), 7.0, MM_PER_PX, regularity=0.3)
    assert len(np.unique(section.labels)) == section.grains == section.labels.max() + 1
    # Tiled, a grain that leaves on one side comes in on the other: the pieces of the period are the same grain.
    tiled = np.tile(section.labels, (2, 2))
    inside = tiled[150:450, 200:600]
    assert len(np.unique(inside)) == section.grains


def test_boundaries_are_darker_than_grains():
    made = make_micrograph(21, [6.0], **SIZE)
    assert made.pixels[made.boundary].mean() < made.pixels[~made.boundary].mean() - 15
    assert label(~made.boundary)[1] >= made.grains


@pytest.mark.parametrize("pattern", ["patches", "bands", "quadrants"])
def test_a_mixed_picture_has_each_of_its_grades(pattern):
    made = make_micrograph(4, [5.0, 9.0], pattern=pattern, height_px=480, width_px=640)
    share = (made.local_grain_number == 9.0).mean()
    assert 0.3 < share < 0.7
    edges = [made.boundary[made.local_grain_number == grade].mean() for grade in (5.0, 9.0)]
    assert edges[1] > 2 * edges[0]  # finer grains have more boundary
    assert 5.0 < made.grain_number < 9.0


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), grade=st.floats(3.0, 11.0))
def test_any_grade_between_can_be_made(seed: int, grade: float):
    made = make_micrograph(seed, [grade], height_px=256, width_px=320)
    wanted = grains_per_mm2(grade) * 256 * 320 * MM_PER_PX**2
    assert abs(made.grains - wanted) <= 2.0 + 0.1 * wanted


@pytest.mark.parametrize(
    ("grades", "size"), [([], (384, 512)), ([1.0], (384, 512)), ([7.0, 14.0], (384, 512)), ([7.0], (32, 512))]
)
def test_a_picture_that_cannot_be_made_is_refused(grades: list[float], size: tuple[int, int]):
    with pytest.raises(ValueError, match="expected"):
        make_micrograph(1, grades, height_px=size[0], width_px=size[1])


def test_a_picture_within_one_grain_can_be_made():
    made = make_micrograph(910_001, [2.5], height_px=96, width_px=128, etching=Etching(carbides_per_mpx=5000))
    assert made.grains == 1
    assert not made.boundary.any()
    assert made.pixels.std() > 1


def test_half_grades_lie_between_the_grades():
    assert not set(GRADES) & set(HALF_GRADES)
    assert HALF_GRADES[0] == 3.5
    assert HALF_GRADES[-1] == 12.5
