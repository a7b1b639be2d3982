"""Figures of traced boundaries, on grids whose grain size is known."""

import numpy as np
import pytest

from runtime.boundary_figures import BoundaryFigures, intercept_errors


def grid(step_px: int, shift_px: int = 0) -> np.ndarray:
    lines = np.zeros((240, 240), bool)
    lines[step_px // 2 + shift_px :: step_px] = True
    lines[:, step_px // 2 + shift_px :: step_px] = True
    return lines


def figures_of(*pairs: tuple[np.ndarray, np.ndarray, str]) -> dict[str, float]:
    figures = BoundaryFigures(tolerance_px=3)
    for pair in pairs:
        figures.add(*pair)
    return figures.compute()


def test_the_truth_is_right_in_every_figure():
    found = figures_of((grid(24), grid(24), "one"))
    assert found["boundary_f1"] == found["boundary_precision"] == found["boundary_recall"] == 1.0
    assert found["intercept_error_percent"] == found["intercept_bias_g"] == 0.0


@pytest.mark.parametrize(("shift_px", "right"), [(3, True), (4, False)])
def test_the_tolerance_is_three_pixels(shift_px: int, right: bool):
    f1 = figures_of((grid(24, shift_px), grid(24), "one"))["boundary_f1"]
    assert (f1 == 1.0) is right


def test_every_second_line_missing_doubles_the_intercept():
    found = figures_of((grid(48, -12), grid(24), "one"))
    assert found["boundary_precision"] == 1.0
    assert found["boundary_recall"] == pytest.approx(0.5, abs=0.15)
    assert found["intercept_bias_percent"] == pytest.approx(100.0, abs=10.0)
    assert found["intercept_bias_g"] == pytest.approx(-2.0, abs=0.15)


def test_pictures_of_a_specimen_are_pooled():
    coarse, fine = (grid(48, -12), grid(24)), (grid(24), grid(48, -12))
    together = figures_of((*coarse, "one"), (*fine, "one"))
    assert together["intercept_error_percent"] == pytest.approx(0.0, abs=1e-9)
    apart = figures_of((*coarse, "one"), (*fine, "two"))
    assert apart["intercept_error_percent"] > 50.0


def test_nothing_found_is_worth_nothing():
    found = figures_of((np.zeros((240, 240), bool), grid(24), "one"))
    assert found["boundary_f1"] == 0.0
    assert found["intercept_error_percent"] > 1000.0


def test_errors_are_means_over_specimens():
    errors = intercept_errors([1.1, 0.9])
    assert errors["intercept_bias_percent"] == pytest.approx(0.0)
    assert errors["intercept_error_g"] == pytest.approx(0.289, abs=0.002)
