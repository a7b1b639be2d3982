"""A bundle against its golden frames on real backends: what holds, what does not, and what cannot be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.tasks import TASKS as EXPORTED
from export.tasks import export_task
from runtime.bundle import GOLDEN_FILE, open_bundle
from runtime.engine import EngineSettings
from runtime.errors import BundleError
from runtime.golden import TASKS, comparisons_of
from runtime.golden.check import measure_golden, require_golden
from runtime.heads import HEADS
from tests.bundles import make_strip_bundle, seal

SETTINGS = EngineSettings(max_batch=4, slots=3, height_px=64, width_px=256, threads=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_strip_bundle(tmp_path / "strip")


def spoil_golden(folder: Path, name: str, array: np.ndarray | None) -> Path:
    with np.load(folder / GOLDEN_FILE) as arrays:
        kept: dict[str, Any] = {key: value for key, value in arrays.items() if key != name}
    np.savez(folder / GOLDEN_FILE, **kept | ({} if array is None else {name: array}))
    return seal(folder)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_sound_bundle_holds_in_every_figure(folder: Path, backend: str) -> None:
    results = measure_golden(open_bundle(folder), backend, SETTINGS)
    assert {result.graph for result in results} == {"gate", "segmenter"}
    assert {result.backend for result in results} == {backend}
    require_golden(results)


def test_free_sizes_are_run_at_the_size_of_the_golden_frames(tmp_path: Path) -> None:
    folder = make_strip_bundle(tmp_path / "free", 64, 96, dynamic_size=True)
    require_golden(measure_golden(open_bundle(folder), "openvino", SETTINGS))


def test_outputs_other_than_torchs_are_refused_with_the_figure(folder: Path) -> None:
    spoil_golden(folder, "gate.defect_probability", np.array([0.9, 0.9, 0.9], np.float32))
    results = measure_golden(open_bundle(folder), "openvino", SETTINGS)
    with pytest.raises(BundleError, match=r"gate \(fp16, openvino\): found gate_flips [12], expected at most 0\."):
        require_golden(results)


def test_golden_frames_that_lack_an_output_are_refused(folder: Path) -> None:
    spoil_golden(folder, "segmenter.class_probability", None)
    with pytest.raises(BundleError, match=r"golden.npz lacks .*segmenter\.class_probability"):
        measure_golden(open_bundle(folder), "openvino", SETTINGS)


def test_a_figure_without_a_limit_is_refused(folder: Path) -> None:
    parity = (folder / "parity.json").read_text()
    (folder / "parity.json").write_text(parity.replace('"level_max_abs"', '"level_max"'))
    with pytest.raises(BundleError, match="found no limit for level_max_abs of segmenter"):
        measure_golden(open_bundle(seal(folder)), "openvino", SETTINGS)


def test_every_task_of_the_line_has_figures_for_every_graph_that_is_exported() -> None:
    assert set(TASKS) == set(HEADS)
    for name in EXPORTED:
        task = export_task(name)
        assert set(task.graphs) == set(comparisons_of(task.name))


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(BundleError, match=r"the task 'welding', expected one of .*crack"):
        comparisons_of("welding")
