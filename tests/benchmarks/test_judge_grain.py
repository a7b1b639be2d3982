"""The judge of grain bundles."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.evaluation_data import Picture
from benchmarks.judges.grain import BASELINE, RULES, open_judge, synthetic
from camera.base import Frame
from camera.steel.austenite import MM_PER_PX
from runtime.facts import Facts
from runtime.heads.grain import MAP, NUMBER, GrainRules, GrainSettings, answering
from runtime.messages import ModelIdentity, Scored

SETTINGS = GrainSettings(
    method="regression", mm_per_px=MM_PER_PX, cell_px=32, lowest_g=2.5, highest_g=13.0, error_g=0.3, duplex_g=1.0
)
MODEL = ModelIdentity(bundle="grain", digest="0" * 64, backend="openvino", precision="fp16")
ENVELOPE = {
    "line": "l",
    "station": "s",
    "run": "r",
    "sequence": 0,
    "captured_at": "1970-01-01T00:00:00.000000+00:00",
}


def scored(number: float, spread: float = 0.0) -> tuple[dict, Scored]:
    pixels = np.random.default_rng(1).integers(0, 255, (512, 512), dtype=np.uint8)
    grain_map = np.full((16, 16), number, np.float32)
    grain_map[:, :8] -= spread / 2
    grain_map[:, 8:] += spread / 2
    raw = {NUMBER: np.float32(number), MAP: grain_map}
    answer = answering(SETTINGS, GrainRules(), MODEL, Facts(mm_per_px=MM_PER_PX)).answer(
        Frame("evaluate", 0, 0, pixels), raw
    )
    return raw, answer.message(ENVELOPE, {})


def picture(number: float, grade: float | None) -> Picture:
    figures = {"grain_number": number, "mixed": float(grade is None)}
    if grade is not None:
        figures["grade"] = grade
    return Picture("a", np.zeros((2, 2), np.uint8), np.zeros((1, 2, 2), bool), figures)


def test_figures_are_counted_by_grade():
    judge = open_judge(None)  # type: ignore[arg-type]  # the messages say it all
    for truth, grade, found in ((8.0, 8.0, 8.3), (9.0, 9.0, 9.8), (7.5, 7.5, 7.4)):
        judge.add(picture(truth, grade), *scored(found))
    judge.add(picture(8.0, None), *scored(8.0, spread=4.0))
    figures = judge.figures()
    assert figures["number_within_half_ratio"] == pytest.approx(2 / 3)
    assert figures["half_grades_mean_error_g"] == pytest.approx(0.1, abs=1e-5)
    assert figures["trained_grades_mean_error_g"] == pytest.approx(0.55, abs=1e-5)
    assert figures["grade_accuracy_ratio"] == pytest.approx(0.5)
    assert figures["interval_coverage_ratio"] == pytest.approx(1 / 3)
    assert figures["inhomogeneous_found_ratio"] == 1.0
    assert figures["inhomogeneous_wrongly_ratio"] == 0.0
    assert judge.baseline()["number_mean_error_g"] == pytest.approx(0.5556, abs=1e-3)
    assert BASELINE
    assert RULES


def test_the_pictures_are_of_every_kind_and_apart_from_training():
    made = list(synthetic(1, 2))
    assert [each.pixels.shape for each in made] == [(960, 1280)] * 2
    assert made[0].facts.mm_per_px == MM_PER_PX
    assert made[0].truth.shape == (1, 960, 1280)
