"""The crack head: verdicts, scales, and what cannot be judged."""

import numpy as np
import pytest

from camera.base import Frame
from runtime import rle
from runtime.bundle import open_bundle
from runtime.engine import EngineSettings
from runtime.errors import BundleError, ConfigError
from runtime.facts import Facts
from runtime.heads import head_of
from runtime.heads.crack import CrackRules, CrackSettings, answerer, answering, judge, settings_of
from runtime.messages import MESSAGE, ModelIdentity, Scored, json_of
from runtime.scored import CrackResult
from runtime.spec import read_spec
from tests.crack_bundles import SETTINGS, cracked, make_crack_bundle

HEAD = CrackSettings.model_validate(SETTINGS)
SCALE = Facts(mm_per_px=0.05)
MODEL = ModelIdentity(bundle="crack", digest="0" * 64, backend="openvino", precision="fp16")
ENVELOPE = {"line": "l", "station": "s", "run": "r", "sequence": 1, "captured_at": "2026-03-01T12:30:00.000000+00:00"}


def said_of(pixels, facts=SCALE, **rules):
    return judge(pixels, 255 - pixels, facts, HEAD, CrackRules.model_validate(rules))


def test_a_crack_is_measured_in_px_and_mm():
    verdict, result = said_of(cracked(60))
    (crack,) = result.cracks
    (tip,) = crack.tips
    assert verdict == "rejected"
    assert tip.main
    assert (tip.row_px, tip.col_px) == pytest.approx((32.0, 60.4), abs=0.6)
    assert (tip.row_mm, tip.col_mm) == pytest.approx((0.05 * tip.row_px, 0.05 * tip.col_px))
    assert crack.length_mm == pytest.approx(0.05 * crack.length_px)
    assert crack.mean_width_px == pytest.approx(3.0, abs=0.3)
    assert crack.max_width_px == pytest.approx(3.0, abs=0.5)
    assert tip.probability == pytest.approx(245 / 255)
    assert result.headline.startswith("1 crack, longest 6")


def test_without_a_scale_nothing_is_said_in_mm():
    _, result = said_of(cracked(60), Facts())
    (crack,) = result.cracks
    assert crack.length_mm is crack.mean_width_mm is crack.tips[0].row_mm is crack.tips[0].col_mm is None


def test_the_mask_of_the_message_is_the_one_that_was_traced():
    pixels = cracked(60)
    pixels[3:5, 80:83] = 10  # too small to be a crack
    _, result = said_of(pixels)
    expected = cracked(60) < 50
    np.testing.assert_array_equal(rle.decode(result.rle, (64, 96)), expected)


def test_a_sound_picture_is_accepted():
    pixels = np.full((64, 96), 160, np.uint8)
    pixels[::3, ::2] = 120
    verdict, result = said_of(pixels)
    assert (verdict, result.cracks, result.rle, result.headline) == ("accepted", (), "", "no crack")


@pytest.mark.parametrize(
    ("rules", "facts", "verdict"),
    [
        ({"accepted_length_px": 100.0}, Facts(), "accepted"),
        ({"accepted_length_px": 40.0}, Facts(), "rejected"),
        ({"accepted_length_mm": 5.0}, SCALE, "accepted"),
        ({"accepted_length_mm": 2.0}, SCALE, "rejected"),
        ({"accepted_length_mm": 5.0}, Facts(), "unrated"),
    ],
)
def test_rules_say_which_length_is_accepted(rules, facts, verdict):
    found, result = said_of(cracked(60), facts, **rules)
    assert found == verdict
    assert bool(result.reason) == (verdict == "unrated")
    assert len(result.cracks) == 1  # published whatever the rules


@pytest.mark.parametrize(
    ("grey", "reason"), [(0, "is dark"), (12, "is dark"), (200, "shows nothing"), (255, "nothing")]
)
def test_a_picture_that_shows_nothing_is_never_accepted(grey, reason):
    verdict, result = said_of(np.full((64, 96), grey, np.uint8))
    assert verdict == "unrated"
    assert reason in result.reason


def test_only_the_largest_crack_has_the_main_tip():
    pixels = cracked(80, height=96)
    pixels[10:13, 30:60] = 10
    _, result = said_of(pixels)
    assert [[tip.main for tip in crack.tips] for crack in result.cracks] == [[True], [False, False]]
    assert [crack.crack_id for crack in result.cracks] == [1, 2]


def test_the_line_gets_the_same_through_a_bundle_and_back_from_json(tmp_path):
    bundle = open_bundle(make_crack_bundle(tmp_path / "bundle"))
    pixels = cracked(47, 61, 83)
    head = head_of("crack")
    own = head.answerer(bundle.spec, {}, MODEL, SCALE)
    with head.open_pipeline(bundle, "openvino", EngineSettings(max_batch=1, height_px=61, width_px=83)) as pipeline:
        pending = pipeline.start(pixels[np.newaxis, np.newaxis])
        pipeline.advance(pending)
        (raw,) = pipeline.finish(pending)
        answer = own.answer(Frame("files", 0, 0, pixels, source="a.png"), raw)
        pipeline.release(pending)
    assert answer.new_defects == {"crack": 1}
    message = answer.message(ENVELOPE, {"total": 1.0})
    assert isinstance(message, Scored)
    assert isinstance(message.result, CrackResult)
    assert message.verdict == "rejected"
    assert message.result == said_of(pixels)[1]
    assert MESSAGE.validate_json(json_of(message)) == message
    own.gap()


def test_facts_of_a_picture_stand_above_those_of_the_run():
    pixels = cracked(60)
    own = answering(HEAD, CrackRules(), MODEL, Facts(mm_per_px=1.0))
    answer = own.answer(Frame("files", 0, 0, pixels), {"crack_probability": (255 - pixels)[np.newaxis]}, SCALE)
    assert answer.facts is SCALE
    assert answer.result.cracks[0].length_mm == pytest.approx(0.05 * answer.result.cracks[0].length_px)


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({**SETTINGS, "pixel_threshold": 0.0}, "settings.pixel_threshold"),
        ({**SETTINGS, "min_size": 3}, "settings.min_size"),
    ],
)
def test_settings_of_another_kind_are_refused(tmp_path, settings, place):
    spec = read_spec(make_crack_bundle(tmp_path / "bundle", settings=settings))
    with pytest.raises(BundleError, match=place):
        settings_of(spec)


def test_a_bundle_without_the_output_is_refused(tmp_path):
    spec = read_spec(make_crack_bundle(tmp_path / "bundle"))
    graph = spec.graphs["model"]
    other = graph.model_copy(update={"outputs": (graph.outputs[0].model_copy(update={"name": "class_probability"}),)})
    with pytest.raises(BundleError, match="crack_probability"):
        settings_of(spec.model_copy(update={"graphs": {"model": other}}))


def test_a_rule_that_does_not_exist_is_refused(tmp_path):
    spec = read_spec(make_crack_bundle(tmp_path / "bundle"))
    with pytest.raises(ConfigError, match="accepted_length"):
        answerer(spec, {"accepted_size_px": 3}, MODEL, SCALE)
