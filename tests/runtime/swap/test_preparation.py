"""What may take over, and each thing that keeps a bundle from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.bundle import GOLDEN_FILE, digest_of
from runtime.engine import EngineSettings
from runtime.errors import BundleError, ConfigError, EngineError
from runtime.facts import Facts
from runtime.spec import SPEC_FILE
from runtime.swap.preparation import Terms, make_ready
from tests.bundles import CLASS_NAMES, make_strip_bundle, plain_frames, seal

TERMS = Terms("strip", "openvino", None, EngineSettings(4, 3, 64, 256, threads=1), {}, Facts())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_strip_bundle(tmp_path / "next")


def test_a_sound_bundle_is_open_and_warm(folder: Path) -> None:
    ready = make_ready(folder, TERMS)
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
        make_ready(folder, TERMS)


def test_a_bundle_for_other_frames_is_refused(tmp_path: Path) -> None:
    folder = make_strip_bundle(tmp_path / "wide", 64, 512)
    with pytest.raises(BundleError, match="for frames of 64x512, expected 64x256, which the camera gives"):
        make_ready(folder, TERMS)


def test_a_bundle_of_any_size_fits(tmp_path: Path) -> None:
    make_ready(make_strip_bundle(tmp_path / "free", 64, 96, dynamic_size=True), TERMS).serving.engines.close()


def test_rules_that_name_a_class_of_the_old_bundle_alone_are_refused(tmp_path: Path) -> None:
    names = ("a", "b", "c", "d")
    folder = make_strip_bundle(tmp_path / "renamed", settings={"class_names": names})
    terms = replace(TERMS, rules={"classes": CLASS_NAMES[:1]})
    with pytest.raises(ConfigError, match=r"found classes \['pitting'\], expected some of a, b, c, d"):
        make_ready(folder, terms)


def test_no_folder_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"found no readable spec\.json"):
        make_ready(tmp_path / "nowhere", TERMS)
