from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from export.parity import BACKENDS, Candidate, Comparison, check, measure, worst
from export.tasks.strip_graphs import ENDS, LIMITS
from runtime.bundle import GOLDEN_FILE, ParityResult, open_bundle
from runtime.errors import BundleError, EngineError
from runtime.golden.frames import Golden
from runtime.golden.strip import compare_gate, compare_segmenter
from tests.bundles import PLAIN_SETTINGS, make_strip_bundle

HEIGHT, WIDTH = 32, 64
COMPARISONS = {role: end.comparison for role, end in ENDS.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_strip_bundle(tmp_path_factory.mktemp("parity") / "tiny", HEIGHT, WIDTH, precisions=("fp32", "fp16"))


def golden_of(folder: Path) -> Golden:
    with np.load(folder / GOLDEN_FILE) as arrays:
        return Golden(
            arrays["frames"],
            {
                "gate": {"defect_probability": arrays["gate.defect_probability"]},
                "segmenter": {"class_probability": arrays["segmenter.class_probability"]},
            },
        )


def candidates(folder: Path, backend: str) -> list[Candidate]:
    return [
        Candidate(role, graph, precision, backend, backend, folder / file)
        for role, graph in open_bundle(folder).spec.graphs.items()
        for precision, file in graph.files.items()
    ]


@pytest.mark.parametrize("backend", BACKENDS)
def test_equal_graphs_hold(folder: Path, backend: str) -> None:
    told: list[Candidate] = []
    results = measure(
        candidates(folder, backend), golden_of(folder), PLAIN_SETTINGS, COMPARISONS, threads=1, report=told.append
    )
    check(results)
    assert {(each.graph, each.precision, each.backend) for each in results} == {
        (role, precision, backend) for role in ("gate", "segmenter") for precision in ("fp32", "fp16")
    }
    assert {each.figure for each in results} == {figure for limits in LIMITS.values() for figure in limits}
    assert len(told) == 4


def tamper(source: Path, target: Path, weight: str, value: float) -> None:
    model = onnx.load(source)
    for each in model.graph.initializer:
        if each.name == weight:
            old = numpy_helper.to_array(each)
            each.CopyFrom(numpy_helper.from_array(np.full(old.shape, value, old.dtype), weight))
    onnx.save(model, target)


def measure_tampered(folder: Path, tmp_path: Path, role: str, weight: str, value: float) -> tuple[ParityResult, ...]:
    graph = open_bundle(folder).spec.graphs[role]
    file = graph.files["fp16"]
    tamper(folder / file, tmp_path / file, weight, value)
    altered = Candidate(role, graph, "fp16", "onnxruntime", "onnxruntime", tmp_path / file)
    return measure([altered], golden_of(folder), PLAIN_SETTINGS, COMPARISONS, threads=1)


def test_a_gate_that_changes_its_mind_is_refused(folder: Path, tmp_path: Path) -> None:
    results = measure_tampered(folder, tmp_path, "gate", "middle", 125.0)  # now clean steel looks defective
    with pytest.raises(
        BundleError, match=r"parity of gate \(fp16, onnxruntime\): found gate_flips 2, expected at most 0\. Nothing"
    ):
        check(results)


def test_a_segmenter_that_sees_other_pixels_is_refused(folder: Path, tmp_path: Path) -> None:
    results = measure_tampered(folder, tmp_path, "segmenter", "centres", 120.0)
    with pytest.raises(
        BundleError, match=r"parity of segmenter \(fp16, onnxruntime\): found dice_loss 1, expected at most 0\.002"
    ):
        check(results)


def test_a_backend_that_is_not_there_is_named(folder: Path) -> None:
    (first, *_) = candidates(folder, "crystal_ball")
    with pytest.raises(EngineError, match="'crystal_ball': found no such backend"):
        measure([first], golden_of(folder), PLAIN_SETTINGS, COMPARISONS)


def test_a_figure_needs_a_limit_and_fp32_may_have_its_own() -> None:
    comparison = Comparison(compare_gate, {"probability_max_abs": 0.03}, {"probability_max_abs": 0.001})
    assert comparison.limit("probability_max_abs", "fp16") == 0.03
    assert comparison.limit("probability_max_abs", "fp32") == 0.001
    with pytest.raises(BundleError, match="found the figure 'gate_flips' without a limit"):
        comparison.limit("gate_flips", "fp16")


@given(st.permutations([0.1, 0.5, 0.3]), st.booleans())
def test_the_worst_of_several_sets_of_frames_counts(values: list[float], missing: bool) -> None:
    def result(value: float, backend: str = "openvino") -> ParityResult:
        return ParityResult(
            graph="gate", precision="fp16", backend=backend, figure="x", value=value, limit=1.0, passed=value <= 1.0
        )

    numbers = [*values[:1], *([float("nan")] if missing else []), *values[1:]]
    found = worst([*map(result, numbers), result(0.2, "onnxruntime")])
    assert [each.backend for each in found] == ["openvino", "onnxruntime"]
    assert np.isnan(found[0].value) if missing else found[0].value == 0.5


def test_no_number_is_no_parity() -> None:
    figures = compare_gate(
        {"defect_probability": np.array([np.nan], np.float32)},
        {"defect_probability": np.array([0.2], np.float32)},
        PLAIN_SETTINGS,
    )
    assert figures["probability_max_abs"] == np.inf
    nan = ParityResult(
        graph="gate", precision="fp16", backend="x", figure="y", value=float("nan"), limit=1.0, passed=True
    )
    with pytest.raises(BundleError, match="found y nan"):
        check([nan])


def test_a_flip_is_counted_at_the_gates_threshold() -> None:
    found = {"defect_probability": np.array([0.41, 0.49, 0.9], np.float32)}
    torch = {"defect_probability": np.array([0.39, 0.51, 0.9], np.float32)}
    flips = {
        threshold: compare_gate(found, torch, {"gate_threshold": threshold})["gate_flips"]
        for threshold in (0.3, 0.4, 0.5)
    }
    assert flips == {0.3: 0.0, 0.4: 1.0, 0.5: 1.0}


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 12))
def test_lost_dice_is_that_of_the_masks(both: int, ours: int, theirs: int) -> None:
    def plane(start: int, stop: int) -> dict[str, Any]:
        levels = np.zeros((1, 1, 1, 40), np.uint8)
        levels[..., start:stop] = 200
        return {"class_probability": levels}

    figures = compare_segmenter(plane(0, ours + both), plane(ours, ours + both + theirs), {"pixel_thresholds": (0.5,)})
    whole = 2 * both + ours + theirs
    assert figures["dice_loss"] == pytest.approx((ours + theirs) / whole if whole else 0.0)


def test_a_pixel_on_the_fence_may_fall_on_either_side_but_not_far() -> None:
    torch = np.full((1, 1, 8, 8), 127, np.uint8)
    torch[..., :2, :] = 250
    near, far = torch.copy(), torch.copy()
    near[..., 4:, :] = 129  # a hair above the threshold
    far[..., 4:, :] = 220
    figures = [
        compare_segmenter({"class_probability": each}, {"class_probability": torch}, {"pixel_thresholds": (0.5,)})
        for each in (near, far)
    ]
    assert [each["dice_loss"] for each in figures] == [0.0, 0.0]
    assert figures[0]["level_max_abs"] <= LIMITS["segmenter"]["level_max_abs"] < figures[1]["level_max_abs"]
    lost = torch.copy()
    lost[..., :1, :] = 0  # torch was sure of these
    found = compare_segmenter({"class_probability": lost}, {"class_probability": torch}, {"pixel_thresholds": (0.5,)})
    assert found["dice_loss"] == pytest.approx(1 / 3)
