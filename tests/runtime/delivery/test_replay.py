from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.delivery.replay import CHUNK_BYTES, CHUNK_MESSAGES, REQUEST_BYTES
from runtime.delivery.replay_requests import ReplayBegin, ReplayEnd, ReplayError
from runtime.delivery.sockets import Socket
from runtime.messages import MAX_SEQUENCE, json_of
from tests.runtime.delivery.stations import Station
from tests.runtime.delivery.wire import STATION, inspected

TIMEOUT_MS = 10_000


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    with Station(tmp_path) as opened:
        yield opened


@pytest.fixture
def asker(station: Station) -> Iterator[Socket]:
    socket = dealer(station)
    yield socket
    socket.close(linger=0)


def dealer(station: Station) -> Socket:
    assert station.replay is not None
    socket = station.context.socket(zmq.DEALER)
    socket.connect(station.replay.endpoint)
    return socket


def request(first: int, stop: int, /, **change: object) -> bytes:
    asked = {"schema": "ferrosight.replay/1", "station": STATION, "first": first, "stop": stop}
    return json.dumps(asked | change).encode()


def answer(socket: Socket) -> tuple[list[list[bytes]], ReplayEnd | ReplayError]:
    """All parts up to the last one of an answer."""
    kinds: list[bytes] = []
    messages: list[list[bytes]] = []
    while socket.poll(TIMEOUT_MS):
        kind, *parts = socket.recv_multipart()
        kinds.append(kind)
        if kind == b"end":
            assert kinds == [b"begin", *[b"message"] * len(messages), b"end"]
            return messages, ReplayEnd.model_validate_json(parts[0])
        if kind == b"error":
            return messages, ReplayError.model_validate_json(parts[0])
        if kind == b"message":
            messages.append(parts)
    raise AssertionError("the replay did not answer")


def ask(socket: Socket, *frames: bytes) -> tuple[list[list[bytes]], ReplayEnd | ReplayError]:
    socket.send_multipart(frames)
    return answer(socket)


def refused(socket: Socket, *frames: bytes) -> ReplayError:
    messages, last = ask(socket, *frames)
    assert messages == []
    assert isinstance(last, ReplayError)
    return last


def test_a_range_comes_as_it_was_published_and_then_its_end(station: Station, asker: Socket) -> None:
    station.publisher.publish([inspected(s) for s in range(5)], {2: (b"mask", b"")})
    messages, end = ask(asker, request(1, 4))
    assert messages == [
        [b"strip-1/inspected", json_of(inspected(1))],
        [b"strip-1/inspected", json_of(inspected(2)), b"mask", b""],
        [b"strip-1/inspected", json_of(inspected(3))],
    ]
    assert end == ReplayEnd(station=STATION, first=1, stop=4, last_sequence=4)


def test_an_answer_begins_with_the_journal_that_it_is_from(station: Station, asker: Socket) -> None:
    asker.send(request(0, 1))
    kind, text = asker.recv_multipart()
    assert kind == b"begin"
    assert ReplayBegin.model_validate_json(text) == ReplayBegin(station=STATION, journal=station.journal.identity)


@pytest.mark.parametrize(
    ("first", "stop", "sent", "end_stop"),
    [
        pytest.param(0, MAX_SEQUENCE, 5, 5, id="everything there is"),
        pytest.param(2, 2, 0, 2, id="nothing"),
        pytest.param(900, 1000, 0, 900, id="the future"),
    ],
)
def test_the_end_says_how_far_the_answer_goes(
    station: Station, asker: Socket, first: int, stop: int, sent: int, end_stop: int
) -> None:
    station.publish(5)
    messages, end = ask(asker, request(first, stop))
    assert len(messages) == sent
    assert isinstance(end, ReplayEnd)
    assert (end.first, end.stop, end.last_sequence) == (first, end_stop, 4)


def test_an_empty_journal_has_an_end_too(station: Station, asker: Socket) -> None:
    messages, end = ask(asker, request(0, MAX_SEQUENCE))
    assert messages == []
    assert isinstance(end, ReplayEnd)
    assert (end.stop, end.last_sequence) == (0, -1)


def test_a_long_range_comes_in_chunks(station: Station, asker: Socket) -> None:
    total = 2 * CHUNK_MESSAGES + 7
    station.publish(total)
    first, sizes = 0, []
    while first < total:
        messages, end = ask(asker, request(first, total))
        assert isinstance(end, ReplayEnd)
        assert end.stop == first + len(messages)
        sizes.append(len(messages))
        first = end.stop
    assert sizes == [CHUNK_MESSAGES, CHUNK_MESSAGES, 7]


def test_large_blobs_end_a_chunk_early(station: Station, asker: Socket) -> None:
    picture = bytes(CHUNK_BYTES // 2)
    for sequence in range(3):
        station.publisher.publish([inspected(sequence)], {sequence: (picture,)})
    messages, end = ask(asker, request(0, 3))
    assert isinstance(end, ReplayEnd)
    assert (len(messages), end.stop, end.last_sequence) == (2, 2, 2)


@pytest.mark.parametrize(
    ("frames", "found"),
    [
        pytest.param([b"not json"], "Invalid JSON", id="not JSON"),
        pytest.param([b"\xff\xfe\x00"], "valid at the whole", id="not text"),
        pytest.param([b""], "valid at the whole", id="empty"),
        pytest.param([b"[1, 2]"], "valid at the whole", id="not an object"),
        pytest.param([request(0, 1), request(1, 2)], "2 parts", id="two parts"),
        pytest.param([b"", request(0, 1)], "2 parts", id="with a REQ socket's delimiter"),
        pytest.param([request(-1, 1)], "valid at first", id="before the first"),
        pytest.param([request(0, 2**63)], "valid at stop", id="past the largest number"),
        pytest.param([request(0, 10**300)], "valid at stop", id="a number of 300 digits"),
        pytest.param([request(5, 4)], "range", id="backwards"),
        pytest.param([request(0, 1, first="0")], "valid at first", id="a number as text"),
        pytest.param([request(0, 1, schema="ferrosight.replay/2")], "valid at schema", id="another version"),
        pytest.param([request(0, 1, extra=1)], "valid at extra", id="unknown key"),
        pytest.param([request(0, 1, station="'; DROP TABLE message; --")], "at station", id="not a station"),
    ],
)
def test_a_malformed_request_is_answered_and_survived(
    station: Station, asker: Socket, frames: list[bytes], found: str
) -> None:
    station.publish(1)
    error = refused(asker, *frames)
    assert error.reason == "bad_request"
    assert found in error.error
    assert len(ask(asker, request(0, 1))[0]) == 1


def test_an_unknown_station_and_another_journal_are_said_by_name(station: Station, asker: Socket) -> None:
    unknown = refused(asker, request(0, 1, station="strip-9"))
    assert unknown.reason == "unknown_station"
    assert "'strip-9', expected one of ['strip-1']" in unknown.error
    other = refused(asker, request(0, 1, journal="0123456789abcdef"))
    assert other.reason == "other_journal"
    assert ask(asker, request(0, 1, journal=station.journal.identity))[1] is not None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=st.lists(st.binary(max_size=60), min_size=1, max_size=4))
def test_random_bytes_are_answered_and_survived(station: Station, asker: Socket, frames: list[bytes]) -> None:
    assert refused(asker, *frames).reason == "bad_request"
    assert station.replay is not None
    assert station.replay.alive


def test_an_endless_request_costs_its_connection_and_nothing_else(station: Station, asker: Socket) -> None:
    greedy = dealer(station)
    greedy.send(b"x" * (REQUEST_BYTES + 1))
    assert not greedy.poll(200)
    greedy.close(linger=0)
    assert isinstance(ask(asker, request(0, 1))[1], ReplayEnd)


def test_a_peer_that_never_reads_does_not_keep_others_waiting(station: Station, asker: Socket) -> None:
    station.publish(CHUNK_MESSAGES)
    deaf = station.context.socket(zmq.DEALER)
    deaf.set(zmq.RCVHWM, 1)
    assert station.replay is not None
    deaf.connect(station.replay.endpoint)
    for _ in range(40):
        deaf.send(request(0, CHUNK_MESSAGES))
    messages, _ = ask(asker, request(0, 1))
    assert len(messages) == 1, "20 MB wait for the other, more than its queue and the sockets hold"
    deaf.close(linger=0)


def test_peers_that_leave_while_they_are_answered_do_no_harm(station: Station, asker: Socket) -> None:
    station.publish(CHUNK_MESSAGES)
    for _ in range(20):
        leaving = dealer(station)
        leaving.send(request(0, CHUNK_MESSAGES))
        leaving.poll(5)
        leaving.close(linger=0)
    assert len(ask(asker, request(0, CHUNK_MESSAGES))[0]) == CHUNK_MESSAGES


def test_it_answers_while_the_line_writes(station: Station, asker: Socket) -> None:
    for _ in range(30):
        published = station.publish(40)
        messages, end = ask(asker, request(published.start, published.stop))
        assert [json.loads(text)["sequence"] for _, text, *_ in messages] == list(published)
        assert isinstance(end, ReplayEnd)
        assert end.last_sequence == published[-1]


def test_a_journal_that_cannot_be_read_is_worth_asking_again(station: Station, asker: Socket) -> None:
    station.publish(3)
    with sqlite3.connect(station.journal.path) as raw:
        raw.execute("ALTER TABLE message RENAME TO elsewhere")
    assert refused(asker, request(0, 3)).reason == "unavailable"
    with raw:
        raw.execute("ALTER TABLE elsewhere RENAME TO message")
    raw.close()
    assert len(ask(asker, request(0, 3))[0]) == 3


def test_closing_it_stops_its_thread(tmp_path: Path) -> None:
    with Station(tmp_path) as station:
        replay = station.replay
        assert replay is not None
        assert replay.alive
        replay.close()
        replay.close()
        assert not replay.alive
