from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from runtime.delivery.client import GapError, Received
from runtime.delivery.journal import Retention
from runtime.errors import ConfigError, WireError
from runtime.messages import MESSAGE, Coverage, Message
from runtime.watch.command import Show, Tally, find_station, replay_beside, watch
from runtime.watch.screen import header, line_of
from tests.runtime.delivery.stations import Station
from tests.runtime.delivery.wire import (
    STATION,
    defect,
    inspected,
    missed,
    missed_picture,
    overridden,
    run_ended,
    run_started,
    swap_refused,
    swapped,
)

BOOKS = Coverage(frames_expected=6, frames_inspected=3, frames_missed=3, complete=True)
RUN: list[Message] = [
    run_started(0),
    inspected(1, 0),
    inspected(2, 1, defects=(defect(0), defect(1).model_copy(update={"continues_above": False}))),
    missed(3, 2, 5),
    inspected(4, 5),
    run_ended(5, BOOKS),
]


def page() -> Console:
    return Console(file=io.StringIO(), width=140, force_terminal=False, color_system=None)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    with Station(tmp_path) as opened:
        opened.publisher.publish(RUN)
        yield opened


def watched(station: Station, console: Console, *, as_json: bool = False, show: Show = "all") -> Tally:
    assert station.replay is not None
    return watch(
        station.publisher.endpoint,
        station.replay.endpoint,
        station=STATION,
        after=-1,
        console=console,
        as_json=as_json,
        show=show,
        until_run_ended=True,
    )


def test_a_line_a_message_and_what_was_seen_in_all(station: Station) -> None:
    console = page()
    tally = watched(station, console)
    assert (tally.frames, tally.missed, tally.defective, tally.recovered) == (3, 3, 1, 6)
    assert tally.defects == {"scratch": 1}, "the other one began in the frame before"
    assert tally.ended == RUN[-1]
    lines = text_of(console).splitlines()
    assert [line for line in lines if "frame " in line and "defective" in line and "2 scratch" in line]
    assert [line for line in lines if "frames 2 to 4 missed: ring_full" in line]
    assert [line for line in lines if "run finished coil-7, 3 of 6 frames inspected, 3 missed, complete" in line]
    assert sum("recovered" in line for line in lines) >= len(RUN)


def test_clean_frames_can_be_left_out(station: Station) -> None:
    console = page()
    assert watched(station, console, show="defective").frames == 3
    assert " clean " not in text_of(console)
    assert " defective " in text_of(console)


def test_json_lines_are_the_messages_and_nothing_else(station: Station) -> None:
    console = page()
    watched(station, console, as_json=True)
    assert [MESSAGE.validate_json(line) for line in text_of(console).splitlines()] == RUN


@pytest.mark.parametrize("as_json", [True, False])
def test_what_is_gone_is_told_to_a_person_and_stops_a_program(tmp_path: Path, as_json: bool) -> None:
    with Station(tmp_path, retention=Retention(max_age_s=20)) as station:
        station.publish(200)
        station.publisher.publish([run_ended(200)])
        console = page()
        if as_json:
            with pytest.raises(GapError):
                watched(station, console, as_json=True)
        else:
            gone = watched(station, console).gone
            assert gone > 150
            assert f"found no messages 0 to {gone - 1}" in " ".join(text_of(console).split())


def test_a_new_run_begins_at_zero() -> None:
    tally = Tally(STATION)
    for message in [*RUN, run_started(6, "coil-8"), inspected(7, 0, "coil-8")]:
        tally.count(Received(message, (), recovered=False), now_s=0.0)
    assert (tally.run, tally.frames, tally.missed, dict(tally.defects), tally.ended) == ("coil-8", 1, 0, {}, None)


def test_the_rate_is_that_of_the_last_seconds() -> None:
    tally = Tally(STATION)
    for i in range(100):
        tally.count(Received(inspected(i), (), recovered=False), now_s=i / 10)
    assert tally.rate_hz(now_s=9.9) == pytest.approx(10, abs=0.3)
    assert tally.rate_hz(now_s=20.0) == 0


def test_the_header_names_what_is_wrong_only_when_it_is() -> None:
    console = page()
    console.print(header(Tally(STATION, run="coil-7"), 78.2, 0.1))
    assert "gone" not in text_of(console)
    assert "silent" not in text_of(console)
    console.print(header(Tally(STATION, run="coil-7", gone=7), 0.0, 12.0))
    assert "gone" in text_of(console)
    assert "12 s" in text_of(console)


def test_live_messages_carry_no_mark() -> None:
    assert "recovered" not in line_of(Received(inspected(0), (), recovered=False)).plain
    assert "recovered" in line_of(Received(inspected(0), (), recovered=True)).plain


def test_a_missed_picture_is_named_and_missed_frames_are_counted() -> None:
    assert "a7-2.png  missed: unreadable picture" in line_of(Received(missed_picture(3, "a" * 64), (), False)).plain
    assert "frames 5 to 8 missed: ring_full" in line_of(Received(missed(3, 5, 9), (), False)).plain


def test_an_override_names_who_and_why() -> None:
    line = line_of(Received(overridden(46, 45), (), recovered=False)).plain
    assert "A7-1  rejected  by M. Hadfield, accepted in message 45: inverse fracture at the hammer side" in line


def test_a_swap_names_both_bundles_and_a_refused_one_says_why() -> None:
    line = line_of(Received(swapped(47), (), recovered=False)).plain
    assert "bundle swapped strip 7b7b7b7b instead of 5e5e5e5e, asked by M. Hadfield" in line
    line = line_of(Received(swap_refused(48), (), recovered=False)).plain
    assert "swap refused bundles/strip-8, asked by M. Hadfield; 5e5e5e5e serves on: bundle" in line


def test_the_station_is_found_by_its_heartbeat(station: Station) -> None:
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.02):
            station.beat()

    heart = threading.Thread(target=beat)
    heart.start()
    try:
        assert find_station(station.publisher.endpoint, timeout_s=10) == STATION
    finally:
        stop.set()
        heart.join()


def test_nobody_at_the_endpoint_is_said() -> None:
    with pytest.raises(WireError, match=r"heard nothing at tcp://127\.0\.0\.1:9"):
        find_station("tcp://127.0.0.1:9", timeout_s=0.05)


def test_the_replay_is_at_the_next_port() -> None:
    assert replay_beside("tcp://10.0.0.7:5556") == "tcp://10.0.0.7:5557"
    with pytest.raises(ConfigError, match="expected one with a port"):
        replay_beside("ipc:///run/ferrosight")
