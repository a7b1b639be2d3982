import numpy as np
import pytest

from benchmarks.evaluation_data import Picture
from benchmarks.judges import judge_of
from benchmarks.judges.boundary import clear_intercept_px, edge_lines, open_judge, synthetic
from runtime.facts import Facts
from runtime.heads.boundary import measure
from runtime.spec import read_spec
from tests.boundary_bundles import make_boundary_bundle
from tests.runtime.delivery import wire


def net(step_px):
    lines = np.zeros((200, 240), bool)
    lines[step_px // 2 :: step_px] = lines[:, step_px // 2 :: step_px] = True
    return lines


def said_of(lines, mm_per_px=None):
    """The message of a network that traces these lines."""
    return wire.scored(1).model_copy(update={"result": measure(lines, mm_per_px)})


@pytest.fixture
def held(tmp_path):
    return open_judge(read_spec(make_boundary_bundle(tmp_path / "bundle")))


def test_the_truth_scores_full(held):
    assert judge_of("boundary").open_judge is open_judge
    picture = next(synthetic(2, 1))
    np.testing.assert_array_equal(next(synthetic(2, 1)).pixels, picture.pixels)
    held.add(picture, {}, said_of(picture.truth[0], picture.facts.mm_per_px))
    figures = held.figures()
    assert figures["boundary_f1"] > 0.99
    assert figures["intercept_error_percent"] < 2.0
    assert figures["number_mean_error_g"] < 0.5  # few grains, and another procedure
    assert held.baseline()["boundary_f1"] < figures["boundary_f1"]


def test_a_published_length_is_held_against_what_was_found(held):
    lines = net(20)
    pixels = np.where(lines, 20, 220).astype(np.uint8)
    length = clear_intercept_px(lines)
    held.add(Picture("steel", pixels, lines[None], {"mean_intercept_px": length / 1.1}), {}, said_of(lines))
    figures = held.figures()
    assert figures["published_bias_percent"] == pytest.approx(10.0)
    assert "number_bias_g" not in figures
    assert held.baseline()["boundary_recall"] > 0.9  # nothing else is to be seen


def test_tiles_of_a_sample_are_one_specimen(held):
    for found, true in ((net(10), net(20)), (net(20), net(10))):
        picture = Picture("tile", np.full(true.shape, 90, np.uint8), true[None], {"sample": 7.0}, facts=Facts())
        held.add(picture, {}, said_of(found))
    assert held.figures()["intercept_error_percent"] == pytest.approx(0.0, abs=1e-9)


def test_grains_of_two_shades_have_an_edge():
    pixels = np.full((60, 80), 60, np.uint8)
    pixels[:, 40:] = 200
    lines = edge_lines(pixels)
    assert lines[5:-5, 38:42].any(axis=1).all()
    assert not lines[:, :34].any()
    assert not edge_lines(np.full((60, 80), 60, np.uint8)).any()
