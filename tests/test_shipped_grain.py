"""The shipped grain bundle on its examples: what `ferrosight inspect examples/grain` says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from camera.base import Frame
from camera.images import read_grey
from runtime.bundle import open_bundle
from runtime.engine import EngineSettings
from runtime.facts import Facts
from runtime.heads import head_of
from runtime.messages import ModelIdentity

ROOT = Path(__file__).resolve().parent.parent
BUNDLE, EXAMPLES = ROOT / "models" / "grain", ROOT / "examples" / "grain"
RULES = {"min_grain_number": 4.0, "allow_inhomogeneous": False}
ENVELOPE = {"line": "l", "station": "s", "run": "r", "sequence": 0, "captured_at": "2026-01-01T00:00:00.000000+00:00"}


def test_the_bundle_is_whole_and_small():
    bundle = open_bundle(BUNDLE)
    assert sum(file.stat().st_size for file in BUNDLE.rglob("*")) <= 4e6
    assert bundle.spec.graphs["model"].input.shape == ("N", 1, "H", "W")


@pytest.mark.parametrize(
    ("name", "grain_number", "verdict"),
    [
        ("aisi304_g5", 5.01, "accepted"),
        ("aisi316l_g9", 8.98, "accepted"),
        ("aisi321_mixed_5_and_9", None, "rejected"),
    ],
)
def test_the_examples_are_judged_rightly(name: str, grain_number: float | None, verdict: str):
    pixels = read_grey(EXAMPLES / f"{name}.png")
    bundle, head = open_bundle(BUNDLE), head_of("grain")
    answerer = head.answerer(
        bundle.spec,
        RULES,
        ModelIdentity(bundle="grain", digest="0" * 64, backend="openvino", precision="fp16"),
        Facts(mm_per_px=0.0008),
    )
    settings = EngineSettings(max_batch=1, height_px=pixels.shape[0], width_px=pixels.shape[1])
    with head.open_pipeline(bundle, "openvino", settings) as pipeline:
        pending = pipeline.start(np.ascontiguousarray(pixels[None, None]))
        pipeline.advance(pending)
        (raw,) = pipeline.finish(pending)
        message = answerer.answer(Frame("microscope", 0, 0, pixels), raw).message(ENVELOPE, {})
        pipeline.release(pending)
    assert message.verdict == verdict
    assert message.result.inhomogeneous == (grain_number is None)
    if grain_number is not None:
        assert message.result.grain_number == pytest.approx(grain_number, abs=0.5)
