from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from runtime.backends.cpu_turns import CpuWorker, Turns

WAIT_S = 20.0


class Gated:
    """Something to run that says when it has begun, and ends when it is told to."""

    def __init__(self, name: str, order: list[str]) -> None:
        self._name = name
        self._order = order
        self.begun = threading.Event()
        self.may_end = threading.Event()

    def __call__(self) -> None:
        self._order.append(self._name)
        self.begun.set()
        assert self.may_end.wait(WAIT_S)


@pytest.fixture
def order() -> list[str]:
    return []


@pytest.fixture
def worker() -> Iterator[Callable[[Turns, int | None], CpuWorker]]:
    with ExitStack() as opened:

        def make(turns: Turns, threads: int | None) -> CpuWorker:
            made = CpuWorker("test", threads, turns)
            opened.callback(made.close)
            return made

        yield make


def test_engines_that_want_all_cores_run_one_at_a_time_in_the_order_of_submission(worker, order: list[str]) -> None:
    turns = Turns(4)
    gate, segmenter = worker(turns, None), worker(turns, 4)
    runs = [Gated(name, order) for name in ("gate 1", "segmenter 1", "gate 2", "segmenter 2")]
    done = [engine.submit(run) for engine, run in zip((gate, segmenter) * 2, runs, strict=True)]
    for number, run in enumerate(runs):
        assert run.begun.wait(WAIT_S)
        assert not any(later.begun.is_set() for later in runs[number + 1 :])
        run.may_end.set()
        done[number].result(WAIT_S)
    assert order == ["gate 1", "segmenter 1", "gate 2", "segmenter 2"]


def test_engines_run_side_by_side_as_far_as_their_threads_fit(worker, order: list[str]) -> None:
    turns = Turns(4)
    runs = [Gated(name, order) for name in ("two", "one", "another two", "last one")]
    for run, threads in zip(runs, (2, 1, 2, 1), strict=True):
        worker(turns, threads).submit(run)
    assert runs[0].begun.wait(WAIT_S)
    assert runs[1].begun.wait(WAIT_S)
    # One core is free, and the last one would fit: but nobody overtakes.
    assert not runs[2].begun.wait(0.05)
    assert not runs[3].begun.is_set()
    runs[1].may_end.set()
    assert runs[2].begun.wait(WAIT_S)
    assert not runs[3].begun.is_set()
    for run in runs:
        run.may_end.set()
    assert runs[3].begun.wait(WAIT_S)


def test_more_threads_than_there_are_cores_are_all_of_them(worker, order: list[str]) -> None:
    run = Gated("wide", order)
    run.may_end.set()
    worker(Turns(2), 64).submit(run).result(WAIT_S)
    assert order == ["wide"]


def test_what_fails_gives_its_cores_back(worker, order: list[str]) -> None:
    def fail() -> None:
        raise RuntimeError("no such shape")

    turns = Turns(2)
    failed = worker(turns, None).submit(fail)
    after = Gated("after", order)
    after.may_end.set()
    worker(turns, None).submit(after).result(WAIT_S)
    with pytest.raises(RuntimeError, match="no such shape"):
        failed.result(WAIT_S)


def test_a_worker_that_was_closed_keeps_nobody_waiting(worker, order: list[str]) -> None:
    turns = Turns(2)
    closed = worker(turns, None)
    closed.close()
    with pytest.raises(RuntimeError):
        closed.submit(lambda: None)
    after = Gated("after", order)
    after.may_end.set()
    worker(turns, None).submit(after).result(WAIT_S)
