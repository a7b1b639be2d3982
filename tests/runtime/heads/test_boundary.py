"""The boundary head: what E112 counts on traced lines, and when a micrograph is accepted."""

import json
from pathlib import Path

import numpy as np
import pytest

from camera.base import Frame
from camera.steel.austenite import MM_PER_PX, make_micrograph
from runtime.bundle import open_bundle
from runtime.decide import read_rules
from runtime.engine import EngineSettings
from runtime.errors import BundleError, ConfigError
from runtime.facts import Facts
from runtime.heads.boundary import BoundaryRules, answerer, judge, measure, open_pipeline, settings_of
from runtime.messages import MESSAGE, ModelIdentity, Scored, json_of
from runtime.scored import BoundaryResult
from runtime.spec import read_spec
from tests.boundary_bundles import SETTINGS, make_boundary_bundle

MODEL = ModelIdentity(bundle="boundary", digest="0" * 64, backend="openvino", precision="fp32")
ENVELOPE = {
    "line": "lab",
    "station": "microscope",
    "run": "316L 7",
    "sequence": 1,
    "captured_at": "2026-03-01T12:30:00.000000+00:00",
}


def net(step_px: int) -> np.ndarray:
    lines = np.zeros((240, 320), bool)
    lines[step_px // 2 :: step_px] = True
    lines[:, step_px // 2 :: step_px] = True
    return lines


def test_the_count_is_e112s_on_exact_boundaries():
    made = make_micrograph(8, [7.0], height_px=480, width_px=640)
    result = measure(made.boundary, MM_PER_PX)
    found = {each.procedure: each for each in result.measures}
    assert set(found) == {"planimetric", "lines", "circles"}
    assert found["planimetric"].grain_number == pytest.approx(made.grain_number, abs=0.15)
    assert found["lines"].interval > 0
    assert result.mean_intercept_px == pytest.approx(found["lines"].mean_intercept_mm / MM_PER_PX)
    assert result.reason == ""


def test_without_a_scale_there_is_a_length_in_pixels_and_no_number():
    result = measure(net(16), None)
    assert result.measures == ()
    assert result.mean_intercept_px == pytest.approx(12.6, abs=2.0)  # 16 along, 11 across the diagonals
    assert "mm_per_px" in result.reason
    assert judge(result, BoundaryRules(min_grain_number=1)) == "unrated"


def test_too_few_grains_are_no_number():
    result = measure(np.zeros((240, 320), bool), 0.001)
    assert result.measures == ()
    assert result.mean_intercept_px is None
    assert "found" in result.reason
    assert "not relied on" in result.headline


@pytest.mark.parametrize(
    ("rules", "verdict"),
    [
        ({}, "unrated"),
        ({"min_grain_number": 7, "max_grain_number": 12}, "accepted"),
        ({"min_grain_number": 12}, "rejected"),
        ({"max_grain_number": 5, "procedure": "planimetric"}, "rejected"),
        ({"min_grain_number": 0, "max_grain_number": 16, "verdict_by": "interval"}, "accepted"),
    ],
)
def test_the_verdict_is_by_the_rules(rules: dict, verdict: str):
    result = measure(net(16), 0.001)
    assert judge(result, read_rules(BoundaryRules, rules)) == verdict
    assert judge(result, read_rules(BoundaryRules, rules), "the picture is dark") == "unrated"


def test_the_interval_is_held_against_the_limits_where_the_rules_say_so():
    result = measure(net(16), 0.001)
    lines = next(each for each in result.measures if each.procedure == "lines")
    tight = {"min_grain_number": lines.grain_number - lines.interval / 2}
    assert judge(result, read_rules(BoundaryRules, tight)) == "accepted"
    assert judge(result, read_rules(BoundaryRules, {**tight, "verdict_by": "interval"})) == "rejected"


@pytest.mark.parametrize("rules", [{"min_grain_number": 9, "max_grain_number": 5}, {"procedure": "eye"}, {"size": 3}])
def test_bad_rules_are_refused(tmp_path: Path, rules: dict):
    with pytest.raises(ConfigError):
        answerer(read_spec(make_boundary_bundle(tmp_path)), rules, MODEL, Facts())


@pytest.mark.parametrize(
    ("change", "text"), [({"faint": 0.6}, "at most certain"), ({"certain": 0}, "certain"), ({"eye": 1}, "eye")]
)
def test_bad_settings_are_refused(tmp_path: Path, change: dict, text: str):
    with pytest.raises(BundleError, match=text):
        settings_of(read_spec(make_boundary_bundle(tmp_path, settings={**SETTINGS, **change})))


def test_a_bundle_of_another_task_is_refused(tmp_path: Path):
    spec = read_spec(make_boundary_bundle(tmp_path))
    graph = spec.graphs["model"]
    other = graph.model_copy(update={"outputs": (graph.outputs[0].model_copy(update={"name": "grade"}),)})
    with pytest.raises(BundleError, match="expected a 'model' that gives 'boundary_probability'"):
        settings_of(spec.model_copy(update={"graphs": {"model": other}}))


def test_a_micrograph_goes_through_the_engine_and_over_the_wire(tmp_path: Path):
    bundle = open_bundle(make_boundary_bundle(tmp_path))
    lines = net(20)
    pixels = np.where(lines, 20, 230).astype(np.uint8)
    size = EngineSettings(max_batch=1, slots=1, height_px=240, width_px=320, threads=1)
    with open_pipeline(bundle, "openvino", size) as pipeline:
        pending = pipeline.start(pixels[None, None])
        pipeline.advance(pending)
        (raw,) = pipeline.finish(pending)
        own = answerer(bundle.spec, {"min_grain_number": 5}, MODEL, Facts(mm_per_px=0.001))
        answer = own.answer(Frame("files", 3, 0, pixels, source="316l.png"), raw)
        pipeline.release(pending)
    message = answer.message(ENVELOPE, {"total": 12.0})
    again = MESSAGE.validate_json(json_of(message))
    assert again == message
    assert isinstance(again, Scored)
    assert isinstance(again.result, BoundaryResult)
    assert (again.result.lines.array() > 0)[40:-40, 40:-40].sum() == pytest.approx(
        lines[40:-40, 40:-40].sum(), rel=0.05
    )
    assert again.verdict == "accepted"


def test_what_version_1_published_still_reads():
    result = {"task": "crack", "cracks": [], "rle": "", "reason": ""}
    answer = {
        **ENVELOPE,
        "kind": "scored",
        "schema": "ferrosight.scored/1",
        "model": MODEL.model_dump(),
        "frame_index": 0,
        "facts": {},
        "verdict": "accepted",
        "result": result,
        "latency_ms": {},
    }
    assert isinstance(MESSAGE.validate_json(json.dumps(answer)), Scored)


def test_a_dark_picture_is_not_judged(tmp_path: Path):
    own = answerer(read_spec(make_boundary_bundle(tmp_path)), {"min_grain_number": 1}, MODEL, Facts(mm_per_px=0.001))
    pixels = np.full((240, 320), 3, np.uint8)
    answer = own.answer(Frame("files", 0, 0, pixels), {"boundary_probability": (net(16) * 255).astype(np.uint8)[None]})
    assert answer.verdict == "unrated"
    assert "dark" in answer.result.reason
