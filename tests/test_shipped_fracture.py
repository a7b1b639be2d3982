"""The shipped fracture bundle: right about specimens that nothing was trained on, and honest about how right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from camera.images import read_grey
from camera.steel.fracture import FractureSurface, fracture_surface
from runtime.backends import BACKENDS, CPU_BACKENDS
from runtime.bundle import Bundle, open_bundle
from runtime.engine import EngineSettings
from runtime.facts import Facts, read_facts
from runtime.folder_settings import read_folder_settings
from runtime.heads.fracture import FractureRules, FractureSettings, judge, open_pipeline, settings_of
from runtime.scored import FractureResult, Score

ROOT = Path(__file__).resolve().parent.parent
BUNDLE = ROOT / "models" / "fracture"
EXAMPLES = ROOT / "examples" / "fracture"
UNSEEN_SEED = 3_000_000
SHAPE = (200, 640)


def said(
    bundle: Bundle, backend: str, pictures: list[NDArray[np.uint8]], facts: list[Facts]
) -> list[tuple[Score, FractureResult]]:
    """What the line says of pictures of one size."""
    shape = pictures[0].shape[0], pictures[0].shape[1]
    settings: FractureSettings = settings_of(bundle.spec)
    answers = []
    with open_pipeline(bundle, backend, EngineSettings(1, 1, *shape)) as pipeline:
        for pixels, known in zip(pictures, facts, strict=True):
            pending = pipeline.start(pixels[None, None])
            pipeline.advance(pending)
            (raw,) = pipeline.finish(pending)
            ratio = float(raw["brittle_ratio"])
            answers.append(judge(raw["activation"], ratio, shape, known, settings, FractureRules()))
            pipeline.release(pending)
    return answers


def facts_of(made: FractureSurface) -> Facts:
    return Facts(mm_per_px=made.mm_per_px, thickness_mm=made.thickness_mm, notch_side="left")


def test_it_is_whole_and_small() -> None:
    bundle = open_bundle(BUNDLE)
    assert sum(file.stat().st_size for file in bundle.path.rglob("*")) <= 4e6


@pytest.mark.parametrize("backend", sorted(CPU_BACKENDS))
def test_it_is_right_about_unseen_specimens_and_knows_how_right(backend: str) -> None:
    if not BACKENDS[backend].installed:
        pytest.skip(f"{BACKENDS[backend].library} is not installed")
    ratios = (0.0, 0.03, 0.08, 0.15, 0.25, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97, 1.0)
    made = [
        fracture_surface(
            UNSEEN_SEED + number, view="ligament", brittle_ratio=ratio, height_px=SHAPE[0], width_px=SHAPE[1]
        )
        for number, ratio in enumerate(ratios)
    ]
    answers = said(open_bundle(BUNDLE), backend, [each.pixels for each in made], [facts_of(each) for each in made])
    wholes, held = [], 0
    for each, (verdict, result) in zip(made, answers, strict=True):
        assert result.shear_percent is not None
        wholes.append(abs(result.brittle_ratio - each.brittle_ratio))
        shear = 100.0 * (1.0 - each.rated_brittle_ratio)
        held += abs(result.shear_percent - shear) <= result.uncertainty_percent
        if abs(shear - 85.0) > 10.0:
            assert verdict == ("accepted" if shear >= 85.0 else "rejected")
    assert max(wholes) < 0.05
    assert np.mean(wholes) < 0.016
    assert held >= len(made) - 2


def test_the_examples_show_every_verdict() -> None:
    bundle, folder = open_bundle(BUNDLE), read_folder_settings([EXAMPLES])
    assert folder.bundle is not None
    assert folder.bundle.resolve() == BUNDLE
    found = {}
    for path in sorted(EXAMPLES.glob("*.png")):
        assert path.stat().st_size < 400_000
        ((found[path.stem], _),) = said(bundle, "openvino", [read_grey(path)], [read_facts(path, folder.facts)])
    assert found == {
        "no_scale": "unrated",
        "x65_minus40c": "rejected",
        "x70_minus10c": "accepted",
        "x70_minus20c": "rejected",
    }
