"""A subscriber and a station of which one is away for a while, or killed at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from runtime.delivery.client import Received, Subscriber
from tests.runtime.delivery.stations import ANY_PORT, Station, hear_until, lossy, sequences, take
from tests.runtime.delivery.wire import STATION


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
