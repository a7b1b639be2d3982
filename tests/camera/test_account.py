"""The books of a counter: every index is answered for once, whatever the camera does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camera.account import Ledger, LineCounter, joined
from camera.base import CameraError, Lost


def lost(first: int, stop: int, detail: str = "") -> Lost:
    return Lost("top", first, stop, "unreadable", detail)


@given(st.integers(0, 100), st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(1, 5)), min_size=1))
def test_frames_losses_and_gaps_tile_the_count(start: int, steps: list[tuple[bool, int, int]]) -> None:
    ledger = Ledger("top", start)
    place, covered = start, []
    for is_frame, jump, count in steps:
        first = place + jump
        gap = ledger.frame(first, count) if is_frame else ledger.lost(lost(first, first + count))
        if gap is not None:
            assert gap.reason == "camera_lost"
            covered.extend(range(gap.first_index, gap.stop_index))
        covered.extend(range(first, first + count))
        place = first + count
    assert covered == list(range(start, place))
    assert ledger.next_index == place


def test_the_first_frame_is_where_the_camera_begins() -> None:
    ledger = Ledger("top")
    assert ledger.next_index is None
    assert ledger.frame(1234) is None
    assert ledger.next_index == 1235


def test_a_counter_that_runs_backwards_is_an_error() -> None:
    ledger = Ledger("top")
    ledger.frame(5)
    with pytest.raises(CameraError, match="ran backwards to 5, expected 6"):
        ledger.frame(5)
    with pytest.raises(CameraError, match="ran backwards to 4, expected 6"):
        ledger.lost(lost(4, 7))
    with pytest.raises(CameraError, match="at least one frame"):
        ledger.lost(lost(9, 9))
    assert ledger.next_index == 6


def test_neighbours_of_one_kind_are_joined() -> None:
    assert joined([lost(0, 1), lost(1, 3), lost(3, 4, "other"), lost(5, 6, "other"), lost(6, 7, "other")]) == [
        lost(0, 3),
        lost(3, 4, "other"),
        lost(5, 7, "other"),
    ]


def test_the_first_count_is_the_cameras_own() -> None:
    counter = LineCounter("top")
    assert counter.frames(17, [0, 1]) == (17, None)
    assert counter.frames(20, [4]) == (20, Lost("top", 19, 20, "camera_lost", "the counter jumped"))


def test_an_outage_takes_at_least_one_index_and_the_count_goes_on() -> None:
    counter = LineCounter("top")
    counter.frames(0, [0, 1, 2])
    assert counter.outage(0, "gone") == Lost("top", 3, 4, "camera_outage", "gone")
    assert counter.outage(0, "and again, before it was back") is None
    assert counter.frames(0, [9, 10]) == (4, None)
    assert counter.outage(5, "five were grabbed") == Lost("top", 6, 11, "camera_outage", "five were grabbed")
    assert counter.lost(lost(100, 102)) == (lost(11, 13), None)
    assert counter.frames(102, [50]) == (13, None)


def test_an_outage_before_the_first_frame_is_counted() -> None:
    counter = LineCounter("top", nominal_hz=100.0)
    assert counter.outage(0, "gone") == Lost("top", 0, 1, "camera_outage", "gone")
    assert counter.frames(0, [10**9]) == (1, None)


def test_the_rate_sizes_an_outage() -> None:
    counter = LineCounter("top", nominal_hz=100.0)
    counter.frames(0, [0])
    assert counter.outage(0, "gone") == Lost("top", 1, 2, "camera_outage", "gone")
    # Two seconds at 100 frames/s: between frame 0 and the next one lie 199, of which one has been told.
    assert counter.frames(0, [2 * 10**9]) == (200, Lost("top", 2, 200, "camera_outage", "no frame for 2.0 s"))
    assert counter.next_index == 201


@given(
    st.one_of(st.none(), st.floats(1, 1000)),
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 8), st.booleans(), st.integers(0, 9)), min_size=1),
)
def test_a_line_never_skips_or_repeats_an_index(
    nominal_hz: float | None, lives: list[tuple[int, int, bool, int]]
) -> None:
    """Cameras that come and go, each counting from its own start."""
    counter = LineCounter("top", nominal_hz)
    covered: list[int] = []

    def cover(*losses: Lost | None) -> None:
        for each in losses:
            if each is not None:
                covered.extend(range(each.first_index, each.stop_index))

    clock_ns = 0
    for start, frames, begins_with_loss, frames_lost in lives:
        clock_ns += 300_000_000
        if begins_with_loss:
            ours, before = counter.lost(lost(start, start + 2))
            cover(before, ours)
            start += 2
        first, before = counter.frames(start, [clock_ns + frame for frame in range(frames)])
        cover(before)
        covered.extend(range(first, first + frames))
        cover(counter.outage(frames_lost, "gone"))
    assert covered == list(range(covered[0], covered[0] + len(covered)))
