"""What a subscriber does when a message cannot come any more: a gap, another journal, another version."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.delivery.client import GapError, HistoryChangedError
from runtime.delivery.journal import POWER_CUT_SKIP, Retention, record_of
from runtime.errors import WireError
from runtime.messages import json_of
from tests.runtime.delivery.stations import Station, hear, hear_until, sequences, take
from tests.runtime.delivery.wire import STATION, inspected


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
