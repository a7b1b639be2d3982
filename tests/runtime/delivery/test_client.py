from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.delivery.client import GapError, HistoryChangedError, Received, Subscriber
from runtime.delivery.journal import POWER_CUT_SKIP, Retention, record_of
from runtime.delivery.replay import CHUNK_MESSAGES
from runtime.errors import ConfigError, WireError
from runtime.messages import json_of, topic_of
from tests.runtime.delivery.wire import ANY_PORT, STATION, Station, hear, hear_until, inspected, lossy, sequences, take


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    with Station(tmp_path) as opened:
        yield opened


class TestLive:
    def test_messages_come_live_and_whole(self, station: Station) -> None:
        with station.subscribe() as subscriber:
            hear(station, subscriber)
            station.publisher.publish([inspected(0), inspected(1)], {1: (b"mask", b"picture")})
            received = take(subscriber, 2)
        assert [item.message for item in received] == [inspected(0), inspected(1)]
        assert [item.blobs for item in received] == [(), (b"mask", b"picture")]
        assert not any(item.recovered for item in received)

    def test_nothing_in_time_is_none(self, station: Station) -> None:
        with station.subscribe() as subscriber:
            assert subscriber.receive(timeout_s=0.05) is None
            assert subscriber.receive(timeout_s=0) is None

    def test_it_can_be_looped_over(self, station: Station) -> None:
        station.publish(5)
        with station.subscribe() as subscriber:
            for due, received in enumerate(subscriber):
                assert received.message.sequence == due
                if due == 4:
                    break

    def test_a_station_whose_name_begins_the_same_is_another_one(self, station: Station) -> None:
        with station.subscribe() as subscriber:
            hear(station, subscriber)
            other = inspected(0, station=f"{STATION}0")
            station.publisher._send(topic_of(other), json_of(other), ())
            station.publish(1)
            assert [item.message for item in take(subscriber, 1)] == [inspected(0)]

    def test_silence_is_told(self, station: Station) -> None:
        now_s = [0.0]
        assert station.replay is not None
        with Subscriber(
            station.publisher.endpoint, station.replay.endpoint, station=STATION, clock_s=lambda: now_s[0]
        ) as subscriber:
            now_s[0] = 7.0
            assert subscriber.silence_s == 7.0


class TestStart:
    def test_the_default_is_the_very_beginning(self, station: Station) -> None:
        station.publish(20)
        with station.subscribe() as subscriber:
            received = take(subscriber, 20)
        assert sequences(received) == list(range(20))
        assert all(item.recovered for item in received)

    def test_it_begins_after_a_sequence(self, station: Station) -> None:
        station.publish(20)
        with station.subscribe(after=14) as subscriber:
            assert sequences(take(subscriber, 5)) == [15, 16, 17, 18, 19]

    def test_it_begins_now(self, station: Station) -> None:
        station.publish(20)
        with station.subscribe(after=None) as subscriber:
            hear(station, subscriber)
            station.publish(3)
            assert sequences(take(subscriber, 3)) == [20, 21, 22]

    def test_a_history_of_many_chunks(self, station: Station) -> None:
        total = 3 * CHUNK_MESSAGES + 1
        station.publish(total)
        with station.subscribe() as subscriber:
            assert sequences(take(subscriber, total)) == list(range(total))

    def test_a_number_that_the_journal_never_gave_is_refused(self, station: Station) -> None:
        station.publish(3)
        with (
            station.subscribe(after=7) as subscriber,
            pytest.raises(HistoryChangedError, match="up to message 2, expected 7"),
        ):
            take(subscriber, 1)

    def test_an_unknown_station_is_refused(self, station: Station) -> None:
        assert station.replay is not None
        with (
            Subscriber(station.publisher.endpoint, station.replay.endpoint, station="strip-9") as subscriber,
            pytest.raises(WireError, match="'strip-9', expected one of"),
        ):
            take(subscriber, 1)

    @pytest.mark.parametrize(
        ("publisher", "replay"), [("nowhere", "tcp://127.0.0.1:5557"), ("tcp://127.0.0.1:5556", "tcp://:x")]
    )
    def test_what_is_no_endpoint(self, publisher: str, replay: str) -> None:
        with pytest.raises(ConfigError, match="Write it like"):
            Subscriber(publisher, replay, station=STATION)


class TestLoss:
    def test_a_jump_in_the_numbers_is_filled_from_the_journal(self, station: Station) -> None:
        with lossy(station) as (subscriber, publish):
            publish([True, True, False, False, True, True])
            received = take(subscriber, 6)
        assert sequences(received) == list(range(6))
        assert [item.recovered for item in received] == [False, False, True, True, False, False]

    def test_the_lost_end_of_a_burst_is_told_by_the_heartbeat(self, station: Station) -> None:
        with lossy(station) as (subscriber, publish):
            publish([True, False, False])
            assert sequences(take(subscriber, 1)) == [0]
            publish.beat()
            assert sequences(take(subscriber, 2)) == [1, 2]

    @settings(max_examples=12, deadline=None)
    @given(
        bursts=st.lists(st.lists(st.booleans(), min_size=1, max_size=12), min_size=1, max_size=5),
        read_between=st.booleans(),
    )
    def test_whatever_is_lost_every_message_comes_once(
        self, tmp_path_factory: pytest.TempPathFactory, bursts: list[list[bool]], read_between: bool
    ) -> None:
        total = sum(map(len, bursts))
        with Station(tmp_path_factory.mktemp("loss")) as station, lossy(station) as (subscriber, publish):
            received = []
            for burst in bursts:
                publish(burst)
                if read_between:
                    received += take(subscriber, 1, within_s=0.01)
            publish.beat()
            received += take(subscriber, total - len(received))
            assert subscriber.receive(timeout_s=0.02) is None
        assert sequences(received) == list(range(total))

    def test_a_queue_that_overflows_loses_nothing(self, tmp_path: Path) -> None:
        picture = bytes(100_000)
        with Station(tmp_path, send_queue=1) as station, station.subscribe() as subscriber:
            hear(station, subscriber)
            for sequence in range(300):
                station.publisher.publish([inspected(sequence)], {sequence: (picture,)})
            received: list[Received] = []
            hear_until(station, subscriber, received, 300)
        assert sequences(received) == list(range(300))
        assert all(item.blobs == (picture,) for item in received)
        assert any(item.recovered for item in received), "30 MB cannot have waited in the sockets"

    def test_subscribers_that_come_while_the_line_runs_get_the_same(self, station: Station) -> None:
        assert station.replay is not None
        endpoints = station.publisher.endpoint, station.replay.endpoint
        got: list[list[int]] = []

        def follow() -> None:
            with Subscriber(*endpoints, station=STATION) as subscriber:
                got.append(sequences(take(subscriber, 480)))

        threads = [threading.Thread(target=follow) for _ in range(3)]
        for thread in threads:
            station.publish(160)
            thread.start()
        while any(thread.is_alive() for thread in threads):
            station.beat()
            threads[-1].join(timeout=0.05)
        assert got == [list(range(480))] * 3


class TestRestarts:
    def test_the_station_restarts_and_the_subscriber_goes_on(self, tmp_path: Path) -> None:
        with ExitStack() as stack:
            station = stack.enter_context(Station(tmp_path))
            assert station.replay is not None
            endpoints = station.publisher.endpoint, station.replay.endpoint
            subscriber = stack.enter_context(Subscriber(*endpoints, station=STATION))
            station.publish(5)
            received = take(subscriber, 5)
            station.publish(5)
            station.close()
            with Station(tmp_path, *endpoints) as again:
                again.publish(5)
                hear_until(again, subscriber, received, 15)
        assert sequences(received) == list(range(15))

    def test_the_subscriber_restarts_where_it_acknowledged(self, station: Station, tmp_path: Path) -> None:
        cursor = tmp_path / "cursor"
        station.publish(20)
        with station.subscribe(cursor=cursor) as subscriber:
            take(subscriber, 8)
            subscriber.ack()
            take(subscriber, 4)
        with station.subscribe(cursor=cursor) as subscriber:
            assert sequences(take(subscriber, 2)) == [8, 9]
            subscriber.ack(8)
        with station.subscribe(cursor=cursor, after=None) as subscriber:
            assert sequences(take(subscriber, 11)) == list(range(9, 20))

    def test_a_replay_that_is_away_is_waited_for_and_nothing_is_skipped(self, station: Station) -> None:
        assert station.replay is not None
        endpoint = station.replay.endpoint
        with lossy(station) as (subscriber, publish):
            station.replay.close()
            publish([True, False, True])
            assert sequences(take(subscriber, 1)) == [0]
            assert take(subscriber, 1, within_s=1.5) == [], "2 is there, but 1 is due"
            station.open_replay(endpoint)
            assert sequences(take(subscriber, 2)) == [1, 2]

    def test_a_line_that_is_not_there_yet_is_waited_for(self, tmp_path: Path) -> None:
        with Station(tmp_path) as station:
            assert station.replay is not None
            endpoints = station.publisher.endpoint, station.replay.endpoint
        with Subscriber(*endpoints, station=STATION) as subscriber:
            assert subscriber.receive(timeout_s=0.7) is None
            with Station(tmp_path, *endpoints) as station:
                station.publish(3)
                assert sequences(take(subscriber, 3)) == [0, 1, 2]


class TestGone:
    def test_what_retention_deleted_is_a_gap_and_then_it_goes_on(self, tmp_path: Path) -> None:
        with Station(tmp_path, retention=Retention(max_age_s=50)) as station:
            station.publish(300)
            first = station.journal.read(STATION, 0, 300)[0].sequence
            assert first > 200
            with station.subscribe(after=9) as subscriber:
                with pytest.raises(GapError, match="found no messages 10 to") as caught:
                    take(subscriber, 1)
                assert (caught.value.first, caught.value.stop) == (10, first)
                assert sequences(take(subscriber, 300 - first)) == list(range(first, 300))

    def test_what_a_power_cut_took_is_a_gap_and_then_it_goes_on(self, tmp_path: Path) -> None:
        with Station(tmp_path, boot_id="boot-1") as station:
            assert station.replay is not None
            endpoints = station.publisher.endpoint, station.replay.endpoint
            subscriber = station.subscribe()
            station.publish(3)
            assert sequences(take(subscriber, 3)) == [0, 1, 2]
            # The machine goes down: no close, and the last commit had not reached the disk.
            with station.journal._transaction():
                station.journal._connection.execute("DELETE FROM message WHERE sequence = 2")
            station.journal._connection.close()
        begin = 2 + POWER_CUT_SKIP
        with subscriber, Station(tmp_path, *endpoints, boot_id="boot-2") as station:
            station.publish(2)
            with pytest.raises(GapError) as caught:
                hear_until(station, subscriber, [], 1)
            assert (caught.value.first, caught.value.stop) == (3, begin)
            assert sequences(take(subscriber, 2)) == [begin, begin + 1]

    def test_another_journal_is_noticed_live(self, tmp_path: Path) -> None:
        (tmp_path / "new").mkdir()
        with Station(tmp_path) as station:
            assert station.replay is not None
            endpoints = station.publisher.endpoint, station.replay.endpoint
            subscriber = station.subscribe()
            station.publish(9)
            assert sequences(take(subscriber, 9)) == list(range(9))
            hear(station, subscriber)
        with subscriber, Station(tmp_path / "new", *endpoints) as station:
            station.publish(2)
            with pytest.raises(HistoryChangedError, match="has begun a new journal"):
                hear_until(station, subscriber, [], 1)

    def test_another_journal_is_noticed_from_the_cursor(self, tmp_path: Path) -> None:
        cursor = tmp_path / "cursor"
        (tmp_path / "new").mkdir()
        with Station(tmp_path) as station, station.subscribe(cursor=cursor) as subscriber:
            station.publish(9)
            take(subscriber, 3)
            subscriber.ack()
        with Station(tmp_path / "new") as station, station.subscribe(cursor=cursor) as subscriber:
            station.publish(20)
            with pytest.raises(HistoryChangedError, match="Begin again at its start"):
                take(subscriber, 1)

    def test_a_message_of_another_version_is_refused_and_not_skipped(self, station: Station) -> None:
        tomorrow = record_of(inspected(1))._replace(json=json_of(inspected(1)).replace(b"inspected/1", b"inspected/2"))
        station.publish(1)
        station.journal.append([tomorrow])
        with station.subscribe() as subscriber:
            assert sequences(take(subscriber, 1)) == [0]
            for _ in range(2):
                with pytest.raises(WireError, match=r"not valid at .*schema.*Bring the line and its consumers"):
                    take(subscriber, 1)

    def test_a_port_that_speaks_otherwise(self, station: Station) -> None:
        with station.subscribe() as subscriber:
            hear(station, subscriber)
            station.publisher._socket.send(f"{STATION}/".encode())
            with pytest.raises(WireError, match="Check the port"):
                take(subscriber, 1)


class TestCursor:
    def test_without_a_file_there_is_nothing_to_acknowledge_in(self, station: Station) -> None:
        station.publish(1)
        with station.subscribe() as subscriber:
            take(subscriber, 1)
            with pytest.raises(ValueError, match="Give 'cursor' a path"):
                subscriber.ack()

    def test_what_was_not_handed_out_cannot_be_acknowledged(self, station: Station, tmp_path: Path) -> None:
        station.publish(2)
        with station.subscribe(cursor=tmp_path / "cursor") as subscriber:
            take(subscriber, 1)
            with pytest.raises(ValueError, match=r"cannot acknowledge 1, expected .* up to 0"):
                subscriber.ack(1)

    @pytest.mark.parametrize("content", [b"", b"12", b"\xff", b'{"sequence": 3}'])
    def test_a_file_that_is_no_cursor(self, station: Station, tmp_path: Path, content: bytes) -> None:
        cursor = tmp_path / "cursor"
        cursor.write_bytes(content)
        with pytest.raises(ConfigError, match="found no readable cursor"):
            station.subscribe(cursor=cursor)

    def test_the_cursor_of_another_station(self, station: Station, tmp_path: Path) -> None:
        cursor = tmp_path / "cursor"
        station.publish(1)
        with station.subscribe(cursor=cursor) as subscriber:
            take(subscriber, 1)
            subscriber.ack()
        with pytest.raises(ConfigError, match="found station 'strip-1', expected 'strip-2'"):
            Subscriber("tcp://127.0.0.1:5556", "tcp://127.0.0.1:5557", station="strip-2", cursor=cursor)

    def test_a_folder_that_is_not_there(self, station: Station, tmp_path: Path) -> None:
        station.publish(1)
        with station.subscribe(cursor=tmp_path / "absent" / "cursor") as subscriber:
            take(subscriber, 1)
            with pytest.raises(ConfigError, match="cannot be written"):
                subscriber.ack()


WRITER = """
import sys, time, zmq
from datetime import datetime, timezone
from pathlib import Path
from runtime.delivery.journal import Journal
from runtime.delivery.publisher import Publisher
from runtime.delivery.replay import ReplayServer
from tests.runtime.delivery.wire import LINE, STATION, inspected

folder, publish, replay = sys.argv[1:]
context = zmq.Context()
journal = Journal(Path(folder) / "journal.sqlite", LINE)
publisher = Publisher(
    publish, journal, station=STATION, context=context,
    clock_ns=time.monotonic_ns, wall=lambda: datetime.now(timezone.utc), heartbeat_s=0.05,
)
server = ReplayServer(replay, journal.path, context=context)
print(publisher.endpoint, server.endpoint, flush=True)
while True:
    first = publisher.next_sequence
    publisher.publish([inspected(s) for s in range(first, first + 3)])
    time.sleep(0.001)
"""


def test_a_station_killed_at_random_moments_loses_and_repeats_nothing(tmp_path: Path) -> None:
    rng = random.Random(7)
    endpoints = (ANY_PORT, ANY_PORT)
    received: list[Received] = []
    subscriber: Subscriber | None = None
    for _ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), *endpoints], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        publish, replay = endpoints = tuple(writer.stdout.readline().split())
        subscriber = subscriber or Subscriber(publish, replay, station=STATION)
        stop = time.monotonic() + rng.uniform(0.0, 0.25)
        while time.monotonic() < stop:
            received += take(subscriber, 1, within_s=0.01)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
    assert subscriber is not None
    with subscriber, Station(tmp_path, *endpoints) as station:
        total = station.publisher.next_sequence
        rows = station.journal.read(STATION, 0, 10**9, limit=10**9)
        assert [row.sequence for row in rows] == list(range(total))
        hear_until(station, subscriber, received, total)
    assert total > 30
    assert sequences(received) == list(range(total))
