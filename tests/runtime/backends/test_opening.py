"""What a backend makes of a file: sizes given or learned, files that are refused, arithmetic that is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.engine import EngineSettings
from runtime.errors import EngineError
from runtime.spec import Arithmetic, GraphSpec, Precision
from tests.runtime.backends.graphs import BLUR, HEIGHT, WIDTH, some_frames, write_blur, write_pair, write_shrinking
from tests.runtime.backends.openers import Backend
from tests.runtime.backends.running import SETTINGS, run


def test_open_sizes_are_given_by_the_settings(backend: Backend, tmp_path: Path) -> None:
    graph = write_pair(tmp_path / "pair.onnx", dynamic_size=True)
    settings = EngineSettings(max_batch=2, slots=1, height_px=4, width_px=10)
    frames = some_frames(2, height=4, width=10)
    with backend.open(tmp_path / "pair.onnx", graph, settings) as engine:
        assert np.array_equal(run(engine, frames)["inverted"], 255 - frames)
    with pytest.raises(EngineError, match="no size, expected rows, which the graph leaves open"):
        backend.open(tmp_path / "pair.onnx", graph, SETTINGS)


def test_a_fixed_size_cannot_be_changed(backend: Backend, tmp_path: Path) -> None:
    graph = write_pair(tmp_path / "pair.onnx")
    with pytest.raises(EngineError, match="found 9 rows, expected 6 rows"):
        backend.open(tmp_path / "pair.onnx", graph, EngineSettings(max_batch=1, height_px=9))


def test_a_size_that_only_the_graph_knows_is_learned(backend: Backend, tmp_path: Path) -> None:
    graph = write_shrinking(tmp_path / "shrinking.onnx")
    frames = some_frames(3)
    pooled = frames[:, 0].reshape(3, HEIGHT // 2, 2, WIDTH // 2, 2).mean(axis=(2, 4))
    with backend.open(tmp_path / "shrinking.onnx", graph, SETTINGS) as engine:
        assert run(engine, frames)["activation"] == pytest.approx(pooled)


def test_threads_may_be_set(backend: Backend, tmp_path: Path) -> None:
    graph = write_pair(tmp_path / "pair.onnx")
    settings = EngineSettings(max_batch=1, slots=1, threads=1)
    with backend.open(tmp_path / "pair.onnx", graph, settings) as engine:
        assert np.array_equal(run(engine, some_frames(1))["inverted"], 255 - some_frames(1))


def _renamed_input(graph: GraphSpec) -> GraphSpec:
    return graph.model_copy(update={"input": graph.input.model_copy(update={"name": "image"})})


def _renamed_output(graph: GraphSpec) -> GraphSpec:
    first = graph.outputs[0].model_copy(update={"name": "score"})
    return graph.model_copy(update={"outputs": (first, *graph.outputs[1:])})


def _retyped_output(graph: GraphSpec) -> GraphSpec:
    first = graph.outputs[0].model_copy(update={"dtype": "uint8"})
    return graph.model_copy(update={"outputs": (first, *graph.outputs[1:])})


def _reshaped_output(graph: GraphSpec) -> GraphSpec:
    last = graph.outputs[1].model_copy(update={"shape": ("N", 4, HEIGHT, WIDTH)})
    return graph.model_copy(update={"outputs": (graph.outputs[0], last)})


def _of_another_file(graph: GraphSpec) -> GraphSpec:
    return graph.model_copy(update={"files": {"fp16": "other.onnx"}})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_renamed_input, r"found inputs frames \(uint8\), expected image \(uint8\)"),
        (_renamed_output, r"found outputs .*'mean_grey'\], expected \['score'\]"),
        (_retyped_output, "found output mean_grey of float32"),
        (
            _reshaped_output,
            r"found output inverted of uint8 \(1, 1, 6, 8\) .* expected uint8 \('N', 4, 6, 8\)",
        ),
        (_of_another_file, r"found the file pair\.onnx, expected one of \['other\.onnx'\]"),
    ],
)
def test_a_file_that_is_not_the_contract_is_refused(
    sturdy: Backend, tmp_path: Path, change: object, words: str
) -> None:
    graph = change(write_pair(tmp_path / "pair.onnx"))
    with pytest.raises(EngineError, match=words):
        sturdy.open(tmp_path / "pair.onnx", graph, SETTINGS)


def test_a_file_that_is_no_graph_is_refused(sturdy: Backend, tmp_path: Path) -> None:
    graph = write_pair(tmp_path / "pair.onnx")
    (tmp_path / "pair.onnx").write_bytes(b"not a graph")
    with pytest.raises(EngineError, match=rf"engine {sturdy.name} \(pair.onnx\): found a file that"):
        sturdy.open(tmp_path / "pair.onnx", graph, SETTINGS)


@pytest.mark.parametrize(
    ("precision", "arithmetic", "tolerance"), [("fp32", None, 1e-6), ("fp32", "backend", 1e-6), ("fp16", "fp32", 1e-3)]
)
def test_what_asks_for_fp32_is_not_computed_in_bfloat16(
    backend: Backend, tmp_path: Path, precision: Precision, arithmetic: Arithmetic | None, tolerance: float
) -> None:
    """bfloat16, which a backend may choose where the CPU has it, would be off by 0.001 and more."""
    graph = write_blur(tmp_path / "blur.onnx", precision)
    frames = some_frames(4)
    settings = EngineSettings(max_batch=4, arithmetic=arithmetic)
    with backend.open(tmp_path / "blur.onnx", graph, settings) as opened:
        found = run(opened, frames)["activation"]
    windows = np.lib.stride_tricks.sliding_window_view(frames[:, 0].astype(np.float64), (3, 3), axis=(1, 2))
    assert found[:, 0] == pytest.approx((windows * BLUR[0, 0]).sum((-1, -2)), rel=tolerance)


def test_a_graph_may_ask_for_fp32_itself_and_the_settings_have_the_last_word(tmp_path: Path) -> None:
    openvino = pytest.importorskip("runtime.backends.openvino")
    graph = write_blur(tmp_path / "blur.onnx", "fp16")
    exact = graph.model_copy(update={"arithmetic": "fp32"})
    hints = {
        (each.arithmetic, asked): openvino.properties(each, "fp16", EngineSettings(1, arithmetic=asked)).get(
            "INFERENCE_PRECISION_HINT"
        )
        for each in (graph, exact)
        for asked in (None, "backend", "fp32")
    }
    assert {key for key, hint in hints.items() if hint == "f32"} == {
        ("backend", "fp32"), ("fp32", None), ("fp32", "fp32")
    }  # fmt: skip
