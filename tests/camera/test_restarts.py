"""When a camera that failed is started again."""

from __future__ import annotations

from camera.config import GrabberSettings
from camera.restarts import Restarts, backoff_s

S = 1_000_000_000


def test_the_wait_doubles_up_to_the_most() -> None:
    assert [backoff_s(failures, 1.0, 30.0) for failures in (0, 1, 4, 5, 10_000)] == [1.0, 2.0, 16.0, 30.0, 30.0]


def test_a_start_is_due_after_its_wait_and_once_it_worked_the_waits_begin_anew() -> None:
    restarts = Restarts(GrabberSettings(restart_first_s=1.0, restart_most_s=8.0, restarts=3))
    assert not restarts.is_due(10**18)  # nothing failed
    restarts.plan(0)
    assert (restarts.is_due(S - 1), restarts.is_due(S)) == (False, True)
    restarts.plan(S)
    assert (restarts.is_due(3 * S - 1), restarts.is_due(3 * S)) == (False, True)
    restarts.cancel()
    assert not restarts.is_due(10**18)
    assert not restarts.used_up
    restarts.plan(0)
    assert restarts.used_up
    restarts.worked()
    assert not restarts.used_up
    restarts.plan(0)
    assert restarts.is_due(S)


def test_there_may_be_no_end_of_restarts() -> None:
    restarts = Restarts(GrabberSettings(restarts=None))
    for _ in range(1000):
        restarts.plan(0)
    assert not restarts.used_up
