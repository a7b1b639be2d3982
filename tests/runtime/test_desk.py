"""The desk: numbers without a hole, wall time from the monotonic clock, patience with the journal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.desk import StationDesk
from runtime.errors import JournalError
from runtime.messages import Missed, utc_text


class RefusingPublisher:
    """A publisher whose journal refuses a number of times."""

    station = "top"

    def __init__(self, refusals: int = 0) -> None:
        self.next_sequence = 7
        self.refusals = refusals
        self.published: list[Any] = []

    def publish(self, messages: Sequence[Any]) -> None:
        if self.refusals:
            self.refusals -= 1
            raise JournalError("journal: the disk is full")
        self.published += messages
        self.next_sequence += len(messages)


class Clock:
    """A monotonic clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


def make_desk(publisher: RefusingPublisher, clock: Clock, **more: Any) -> StationDesk:
    return StationDesk(publisher, line="l", run="r", clock_ns=clock, sleep_s=clock.sleep, **more)  # pyright: ignore


def missed(desk: StationDesk) -> Missed:
    return Missed(**desk.envelope(0), first_index=0, stop_index=1, reason="stopped")


def test_messages_of_a_batch_are_numbered_from_the_next_sequence() -> None:
    publisher, clock = RefusingPublisher(), Clock()
    desk = make_desk(publisher, clock)
    desk.publish([missed(desk), missed(desk)])
    desk.publish([missed(desk)])
    assert [message.sequence for message in publisher.published] == [7, 8, 9]


def test_a_journal_that_refuses_for_a_while_is_tried_again_with_the_same_numbers() -> None:
    publisher, clock = RefusingPublisher(refusals=3), Clock()
    desk = make_desk(publisher, clock, patience_s=10.0)
    desk.publish([missed(desk)])
    assert [message.sequence for message in publisher.published] == [7]
    assert clock.now_ns == 1_500_000_000


def test_patience_ends() -> None:
    publisher, clock = RefusingPublisher(refusals=1000), Clock()
    desk = make_desk(publisher, clock, patience_s=2.0)
    with pytest.raises(JournalError, match="disk is full"):
        desk.publish([missed(desk)])
    assert clock.now_ns == 2_000_000_000


@given(
    st.integers(0, 4_000_000_000_000_000),
    st.lists(st.integers(0, 3_000_000_000), min_size=1, max_size=5),
)
def test_the_moment_of_exposure_is_written_as_the_wire_writes_it(wall_us: int, ago_ns: list[int]) -> None:
    clock = Clock()
    clock.now_ns = 10_000_000_000
    desk = make_desk(RefusingPublisher(), clock, wall_ns=lambda: wall_us * 1000 + 10**16)
    for ago in ago_ns:
        moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(
            microseconds=(wall_us * 1000 + 10**16 - ago) // 1000
        )
        assert desk.envelope(clock.now_ns - ago)["captured_at"] == utc_text(moment)
