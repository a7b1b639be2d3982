"""The phase bundle that ships: whole, small, right about steels that it has never seen, and without a seam."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.judges.phase import synthetic
from camera.images import read_grey
from camera.steel.micrograph import draw_settings, make_micrograph
from runtime.backends import BACKENDS, CPU_BACKENDS
from runtime.bundle import Bundle, open_bundle
from runtime.engine import EngineSettings
from runtime.folder_settings import read_folder_settings
from runtime.heads import head_of
from runtime.heads.phase import PHASE, settings_of
from runtime.inspect_files import InspectSettings, inspect_paths
from runtime.label_scores import LabelScores, label_map
from runtime.tiled import Tiles, open_tiled

ROOT = Path(__file__).resolve().parent.parent
LARGEST_MB = 4.0


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(ROOT / "models" / "phase")


def labels_of(bundle: Bundle, pixels: np.ndarray, backend: str = "openvino") -> np.ndarray:
    settings = EngineSettings(max_batch=1, slots=1, height_px=pixels.shape[0], width_px=pixels.shape[1])
    with head_of("phase").open_pipeline(bundle, backend, settings) as pipeline:
        return pipeline.finish(pipeline.start(pixels[None, None]))[0][PHASE]


def test_it_is_whole_and_small(bundle: Bundle) -> None:
    assert sum(file.stat().st_size for file in bundle.path.rglob("*")) <= LARGEST_MB * 1e6
    assert "/" not in str(bundle.spec.provenance.data)
    assert settings_of(bundle.spec).phase_names == ("ferrite", "pearlite")


@pytest.mark.parametrize("backend", sorted(CPU_BACKENDS))
def test_it_gives_its_golden_labels(bundle: Bundle, backend: str) -> None:
    if not BACKENDS[backend].installed:
        pytest.skip(f"{BACKENDS[backend].library} is not installed")
    golden = np.load(bundle.path / "golden.npz")
    for frame, labels in zip(golden["frames"], golden["model.phase"], strict=True):
        assert (labels_of(bundle, frame[0], backend) != labels).mean() < 0.002


def test_it_is_right_about_unseen_steels(bundle: Bundle) -> None:
    scores = LabelScores(("ferrite", "pearlite"))
    for picture in synthetic(31, 4):
        scores.add(labels_of(bundle, picture.pixels), label_map(picture.truth))
    figures = scores.figures()
    assert figures["mean_iou"] > 0.93
    assert figures["fraction_error_percent"] < 2.0


def test_a_micrograph_in_tiles_has_no_seam(bundle: Bundle) -> None:
    """In half precision a sum may round otherwise in a tensor of another shape: a few pixels, not a line of them."""
    own = make_micrograph(2_000_001, draw_settings(2_000_001, (500, 700)))
    settings = EngineSettings(max_batch=1, slots=1, height_px=500, width_px=700)
    head = settings_of(bundle.spec)
    with open_tiled(bundle, "openvino", settings, Tiles(256, head.radius_px, head.stride_px), PHASE) as pipeline:
        tiled = pipeline.finish(pipeline.start(own.pixels[None, None]))[0][PHASE]
    assert (tiled != labels_of(bundle, own.pixels)).sum() < 50


def test_the_examples_are_inspected_at_once(bundle: Bundle, tmp_path: Path) -> None:
    examples = ROOT / "examples" / "phase"
    folder = read_folder_settings([examples])
    assert folder.bundle is not None
    assert folder.bundle.resolve() == bundle.path.resolve()
    settings = InspectSettings(facts=folder.facts, rules=folder.rules)
    summary = inspect_paths([examples], bundle, tmp_path / "out", settings)
    assert summary.verdicts == {"accepted": 1, "rejected": 2}
    rows = (tmp_path / "out" / "fractions.csv").read_text(encoding="utf-8").splitlines()
    pearlite = {row.split(",")[0]: float(row.split(",")[2]) for row in rows if ",pearlite," in row}
    expected = {"s235_banded.png": 17.0, "c45_annealed.png": 56.0, "c60_normalised.png": 86.0}
    assert pearlite == pytest.approx(expected, abs=1.5)
    assert read_grey(tmp_path / "out" / "labels" / "c45_annealed.png").max() == 1
