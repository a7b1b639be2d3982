"""Stations to listen to: one that publishes what it is told, and one of whose messages some are lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import zmq

from runtime.delivery.client import Received, Subscriber
from runtime.delivery.journal import Journal, Retention, record_of
from runtime.delivery.publisher import Publisher
from runtime.delivery.replay import ReplayServer
from runtime.messages import Heartbeat, Message, json_of, topic_of
from tests.runtime.delivery.wire import EPOCH, LINE, STATION, inspected, moment

ANY_PORT = "tcp://127.0.0.1:*"


class Clock:
    """A monotonic clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


class Station:
    """Journal, publisher and replay, as a station process has them.

    Args:
        folder: Where the journal lies.
        publish: Endpoint of the publisher; one that was used before, to be found again after a restart.
        replay: Endpoint of the replay; None runs without.
    """

    def __init__(
        self,
        folder: Path,
        publish: str = ANY_PORT,
        replay: str | None = ANY_PORT,
        *,
        send_queue: int = 10_000,
        retention: Retention | None = None,
        boot_id: str | None = None,
    ) -> None:
        self.clock = Clock()
        self.context = zmq.Context()
        self.journal = Journal(folder / "journal.sqlite", LINE, retention=retention, boot_id=boot_id)
        self.publisher = Publisher(
            publish,
            self.journal,
            station=STATION,
            context=self.context,
            clock_ns=self.clock,
            wall=lambda: EPOCH,
            send_queue=send_queue,
        )
        self.replay = None if replay is None else self.open_replay(replay)

    def open_replay(self, endpoint: str = ANY_PORT) -> ReplayServer:
        self.replay = ReplayServer(endpoint, self.journal.path, context=self.context)
        return self.replay

    def publish(self, count: int, make: Callable[[int], Message] = inspected) -> range:
        """Publish so many messages in batches of 8; gives their sequences."""
        first = self.publisher.next_sequence
        for batch in range(first, first + count, 8):
            self.publisher.publish([make(s) for s in range(batch, min(batch + 8, first + count))])
        return range(first, first + count)

    def beat(self) -> None:
        """Send a heartbeat now."""
        self.clock.now_ns += 2_000_000_000
        assert self.publisher.beat("running")

    def subscribe(self, after: int | None = -1, cursor: Path | None = None) -> Subscriber:
        assert self.replay is not None
        return Subscriber(self.publisher.endpoint, self.replay.endpoint, station=STATION, after=after, cursor=cursor)

    def close(self) -> None:
        if self.replay is not None:
            self.replay.close()
        self.publisher.close()
        self.journal.close()
        self.context.term()

    def __enter__(self) -> Station:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def take(subscriber: Subscriber, count: int, within_s: float = 20.0) -> list[Received]:
    """The next so many messages; fewer only if they do not come."""
    got: list[Received] = []
    give_up = time.monotonic() + within_s
    while len(got) < count and time.monotonic() < give_up:
        received = subscriber.receive(timeout_s=0.2)
        if received is not None:
            got.append(received)
    return got


def sequences(received: list[Received]) -> list[int]:
    return [item.message.sequence for item in received]


def hear(station: Station, subscriber: Subscriber) -> None:
    """Wait until the subscriber hears the publisher live."""
    before = subscriber.heartbeat
    give_up = time.monotonic() + 20
    while subscriber.heartbeat is before and time.monotonic() < give_up:
        station.beat()
        assert subscriber.receive(timeout_s=0.02) is None
    assert subscriber.heartbeat is not before


def hear_until(station: Station, subscriber: Subscriber, received: list[Received], total: int) -> None:
    """Receive with the station's heart beating, until so many messages are there."""
    give_up = time.monotonic() + 20
    while len(received) < total and time.monotonic() < give_up:
        station.beat()
        received += take(subscriber, 1, within_s=0.05)


class LossyPublisher:
    """A PUB socket in the station's place that loses exactly the messages it is told to."""

    def __init__(self, station: Station) -> None:
        self._journal = station.journal
        self._socket = station.context.socket(zmq.PUB)
        self._socket.bind(ANY_PORT)
        self.endpoint = self._socket.get_string(zmq.LAST_ENDPOINT)
        self._journal.next_sequence(STATION)

    def __call__(self, heard: list[bool]) -> None:
        """Journal a message for each flag, and send those whose flag is set."""
        first = self._journal.next_sequence(STATION)
        records = [record_of(inspected(first + i)) for i in range(len(heard))]
        self._journal.append(records)
        for record, is_heard in zip(records, heard, strict=True):
            if is_heard:
                self._socket.send_multipart((record.topic.encode(), record.json))

    def beat(self) -> None:
        """Send a heartbeat."""
        heartbeat = Heartbeat(
            line=LINE,
            station=STATION,
            run="",
            sequence=self._journal.last_sequence(STATION),
            captured_at=moment(0),
            state="running",
            frames_inspected=0,
            frames_missed=0,
        )
        self._socket.send_multipart((topic_of(heartbeat).encode(), json_of(heartbeat)))

    def close(self) -> None:
        self._socket.close(linger=0)


@contextmanager
def lossy(station: Station) -> Iterator[tuple[Subscriber, LossyPublisher]]:
    """A subscriber that hears a lossy publisher, and the station's replay."""
    assert station.replay is not None
    publisher = LossyPublisher(station)
    try:
        with Subscriber(publisher.endpoint, station.replay.endpoint, station=STATION) as subscriber:
            give_up = time.monotonic() + 20
            while subscriber.heartbeat is None and time.monotonic() < give_up:
                publisher.beat()
                assert subscriber.receive(timeout_s=0.02) is None
            yield subscriber, publisher
    finally:
        publisher.close()
