import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from runtime.phase_fractions import PARTINGS, field_percents, half_interval_percent, spread


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_fields_of_one_size_average_to_the_whole(height: int, width: int, field_px: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 3, (height, width), dtype=np.uint8)
    fields = field_percents(labels, 3, field_px)
    assert len(fields) == max(1, height // field_px) * max(1, width // field_px)
    np.testing.assert_allclose(fields.sum(axis=1), 100.0)
    if height % max(1, height // field_px) == 0 and width % max(1, width // field_px) == 0:
        shares = np.bincount(labels.ravel(), minlength=3) * 100.0 / labels.size
        np.testing.assert_allclose(fields.mean(axis=0), shares)


def test_the_interval_is_student_s() -> None:
    values = np.array([31.0, 28.5, 35.2, 30.1, 29.9, 33.3])
    low, high = stats.t.interval(0.95, len(values) - 1, loc=values.mean(), scale=stats.sem(values))
    assert half_interval_percent(values) == pytest.approx((high - low) / 2)


def test_one_field_tells_no_spread() -> None:
    assert half_interval_percent(np.array([40.0])) is None
    assert half_interval_percent(np.array([40.0, 40.0])) == 0.0


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(400):
        fields = rng.normal(30.0, 6.0, 12)
        half = half_interval_percent(fields)
        assert half is not None
        held += abs(fields.mean() - 30.0) <= half
    assert 0.92 <= held / 400 <= 0.98


def test_neighbours_that_are_alike_make_large_fields_count() -> None:
    """Bands of half a picture: six fields a side see each band three times over, three see it as it is."""
    labels = np.zeros((120, 120), np.uint8)
    labels[:60] = 1
    found = spread(labels, 2, 8)
    halves = {part: half_interval_percent(field_percents(labels, 2, 120 // part)[:, 1]) for part in PARTINGS}
    assert found.half_percent[1] == max(half for half in halves.values() if half is not None)
    assert found.half_percent[1] == pytest.approx(found.half_percent[0])
    assert found.fields < 36


@pytest.mark.parametrize(("side", "fields"), [(48, {9}), (47, {4}), (31, {1})])
def test_a_small_picture_has_few_fields(side: int, fields: set[int]) -> None:
    labels = np.random.default_rng(1).integers(0, 2, (side, side), dtype=np.uint8)
    found = spread(labels, 2, 16)
    assert found.fields in fields
    assert (found.half_percent == (None, None)) == (found.fields == 1)
