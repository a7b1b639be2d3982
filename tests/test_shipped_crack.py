"""The shipped crack bundle: right about pipes that nothing was trained on, and about the examples."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from camera.images import read_grey
from camera.steel.crack import draw_crack
from runtime import rle
from runtime.backends import BACKENDS, CPU_BACKENDS
from runtime.bundle import Bundle, open_bundle
from runtime.crack_figures import CrackFigures
from runtime.engine import EngineSettings
from runtime.facts import Facts
from runtime.folder_settings import read_folder_settings
from runtime.heads.crack import PROBABILITY, CrackRules, judge, open_pipeline, settings_of
from runtime.scored import CrackResult, CrackTip, Score

ROOT = Path(__file__).resolve().parent.parent
BUNDLE = ROOT / "models" / "crack"
EXAMPLES = ROOT / "examples" / "crack"
UNSEEN_SEED = 4_000_000
SHAPE = (301, 420)  # divides by nothing

MAIN_TIPS = {"weld_toe_branched": (440.9, 279.2), "notch_edge": (206.7, 409.2), "fibre_beside_crack": (200.2, 569.6)}
"""As `draw_crack` placed them; `scratched_sound` has none."""


def said(bundle: Bundle, backend: str, pictures: list[NDArray[np.uint8]]) -> list[tuple[Score, CrackResult]]:
    """What the line says of pictures of one size."""
    shape = pictures[0].shape[0], pictures[0].shape[1]
    answers = []
    with open_pipeline(bundle, backend, EngineSettings(1, 1, *shape)) as pipeline:
        for pixels in pictures:
            pending = pipeline.start(pixels[None, None])
            pipeline.advance(pending)
            (raw,) = pipeline.finish(pending)
            answers.append(judge(pixels, raw[PROBABILITY][0], Facts(), settings_of(bundle.spec), CrackRules()))
            pipeline.release(pending)
    return answers


def main_tip(result: CrackResult) -> CrackTip | None:
    return next((tip for crack in result.cracks for tip in crack.tips if tip.main), None)


def test_it_is_whole_and_small() -> None:
    bundle = open_bundle(BUNDLE)
    assert sum(file.stat().st_size for file in bundle.path.rglob("*")) <= 4e6
    assert list(bundle.spec.graphs["model"].files) == ["fp16"]


@pytest.mark.parametrize("backend", sorted(CPU_BACKENDS))
def test_it_is_right_about_unseen_pipes_of_an_odd_size(backend: str) -> None:
    if not BACKENDS[backend].installed:
        pytest.skip(f"{BACKENDS[backend].library} is not installed")
    made = [
        draw_crack(UNSEEN_SEED + number, height_px=SHAPE[0], width_px=SHAPE[1], cracked=number % 4 != 3)
        for number in range(8)
    ]
    figures, off_px = CrackFigures(), []
    for each, (verdict, result) in zip(
        made, said(open_bundle(BUNDLE), backend, [each.pixels for each in made]), strict=True
    ):
        figures.add(rle.decode(result.rle, SHAPE), each.mask)
        assert verdict == ("rejected" if each.mask.any() else "accepted")
        if each.mask.any():
            tip = main_tip(result)
            off_px.append(math.inf if tip is None else math.dist((tip.row_px, tip.col_px), each.tips[0].tolist()))
    assert figures.compute()["mean_iou"] >= 0.93
    assert np.median(off_px) <= 3.0


def test_the_examples_are_what_they_say() -> None:
    folder = read_folder_settings([EXAMPLES])
    assert folder.bundle is not None
    assert folder.bundle.resolve() == BUNDLE
    names = sorted(path.stem for path in EXAMPLES.glob("*.png"))
    pictures = [read_grey(EXAMPLES / f"{name}.png") for name in names]
    found = dict(zip(names, said(open_bundle(BUNDLE), "openvino", pictures), strict=True))
    assert found["scratched_sound"][0] == "accepted"
    for name, truth in MAIN_TIPS.items():
        verdict, result = found[name]
        tip = main_tip(result)
        assert verdict == "rejected"
        assert tip is not None
        assert math.dist((tip.row_px, tip.col_px), truth) <= 3.0
