"""What `runtime.engine.Engine` promises, asked of every backend; TensorRT's computes in software where no GPU is."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from runtime.engine import Engine, EngineSettings, Ticket
from runtime.errors import EngineError
from runtime.spec import Arithmetic, GraphSpec, Precision
from tests.runtime.backends.graphs import (
    BLUR,
    HEIGHT,
    WIDTH,
    some_frames,
    write_blur,
    write_brittle,
    write_pair,
    write_shrinking,
)
from tests.runtime.backends.openers import EVERY_BACKEND, WITHOUT_DEVICE, Backend

SETTINGS = EngineSettings(max_batch=4, slots=3)


@pytest.fixture(params=EVERY_BACKEND)
def backend(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return request.param


@pytest.fixture(params=WITHOUT_DEVICE)
def sturdy(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """A backend that lives through what a device does not."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return request.param


@pytest.fixture
def engine(backend: Backend, tmp_path: Path):
    graph = write_pair(tmp_path / "pair.onnx")
    with backend.open(tmp_path / "pair.onnx", graph, SETTINGS) as opened:
        yield opened


def run(engine: Engine, frames: np.ndarray) -> dict[str, np.ndarray]:
    ticket = engine.submit(frames)
    outputs = {name: value.copy() for name, value in engine.collect(ticket).items()}
    engine.release(ticket)
    return outputs


def test_it_says_what_it_is(engine: Engine, backend: Backend) -> None:
    assert engine.backend == backend.name
    assert engine.precision == "fp16"
    assert engine.settings is SETTINGS
    assert [output.name for output in engine.graph.outputs] == ["mean_grey", "inverted"]


@pytest.mark.parametrize("count", [1, 3, 4])
def test_outputs_have_the_batch_and_the_types_of_the_contract(engine: Engine, count: int) -> None:
    frames = some_frames(count)
    outputs = run(engine, frames)
    assert outputs["inverted"].dtype == np.uint8
    assert np.array_equal(outputs["inverted"], 255 - frames)
    assert outputs["mean_grey"].dtype == np.float32
    assert outputs["mean_grey"] == pytest.approx(frames.reshape(count, -1).mean(axis=1), rel=2e-3)


def test_batches_in_flight_may_be_collected_in_any_order(engine: Engine) -> None:
    batches = [some_frames(count, seed=count) for count in (4, 1, 3)]
    tickets = [engine.submit(frames) for frames in batches]
    assert [ticket.batch for ticket in tickets] == [4, 1, 3]
    assert len({ticket.slot for ticket in tickets}) == 3
    for index in (2, 0, 1):
        assert np.array_equal(engine.collect(tickets[index])["inverted"], 255 - batches[index])
    for ticket in tickets:
        engine.release(ticket)


def test_another_thread_goes_on_with_what_was_handed_over(engine: Engine) -> None:
    ring = some_frames(4)
    engine.register(ring)
    run(engine, ring)
    engine.hand_over()
    with ThreadPoolExecutor(1) as other:
        other.submit(engine.take_over).result()
        other.submit(engine.register, ring).result()
        outputs = other.submit(run, engine, ring[1:3]).result()
        other.submit(engine.hand_over).result()
    assert np.array_equal(outputs["inverted"], 255 - ring[1:3])
    engine.take_over()
    assert np.array_equal(run(engine, ring)["inverted"], 255 - ring)


def test_an_engine_at_work_is_not_handed_over(engine: Engine) -> None:
    ticket = engine.submit(some_frames(2))
    with pytest.raises(EngineError, match="found a batch in flight, expected none"):
        engine.hand_over()
    engine.collect(ticket)
    with pytest.raises(EngineError, match="found a batch collected, expected none"):
        engine.hand_over()
    engine.release(ticket)


def test_collected_views_stay_while_other_batches_run(engine: Engine) -> None:
    first, second = some_frames(4, seed=1), some_frames(4, seed=2)
    held = engine.submit(first)
    kept = engine.collect(held)["inverted"]
    for _ in range(5):
        run(engine, second)
    assert np.array_equal(kept, 255 - first)


def test_buffers_are_the_same_ones_each_time(engine: Engine) -> None:
    places = set()
    for count in (4, 2, 4, 1):
        ticket = engine.submit(some_frames(count))
        places.add(engine.collect(ticket)["inverted"].ctypes.data)
        engine.release(ticket)
    assert len(places) == 1


def test_memory_is_read_in_place_even_if_write_protected(engine: Engine) -> None:
    ring = some_frames(8)
    ring.flags.writeable = False
    assert np.array_equal(run(engine, ring[2:5])["inverted"], 255 - ring[2:5])


def test_memory_may_be_reused_after_collect(engine: Engine) -> None:
    buffer = some_frames(4, seed=1)
    expected = 255 - buffer
    ticket = engine.submit(buffer)
    outputs = engine.collect(ticket)
    buffer[:] = 0
    assert np.array_equal(outputs["inverted"], expected)


def test_a_frame_gets_the_same_bits_in_any_batch_and_each_time(engine: Engine) -> None:
    frames = some_frames(4)
    whole = run(engine, frames)
    for _ in range(3):
        again = run(engine, frames)
        assert all(np.array_equal(whole[name], again[name]) for name in whole)
    for index in range(4):
        alone = run(engine, frames[index : index + 1])
        assert all(np.array_equal(whole[name][index : index + 1], alone[name]) for name in whole)


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (
            np.zeros((1, 1, HEIGHT, WIDTH + 1), np.uint8),
            r"\(1, 1, 6, 9\), expected C-contiguous uint8 \(n, 1, 6, 8\)",
        ),
        (np.zeros((1, HEIGHT, WIDTH), np.uint8), r"found frames of uint8 \(1, 6, 8\)"),
        (np.zeros((1, 1, HEIGHT, WIDTH), np.float32), "found frames of float32"),
        (np.zeros((1, 1, HEIGHT, 2 * WIDTH), np.uint8)[..., ::2], "not C-contiguous"),
        (np.zeros((5, 1, HEIGHT, WIDTH), np.uint8), "a batch of 5, expected 1 to 4"),
        (np.zeros((0, 1, HEIGHT, WIDTH), np.uint8), "a batch of 0, expected 1 to 4"),
    ],
)
def test_frames_that_do_not_fit_are_refused_and_take_no_slot(engine: Engine, frames: np.ndarray, words: str) -> None:
    for _ in range(SETTINGS.slots + 1):
        with pytest.raises(EngineError, match=words):
            engine.submit(frames)
    run(engine, some_frames(1))


def test_no_free_slot_is_an_error_until_one_is_released(engine: Engine) -> None:
    tickets = [engine.submit(some_frames(1)) for _ in range(3)]
    with pytest.raises(EngineError, match="all 3 slots taken, expected a free one"):
        engine.submit(some_frames(1))
    engine.collect(tickets[1])
    with pytest.raises(EngineError, match="all 3 slots taken"):
        engine.submit(some_frames(1))
    engine.release(tickets[1])
    assert engine.submit(some_frames(1)).slot == tickets[1].slot


def test_a_ticket_is_used_once_and_in_order(engine: Engine) -> None:
    ticket = engine.submit(some_frames(2))
    with pytest.raises(EngineError, match="in flight, expected it collected"):
        engine.release(ticket)
    engine.collect(ticket)
    with pytest.raises(EngineError, match="collected, expected it in flight"):
        engine.collect(ticket)
    engine.release(ticket)
    with pytest.raises(EngineError, match="free, expected it collected"):
        engine.release(ticket)
    with pytest.raises(EngineError, match="free, expected it in flight"):
        engine.collect(ticket)
    other = engine.submit(some_frames(1))
    with pytest.raises(EngineError, match="no longer holds it"):
        engine.collect(ticket)
    with pytest.raises(EngineError, match="no longer holds it"):
        engine.collect(Ticket(slot=9, serial=other.serial, batch=1))


def test_close_waits_and_may_be_called_again(engine: Engine) -> None:
    engine.submit(some_frames(4))
    ticket = engine.submit(some_frames(4))
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="found it closed"):
        engine.submit(some_frames(1))
    with pytest.raises(EngineError, match="found it closed"):
        engine.collect(ticket)


def test_a_batch_that_fails_frees_its_slot_and_the_next_one_runs(sturdy: Backend, tmp_path: Path) -> None:
    graph = write_brittle(tmp_path / "brittle.onnx")
    black = np.zeros((2, 1, HEIGHT, WIDTH), np.uint8)
    with sturdy.open(tmp_path / "brittle.onnx", graph, EngineSettings(max_batch=2, slots=1)) as engine:
        for _ in range(3):
            ticket = engine.submit(black + 7)
            with pytest.raises(EngineError, match=rf"{sturdy.name} \(brittle.onnx\): a batch of 2 failed to run: .*\w"):
                engine.collect(ticket)
            with pytest.raises(EngineError, match="free, expected it collected"):
                engine.release(ticket)
        assert run(engine, black)["mean_grey"].tolist() == [0, 0]


def test_a_failure_is_never_followed_by_made_up_figures(sturdy: Backend, tmp_path: Path) -> None:
    """Batches that were in flight beside a failing one give the right figures, or fail as well."""
    graph = write_brittle(tmp_path / "brittle.onnx")
    black = np.zeros((2, 1, HEIGHT, WIDTH), np.uint8)
    with sturdy.open(tmp_path / "brittle.onnx", graph, EngineSettings(max_batch=2, slots=3)) as engine:
        tickets = [engine.submit(black), engine.submit(black + 7), engine.submit(black)]
        assert engine.collect(tickets[0])["mean_grey"].tolist() == [0, 0]
        engine.release(tickets[0])
        with pytest.raises(EngineError, match="failed to run"):
            engine.collect(tickets[1])
        with contextlib.suppress(EngineError):
            assert engine.collect(tickets[2])["mean_grey"].tolist() == [0, 0]
            engine.release(tickets[2])
        again = [engine.submit(black) for _ in range(3)]
        for ticket in again:
            assert engine.collect(ticket)["mean_grey"].tolist() == [0, 0]


def test_close_with_a_failing_batch_in_flight_is_quiet(sturdy: Backend, tmp_path: Path) -> None:
    graph = write_brittle(tmp_path / "brittle.onnx")
    engine = sturdy.open(tmp_path / "brittle.onnx", graph, EngineSettings(max_batch=1, slots=1))
    engine.submit(np.full((1, 1, HEIGHT, WIDTH), 7, np.uint8))
    engine.close()


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
