"""What `runtime.engine.Engine` promises, asked of every backend; TensorRT's computes in software where no GPU is."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from runtime.engine import Engine, EngineSettings, Ticket
from runtime.errors import EngineError
from tests.runtime.backends.graphs import HEIGHT, WIDTH, some_frames, write_brittle, write_pair
from tests.runtime.backends.openers import Backend
from tests.runtime.backends.running import SETTINGS, run


@pytest.fixture
def engine(backend: Backend, tmp_path: Path):
    graph = write_pair(tmp_path / "pair.onnx")
    with backend.open(tmp_path / "pair.onnx", graph, SETTINGS) as opened:
        yield opened


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
