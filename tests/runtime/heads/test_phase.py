from pathlib import Path

import numpy as np
import pytest

from camera.base import Frame
from runtime.decide import read_rules
from runtime.errors import BundleError, ConfigError
from runtime.facts import Facts
from runtime.heads.phase import PhaseRules, PhaseSettings, answerer, judge, measure, settings_of
from runtime.messages import MESSAGE, ModelIdentity, Scored, json_of
from runtime.scored import PhaseResult
from runtime.spec import read_spec
from tests.phase_bundles import SETTINGS, make_phase_bundle

MODEL = ModelIdentity(bundle="phase", digest="0" * 64, backend="openvino", precision="fp16")
HEAD = PhaseSettings.model_validate(SETTINGS)


def half_and_half() -> np.ndarray:
    """Pearlite in a third of the columns, one stripe in each field."""
    labels = np.zeros((48, 48), np.uint8)
    labels[:, ::3] = 1
    return labels


def test_fractions_are_those_of_the_whole_picture() -> None:
    result = measure(half_and_half(), HEAD)
    assert [each.phase for each in result.fractions] == ["ferrite", "pearlite"]
    assert result.fractions[1].fraction_percent == pytest.approx(100 / 3)
    assert result.fields == 9
    assert np.array_equal(result.labels.array(), half_and_half())


def test_the_interval_is_of_the_fields() -> None:
    labels = np.zeros((32, 32), np.uint8)
    labels[:16, :16] = 1
    result = measure(labels, HEAD)
    assert result.fields == 4
    # s of 100, 0, 0, 0 is 50; t for three degrees of freedom is 3.182; over the root of 4 fields.
    assert result.fractions[1].interval_percent == pytest.approx(3.182 * 50 / 2, rel=1e-3)
    assert measure(labels[:16, :16], HEAD).fractions[1].interval_percent is None


@pytest.mark.parametrize(
    ("rules", "verdict"),
    [
        ({}, "unrated"),
        ({"limits": {"pearlite": {"min_percent": 20, "max_percent": 40}}}, "accepted"),
        ({"limits": {"pearlite": {"min_percent": 34}}}, "rejected"),
        ({"limits": {"pearlite": {"max_percent": 33}}}, "rejected"),
        ({"limits": {"pearlite": {"min_percent": 20}, "ferrite": {"min_percent": 70}}}, "rejected"),
        ({"limits": {"pearlite": {"min_percent": 20}, "ferrite": {"min_percent": 60}}}, "accepted"),
        ({"limits": {"pearlite": {"min_percent": 33}}, "verdict_by": "interval"}, "rejected"),
        ({"limits": {"pearlite": {"min_percent": 25}}, "verdict_by": "interval"}, "accepted"),
    ],
)
def test_the_verdict_is_by_the_rules(rules: dict, verdict: str) -> None:
    assert judge(measure(half_and_half(), HEAD), read_rules(PhaseRules, rules)) == verdict


def test_no_verdict_where_the_interval_is_asked_for_and_not_known() -> None:
    rules = read_rules(PhaseRules, {"limits": {"pearlite": {"min_percent": 1}}, "verdict_by": "interval"})
    assert judge(measure(half_and_half()[:16, :16], HEAD), rules) == "unrated"


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ({"limits": {"bainite": {"min_percent": 1}}}, "bainite.*ferrite, pearlite"),
        ({"limits": {"pearlite": {"min_percent": 60, "max_percent": 40}}}, "lies above"),
        ({"limits": {"pearlite": {"min_ratio": 0.1}}}, "min_ratio"),
        ({"min_percent": 3}, "min_percent"),
    ],
)
def test_bad_rules_are_refused(tmp_path: Path, rules: dict, text: str) -> None:
    spec = read_spec(make_phase_bundle(tmp_path))
    with pytest.raises(ConfigError, match=text):
        answerer(spec, rules, MODEL, Facts())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"radius_px": 16}, "twice the radius"),
        ({"tile_px": 33}, "multiples of stride_px"),
        ({"phase_names": ["ferrite", "ferrite"]}, "differ"),
        ({"phase_names": ["ferrite"]}, "phase_names"),
        ({"threshold": 0.5}, "threshold"),
    ],
)
def test_bad_settings_are_refused(tmp_path: Path, change: dict, text: str) -> None:
    spec = read_spec(make_phase_bundle(tmp_path, settings={**SETTINGS, **change}))
    with pytest.raises(BundleError, match=text):
        settings_of(spec)


def test_a_bundle_of_another_task_is_refused(tmp_path: Path) -> None:
    spec = read_spec(make_phase_bundle(tmp_path))
    graph = spec.graphs["model"]
    other = graph.model_copy(update={"outputs": (graph.outputs[0].model_copy(update={"name": "grade"}),)})
    with pytest.raises(BundleError, match="expected a 'model' that gives 'phase'"):
        settings_of(spec.model_copy(update={"graphs": {"model": other}}))


def test_an_answer_goes_over_the_wire_and_comes_back(tmp_path: Path) -> None:
    spec = read_spec(make_phase_bundle(tmp_path))
    facts = Facts(specimen="C45 7", mm_per_px=0.0002)
    own = answerer(spec, {"limits": {"pearlite": {"min_percent": 30}}}, MODEL, Facts())
    frame = Frame("files", 3, 0, np.full((48, 48), 150, np.uint8), source="c45.png")
    answer = own.answer(frame, {"phase": half_and_half()}, facts)
    assert answer.new_defects == {}
    envelope = {
        "line": "lab",
        "station": "microscope",
        "run": "C45 7",
        "sequence": 1,
        "captured_at": "2026-03-01T12:30:00.000000+00:00",
    }
    message = answer.message(envelope, {"total": 12.0})
    again = MESSAGE.validate_json(json_of(message))
    assert isinstance(again, Scored)
    assert again == message
    assert again.verdict == "accepted"
    assert again.facts == facts
    assert isinstance(again.result, PhaseResult)
    assert np.array_equal(again.result.labels.array(), half_and_half())


@pytest.mark.parametrize(("level", "text"), [(2, "dark"), (255, "burnt out")])
def test_a_picture_that_shows_nothing_gets_no_verdict(tmp_path: Path, level: int, text: str) -> None:
    own = answerer(
        read_spec(make_phase_bundle(tmp_path)), {"limits": {"pearlite": {"max_percent": 100}}}, MODEL, Facts()
    )
    answer = own.answer(Frame("files", 0, 0, np.full((48, 48), level, np.uint8)), {"phase": half_and_half()})
    assert answer.verdict == "unrated"
    assert text in answer.result.reason
    assert "not relied on" in answer.result.headline
