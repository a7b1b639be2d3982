"""What a subscriber hears: live, from the beginning, and in spite of whatever is lost on the way."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.delivery.client import HistoryChangedError, Received, Subscriber
from runtime.delivery.replay import CHUNK_MESSAGES
from runtime.errors import ConfigError, WireError
from runtime.messages import json_of, topic_of
from tests.runtime.delivery.stations import Station, hear, hear_until, lossy, sequences, take
from tests.runtime.delivery.wire import STATION, inspected


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
