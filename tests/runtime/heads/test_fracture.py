import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camera.base import Frame
from runtime.decide import read_rules
from runtime.delivery.wire import Box
from runtime.errors import BundleError, ConfigError
from runtime.facts import Facts
from runtime.heads.fracture import (
    FractureRules,
    FractureSettings,
    answerer,
    even_levels,
    half_interval_percent,
    judge,
    pixel_weights,
    rate,
    rated_region,
    settings_of,
)
from runtime.messages import MESSAGE, ModelIdentity, Scored, json_of
from runtime.scored import FractureResult
from runtime.spec import read_spec
from tests.fracture_bundles import make_fracture_bundle

SETTINGS = FractureSettings(cell_px=8, uncertainty_floor_percent=1.0, uncertainty_per_soft=0.5)
LIGAMENT = Facts(specimen="A7", mm_per_px=0.1, thickness_mm=20.0, notch_side="left")
SHAPE = (208, 711)
"""A ligament of 71.1 mm with a thickness of 20 mm at 0.1 mm/px."""
MODEL = ModelIdentity(bundle="fracture", digest="0" * 64, backend="openvino", precision="fp16")


def half_brittle(col: int, shape: tuple[int, int] = SHAPE, cell_px: int = 8) -> np.ndarray:
    """Brittle up to a column that lies on a cell's border."""
    activation = np.zeros((-(-shape[0] // cell_px), -(-shape[1] // cell_px)), np.float32)
    activation[:, : col // cell_px] = 1.0
    return activation


@given(pixels=st.integers(1, 200), cells=st.integers(1, 40), cell_px=st.sampled_from((None, 1, 8, 32)))
def test_every_pixel_gets_one_cells_worth(pixels, cells, cell_px):
    weights = pixel_weights(pixels, cells, cell_px)
    assert weights.shape == (pixels, cells)
    assert np.allclose(weights.sum(axis=1), 1.0, atol=1e-5)
    assert (weights >= 0.0).all()


@settings(deadline=None, max_examples=40)
@given(data=st.data(), height=st.integers(9, 80), width=st.integers(9, 80))
def test_a_rating_is_the_mean_over_whole_pixels(data, height, width):
    activation = np.random.default_rng(height * 100 + width).uniform(0, 1, (-(-height // 8), -(-width // 8)))
    activation = activation.astype(np.float32)
    first = data.draw(st.integers(0, width - 1))
    stop = data.draw(st.integers(first + 1, width))
    rows, cols = pixel_weights(height, activation.shape[0], 8), pixel_weights(width, activation.shape[1], 8)
    pixels = rows @ activation @ cols.T
    box = Box(first_row=0, first_col=first, stop_row=height, stop_col=stop)
    assert rate(activation, (height, width), 8, box).brittle_ratio == pytest.approx(
        float(pixels[:, first:stop].mean()), abs=1e-5
    )


def test_doubt_is_none_where_the_map_is_sure():
    assert rate(half_brittle(352), SHAPE, 8).doubt_percent == 0.0
    assert rate(np.full((26, 89), 0.5, np.float32), SHAPE, 8).doubt_percent == pytest.approx(50.0)
    assert rate(np.full((26, 89), 1.2, np.float32), SHAPE, 8).doubt_percent == 0.0


def test_a_map_beyond_its_limits_stays_a_ratio():
    assert rate(np.full((26, 89), 1.1, np.float32), SHAPE, 8).brittle_ratio == 1.0
    assert rate(np.full((26, 89), -0.1, np.float32), SHAPE, 8).brittle_ratio == 0.0


def test_one_thickness_is_left_out_at_both_sides():
    assert rated_region(SHAPE, LIGAMENT, FractureRules()) == Box(first_row=0, first_col=200, stop_row=208, stop_col=511)


def test_the_notch_may_lie_on_any_side():
    lying = rated_region(SHAPE, LIGAMENT, FractureRules())
    assert rated_region(SHAPE, LIGAMENT.model_copy(update={"notch_side": "right"}), FractureRules()) == lying
    for side in ("top", "bottom"):
        facts = LIGAMENT.model_copy(update={"notch_side": side})
        assert rated_region(SHAPE[::-1], facts, FractureRules()) == Box(
            first_row=200, first_col=0, stop_row=511, stop_col=208
        )


def test_a_standard_may_limit_what_is_left_out():
    """API RP 5L3 leaves out 19 mm of a thicker plate."""
    region = rated_region(SHAPE, LIGAMENT, FractureRules(most_left_out_mm=19.0))
    assert isinstance(region, Box)
    assert region.first_col == 190


def test_pictures_of_the_rated_region_alone_need_no_scale():
    rules = FractureRules(left_out_thicknesses=0.0)
    assert rated_region((262, 611), Facts(), rules) == Box(first_row=0, first_col=0, stop_row=262, stop_col=611)


@pytest.mark.parametrize(
    ("change", "shape", "reason"),
    [
        ({"mm_per_px": None}, SHAPE, "nobody said mm_per_px"),
        ({"thickness_mm": None, "notch_side": None}, SHAPE, "nobody said thickness_mm, notch_side"),
        ({"mm_per_px": 1.0}, SHAPE, "20 px, but the picture is 208 px across"),
        ({"mm_per_px": 0.01}, SHAPE, "2000 px, but the picture is 208 px across"),
        ({"notch_side": "top"}, SHAPE, "200 px, but the picture is 711 px across"),
        ({}, (208, 410), "20 mm left out at both sides of 41.0 mm leave nothing to rate"),
    ],
)
def test_a_specimen_without_a_sound_scale_is_never_accepted(change, shape, reason):
    facts = LIGAMENT.model_copy(update=change)
    activation = np.zeros((-(-shape[0] // 8), -(-shape[1] // 8)), np.float32)
    verdict, result = judge(activation, 0.0, shape, facts, SETTINGS, FractureRules(min_shear_percent=0.0))
    assert verdict == "unrated"
    assert reason in result.reason
    assert result.shear_percent is None
    assert result.rated_region is None
    assert result.brittle_ratio == 0.0


def test_shear_is_that_of_the_rated_region():
    # Brittle up to column 264: of the rated 311 columns 64 are brittle, and the bend between two cells is even.
    verdict, result = judge(half_brittle(264), 264 / 711, SHAPE, LIGAMENT, SETTINGS, FractureRules())
    assert result.rated_brittle_ratio == pytest.approx(64 / 311, abs=1e-4)
    assert result.shear_percent == pytest.approx(100 * (1 - 64 / 311), abs=0.01)
    assert result.brittle_ratio == pytest.approx(264 / 711)
    assert verdict == "rejected"


@pytest.mark.parametrize(("limit", "verdict"), [(79.0, "accepted"), (80.0, "rejected")])
def test_acceptance_is_a_rule(limit, verdict):
    rules = FractureRules(min_shear_percent=limit)
    found, result = judge(half_brittle(264), 0.37, SHAPE, LIGAMENT, SETTINGS, rules)
    assert found == verdict
    assert result.min_shear_percent == limit


def test_a_rule_may_ask_for_the_lower_end_of_the_interval():
    rules = FractureRules(min_shear_percent=79.0, verdict_by="lower_bound")
    doubtful = half_brittle(264) * 0.9 + 0.05
    by_figure, result = judge(doubtful, 0.37, SHAPE, LIGAMENT, SETTINGS, FractureRules(min_shear_percent=75.0))
    assert (by_figure, result.decided_by) == ("accepted", "figure")
    assert result.uncertainty_percent == pytest.approx(3.5, abs=0.3)
    assert judge(half_brittle(264), 0.37, SHAPE, LIGAMENT, SETTINGS, rules)[0] == "rejected"


def test_the_interval_widens_with_doubt_and_has_a_floor():
    sure, unsure = rate(half_brittle(264), SHAPE, 8), rate(np.full((26, 89), 0.3, np.float32), SHAPE, 8)
    assert half_interval_percent(sure, SETTINGS) == 1.0
    assert half_interval_percent(unsure, SETTINGS) == pytest.approx(16.0)


def test_the_map_in_the_message_spreads_evenly_over_the_picture():
    activation = half_brittle(352)
    assert np.array_equal(even_levels(activation, (208, 712), 8), (255 * activation).astype(np.uint8))
    levels = even_levels(activation, SHAPE, 8)
    assert levels.shape == activation.shape
    assert np.array_equal(even_levels(activation, SHAPE, None), (255 * activation).astype(np.uint8))


def test_an_answer_is_a_message(tmp_path):
    spec = read_spec(make_fracture_bundle(tmp_path / "bundle"))
    said = answerer(spec, {"min_shear_percent": 70}, MODEL, LIGAMENT)
    raw = {"brittle_ratio": np.float32(0.37), "activation": half_brittle(264)}
    frame = Frame("rig", 4, 0, np.full(SHAPE, 90, np.uint8), source="a7.png")
    answer = said.answer(frame, raw)
    message = answer.message(
        {
            "line": "lab",
            "station": "rig",
            "run": "X70",
            "sequence": 9,
            "captured_at": "2026-03-01T12:30:00.000000+00:00",
        },
        {"total": 31.0},
    )
    raw["activation"][:] = 0.0  # the engine's memory, which ends with the call
    assert MESSAGE.validate_json(json_of(message)) == message
    assert isinstance(message, Scored)
    assert isinstance(message.result, FractureResult)
    assert (message.verdict, message.frame_index, message.facts) == ("accepted", 4, LIGAMENT)
    assert message.result.activation.array()[:, :33].min() == 255
    other = said.answer(frame, raw, Facts()).message(
        message.model_dump(include={"line", "station", "run", "sequence", "captured_at"}), {}
    )
    assert other.verdict == "unrated"


@pytest.mark.parametrize(("level", "reason"), [(4, "the picture is dark"), (255, "the picture is burnt out: 100 %")])
def test_a_lamp_that_is_off_is_no_sound_steel(tmp_path, level, reason):
    """A black picture has nothing brittle in it: it would be accepted with 100 % shear."""
    spec = read_spec(make_fracture_bundle(tmp_path / "bundle"))
    raw = {"brittle_ratio": np.float32(0.0), "activation": half_brittle(0)}
    frame = Frame("rig", 0, 0, np.full(SHAPE, level, np.uint8))
    answer = answerer(spec, {}, MODEL, LIGAMENT).answer(frame, raw)
    assert answer.verdict == "unrated"
    assert answer.result.shear_percent is None
    assert reason in answer.result.reason


def test_rules_of_another_task_are_refused(tmp_path):
    spec = read_spec(make_fracture_bundle(tmp_path / "bundle"))
    with pytest.raises(ConfigError, match=r"min_total_area_px.*min_shear_percent"):
        answerer(spec, {"min_total_area_px": 3}, MODEL, Facts())
    with pytest.raises(ConfigError, match="min_shear_percent"):
        read_rules(FractureRules, {"min_shear_percent": 101})


def test_settings_that_are_not_the_heads_are_refused(tmp_path):
    spec = read_spec(make_fracture_bundle(tmp_path / "bundle"))
    with pytest.raises(BundleError, match=r"settings\.cell_px"):
        settings_of(spec.model_copy(update={"settings": {**spec.settings, "cell_px": 0}}))
    with pytest.raises(BundleError, match="expected a 'model' that gives 'brittle_ratio' and 'activation'"):
        settings_of(spec.model_copy(update={"graphs": {"gate": spec.graphs["model"]}}))
