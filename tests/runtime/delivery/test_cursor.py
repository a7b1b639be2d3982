"""Where a subscriber keeps what it has acknowledged."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.delivery.client import Subscriber
from runtime.errors import ConfigError
from tests.runtime.delivery.stations import Station, take


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
