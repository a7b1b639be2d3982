"""A thread's wishes reach the kernel, and change nothing but what they are about."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from camera.promptness import run_in_turn, run_when_woken, wake_when_due

T = TypeVar("T")

SCHED = Path("/proc/thread-self/sched")
KERNEL = tuple(int(part) for part in platform.release().split(".")[:2])


def in_a_thread(work: Callable[[], T]) -> T:
    """What `work` gives in a thread of its own, whose wishes end with it."""
    given: list[T] = []
    thread = threading.Thread(target=lambda: given.append(work()))
    thread.start()
    thread.join()
    return given[0]


def turn_ns() -> int:
    """How long a turn of the calling thread is."""
    return next(int(line.split(":")[1]) for line in SCHED.read_text().splitlines() if line.startswith("se.slice "))


@pytest.mark.skipif(KERNEL < (6, 12) or not SCHED.exists(), reason="needs a Linux that gives threads their own turns")
def test_a_prompt_thread_has_short_turns_until_it_takes_that_back() -> None:
    def turns() -> tuple[int, int, int]:
        run_in_turn()  # a line that ran in this process before may have left its thread prompt
        usual = turn_ns()
        assert run_when_woken()
        short = turn_ns()
        assert run_in_turn()
        return usual, short, turn_ns()

    usual, short, again = in_a_thread(turns)
    assert short < usual == again


def test_priority_and_policy_stay() -> None:
    def place() -> tuple[int, int]:
        os.nice(3)
        run_when_woken()
        return os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)

    here = os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)
    assert in_a_thread(place) == (here[0], min(here[1] + 3, 19))


@pytest.mark.skipif(not Path("/proc/self/timerslack_ns").exists(), reason="this kernel does not show a thread's slack")
def test_a_sleep_ends_when_it_is_due() -> None:
    def slack_ns() -> int:
        wake_when_due()
        return int(Path(f"/proc/{threading.get_native_id()}/timerslack_ns").read_text())

    assert in_a_thread(slack_ns) == 1
