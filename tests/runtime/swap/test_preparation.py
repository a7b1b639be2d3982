"""What may take over, and each thing that keeps a bundle from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.bundle import GOLDEN_FILE, digest_of, open_bundle
from runtime.engine import EngineSettings
from runtime.errors import BundleError, ConfigError, EngineError
from runtime.facts import Facts
from runtime.heads import head_of
from runtime.pipeline import Pipeline
from runtime.spec import SPEC_FILE
from runtime.swap.preparation import Successor, Terms, check_frames, check_pictures, make_ready
from tests.bundles import CLASS_NAMES, make_strip_bundle, plain_frames, seal

TERMS = Terms("strip", "openvino", None, EngineSettings(4, 3, 64, 256, threads=1), {}, Facts())


def ready_for(path: Path, terms: Terms = TERMS) -> Successor[Pipeline]:
    """What a station with a camera of 64x256 px makes of a bundle."""
    return make_ready(
        path,
        terms,
        lambda path, spec: check_frames(path, spec, (64, 256)),
        lambda bundle: head_of("strip").open_pipeline(bundle, terms.backend, terms.engines),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_strip_bundle(tmp_path / "next")


def test_a_sound_bundle_is_open_and_warm(folder: Path) -> None:
    ready = ready_for(folder)
    assert ready.model.digest == digest_of(folder / SPEC_FILE)
    with ready.serving.engines as pipeline:
        pending = pipeline.start(plain_frames(4))
        pipeline.advance(pending)
        assert len(pipeline.finish(pending)) == 4


def missing(folder: Path) -> None:
    (folder / "gate.fp16.onnx").unlink()


def altered(folder: Path) -> None:
    graph = folder / "segmenter.fp16.onnx"
    graph.write_bytes(graph.read_bytes() + b"\0")


def another_task(folder: Path) -> None:
    seal(folder, task="phase")


def disagreeing(folder: Path) -> None:
    with np.load(folder / GOLDEN_FILE) as arrays:
        kept: dict[str, Any] = dict(arrays)
    kept["segmenter.class_probability"] = 255 - kept["segmenter.class_probability"]
    np.savez(folder / GOLDEN_FILE, **kept)
    seal(folder)


def no_graph(folder: Path) -> None:
    (folder / "gate.fp16.onnx").write_bytes(b"no graph at all")
    seal(folder)


def failed_parity(folder: Path) -> None:
    parity = json.loads((folder / "parity.json").read_text())
    parity["results"][0]["value"] = 1.0
    (folder / "parity.json").write_text(json.dumps(parity))
    seal(folder)


@pytest.mark.parametrize(
    ("spoil", "kind", "words"),
    [
        (missing, BundleError, "gate.fp16.onnx is missing"),
        (altered, BundleError, "segmenter.fp16.onnx was altered"),
        (another_task, BundleError, "of the task 'phase', expected 'strip'"),
        (disagreeing, BundleError, "golden frames of segmenter .*found dice_loss"),
        (no_graph, EngineError, "cannot run"),
        (failed_parity, BundleError, "parity of gate"),
    ],
)
def test_what_is_wrong_with_a_bundle_is_named(
    folder: Path, spoil: Callable[[Path], None], kind: type[Exception], words: str
) -> None:
    spoil(folder)
    with pytest.raises(kind, match=words):
        ready_for(folder)


def test_a_bundle_for_other_frames_is_refused(tmp_path: Path) -> None:
    folder = make_strip_bundle(tmp_path / "wide", 64, 512)
    with pytest.raises(BundleError, match="for frames of 64x512, expected 64x256, which the camera gives"):
        ready_for(folder)


def test_a_bundle_of_any_size_fits(tmp_path: Path) -> None:
    ready_for(make_strip_bundle(tmp_path / "free", 64, 96, dynamic_size=True)).serving.engines.close()


def test_rules_that_name_a_class_of_the_old_bundle_alone_are_refused(tmp_path: Path) -> None:
    names = ("a", "b", "c", "d")
    folder = make_strip_bundle(tmp_path / "renamed", settings={"class_names": names})
    terms = replace(TERMS, rules={"classes": CLASS_NAMES[:1]})
    with pytest.raises(ConfigError, match=r"found classes \['pitting'\], expected some of a, b, c, d"):
        ready_for(folder, terms)


def test_no_folder_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"found no readable spec\.json"):
        ready_for(tmp_path / "nowhere")


@pytest.mark.parametrize(("sizes_px", "taken"), [((), True), (((64, 256),), True), (((64, 256), (40, 40)), False)])
def test_a_bundle_must_take_the_pictures_that_are_to_be_expected(
    folder: Path, sizes_px: tuple[tuple[int, int], ...], taken: bool
) -> None:
    spec = open_bundle(folder).spec
    if taken:
        check_pictures(folder, spec, sizes_px)
        return
    with pytest.raises(BundleError, match="for pictures of 64x256, expected one that takes 40x40, as the station"):
        check_pictures(folder, spec, sizes_px)
