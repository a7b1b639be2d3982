"""What a build says about how long it will take, on a terminal and in a file."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from export.progress import building
from export.time_left import TimeLeft
from export.to_tensorrt import BuildState


class Clock:
    """A clock that stands still until somebody moves it."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_nothing_is_said_while_nothing_is_known() -> None:
    clock = Clock()
    left = TimeLeft({"gate": None, "segmenter": None}, clock)
    assert left.left_s() is None
    left.begin("gate")
    clock.now_s += 30
    assert left.left_s() is None
    assert left.finish() == 30
    assert left.left_s() == 30  # the other one is taken to last as long
    left.begin("segmenter")
    clock.now_s += 10
    assert left.left_s() == 20


def test_what_was_done_before_is_known_from_the_start() -> None:
    clock = Clock()
    left = TimeLeft({"gate": 20.0, "segmenter": 70.0, "new": None}, clock)
    assert left.left_s() == 20 + 70 + 45
    left.begin("gate")
    clock.now_s += 15
    assert left.left_s() == 5 + 70 + 45
    clock.now_s += 15
    assert left.left_s() is None  # it takes longer than it did, nobody knows how long
    left.finish()
    assert left.left_s() == 70 + (30 + 70) / 2


def test_what_was_not_begun_cannot_be_over() -> None:
    with pytest.raises(RuntimeError, match="found nothing that was begun"):
        TimeLeft({"gate": None}).finish()


STATES = [
    BuildState("gate", 1, 2, "Building engine", 0, 6, None),
    BuildState("gate", 1, 2, "Timing tactics", 2, 3, None),
    BuildState("segmenter", 2, 2, "Building engine", 0, 6, 118.0),
]


def said(*, terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120)
    with building(console) as tell:
        for state in STATES:
            tell(state)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_in_a_file_there_is_a_plain_line_for_each_plan() -> None:
    assert said(terminal=False) == "building gate (1 of 2)\nbuilding segmenter (2 of 2), about 2 min left\n"


def test_on_a_terminal_one_line_shows_the_phase_and_what_is_left() -> None:
    text = said(terminal=True)
    assert "segmenter (2 of 2): Building engine" in text
    assert "about 2 min left" in text


def test_a_build_that_fails_says_nothing_of_its_own() -> None:
    console = Console(file=io.StringIO())
    with pytest.raises(KeyError), building(console):
        raise KeyError
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == ""
