from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
import zmq.auth

from runtime.delivery.client import Subscriber
from runtime.delivery.journal import POWER_CUT_SKIP
from runtime.delivery.publisher import Publisher
from runtime.delivery.replay import ReplayServer
from runtime.delivery.sockets import CurveClient, CurveServer, Socket, connect
from runtime.errors import ConfigError, JournalError
from runtime.messages import MESSAGE, json_of
from tests.runtime.delivery.stations import ANY_PORT, Station, hear, sequences, take
from tests.runtime.delivery.wire import EPOCH, STATION, inspected, missed, run_ended, run_started


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    with Station(tmp_path) as opened:
        yield opened


@pytest.fixture
def ear(station: Station) -> Iterator[Socket]:
    """A bare subscriber that the publisher knows of: what it does not hear was not sent."""
    socket = station.context.socket(zmq.SUB)
    socket.subscribe("")
    socket.connect(station.publisher.endpoint)
    while not socket.poll(20):
        station.beat()
    while socket.poll(20):
        socket.recv_multipart()
    yield socket
    socket.close(linger=0)


def another_publisher(station: Station, endpoint: str, curve: CurveServer | None = None) -> Publisher:
    return Publisher(
        endpoint,
        station.journal,
        station=STATION,
        context=station.context,
        clock_ns=station.clock,
        wall=lambda: EPOCH,
        curve=curve,
    )


def test_a_batch_is_journaled_and_sent_as_topic_json_and_blobs(station: Station, ear: Socket) -> None:
    messages = [inspected(0), missed(1, 1, 4)]
    station.publisher.publish(messages, {1: (b"mask", b"picture")})
    assert [ear.recv_multipart() for _ in messages] == [
        [b"strip-1/inspected", json_of(messages[0])],
        [b"strip-1/missed", json_of(messages[1]), b"mask", b"picture"],
    ]
    assert [record.blobs for record in station.journal.read(STATION, 0, 9)] == [(), (b"mask", b"picture")]


def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    with Station(tmp_path) as station:
        station.publish(11)
    with Station(tmp_path) as station:
        assert station.publisher.next_sequence == 11


def test_numbers_are_skipped_after_a_power_cut(tmp_path: Path) -> None:
    with Station(tmp_path, boot_id="boot-1") as station:
        station.publish(3)
    with sqlite3.connect(tmp_path / "journal.sqlite") as raw:
        raw.execute("UPDATE journal SET open_since_boot = 'boot-1'")
    raw.close()
    with Station(tmp_path, boot_id="boot-2") as station:
        assert station.publisher.next_sequence == 3 + POWER_CUT_SKIP


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param([inspected(1)], id="a hole before"),
        pytest.param([inspected(0), inspected(2)], id="a hole inside"),
        pytest.param([inspected(0), inspected(0)], id="twice"),
        pytest.param([inspected(0, station="other")], id="another station"),
        pytest.param([inspected(0).model_copy(update={"line": "mill-9"})], id="another line"),
    ],
)
def test_wrongly_numbered_messages_are_refused_whole(station: Station, wrong: list) -> None:
    with pytest.raises(ValueError, match="Number messages from next_sequence"):
        station.publisher.publish(wrong)
    assert station.journal.last_sequence(STATION) == -1
    assert station.publisher.next_sequence == 0


def test_what_the_journal_refuses_is_not_sent_and_can_be_tried_again(station: Station, ear: Socket) -> None:
    station.journal._connection.execute("PRAGMA query_only = 1")
    with pytest.raises(JournalError, match="append"):
        station.publisher.publish([inspected(0)])
    assert not ear.poll(50)
    station.journal._connection.execute("PRAGMA query_only = 0")
    station.publisher.publish([inspected(0)])
    assert MESSAGE.validate_json(ear.recv_multipart()[1]) == inspected(0)


class TestHeartbeat:
    def test_it_comes_after_silence_only(self, station: Station) -> None:
        station.clock.now_ns = 999_999_999
        assert not station.publisher.beat("ready")
        station.clock.now_ns = 1_000_000_000
        assert station.publisher.beat("ready")
        assert not station.publisher.beat("ready")
        station.clock.now_ns = 1_900_000_000
        station.publish(1)
        station.clock.now_ns = 2_800_000_000
        assert not station.publisher.beat("running"), "a message is a sign of life too"

    def test_it_names_the_last_journaled_message_and_is_not_journaled(self, station: Station, ear: Socket) -> None:
        station.publisher.publish([run_started(0), inspected(1), run_ended(2)])
        for _ in range(3):
            ear.recv_multipart()
        station.clock.now_ns += 2_000_000_000
        assert station.publisher.beat("ended", frames_inspected=1, frames_missed=4)
        topic, text = ear.recv_multipart()
        assert topic == b"strip-1/heartbeat"
        heartbeat = json.loads(text)
        assert (heartbeat["sequence"], heartbeat["run"], heartbeat["state"]) == (2, "coil-7", "ended")
        assert (heartbeat["frames_inspected"], heartbeat["frames_missed"]) == (1, 4)
        assert station.journal.last_sequence(STATION) == 2

    def test_before_the_first_message_it_says_so(self, tmp_path: Path) -> None:
        with Station(tmp_path) as station, station.subscribe() as subscriber:
            hear(station, subscriber)
            assert subscriber.heartbeat is not None
            assert (subscriber.heartbeat.sequence, subscriber.heartbeat.run) == (-1, "")


def test_a_subscriber_that_does_not_read_never_holds_the_line(tmp_path: Path) -> None:
    picture = bytes(100_000)
    with Station(tmp_path, send_queue=1) as station, station.subscribe() as subscriber:
        hear(station, subscriber)
        for sequence in range(300):
            station.publisher.publish([inspected(sequence)], {sequence: (picture,)})
        assert station.journal.last_sequence(STATION) == 299, "30 MB went out while nobody read"


class TestEndpoints:
    def test_a_port_that_is_taken(self, station: Station) -> None:
        taken = station.publisher.endpoint
        with pytest.raises(ConfigError, match=r"publisher strip-1: endpoint .* in use.*Stop the process"):
            another_publisher(station, taken)
        with pytest.raises(ConfigError, match=r"replay: endpoint .* in use.*Stop the process"):
            ReplayServer(taken, station.journal.path, context=station.context)

    @pytest.mark.parametrize(
        ("endpoint", "remedy"),
        [
            ("127.0.0.1:5556", "Write it like"),
            ("tcp://127.0.0.1:99999", "Write it like"),
            ("tcp://192.0.2.1:5556", "Name an address of this machine"),
            ("", "Write it like"),
        ],
    )
    def test_what_is_no_endpoint_of_this_machine(self, station: Station, endpoint: str, remedy: str) -> None:
        with pytest.raises(ConfigError, match=remedy):
            ReplayServer(endpoint, station.journal.path, context=station.context)
        with pytest.raises(ConfigError, match=remedy):
            another_publisher(station, endpoint)

    def test_closing_twice_does_nothing(self, tmp_path: Path) -> None:
        station = Station(tmp_path)
        station.close()
        station.close()


class TestCurve:
    @pytest.fixture
    def keys(self, tmp_path: Path) -> Path:
        folder = tmp_path / "keys"
        (folder / "admitted").mkdir(parents=True)
        for name in ("station", "consumer", "stranger"):
            zmq.auth.create_certificates(folder, name)
        (folder / "consumer.key").rename(folder / "admitted" / "consumer.key")
        return folder

    @pytest.fixture
    def locked(self, station: Station, keys: Path) -> Iterator[tuple[Publisher, ReplayServer]]:
        """A second publisher and replay on the station's journal, which speak only to the admitted."""
        with (
            CurveServer(station.context, keys / "station.key_secret", keys / "admitted") as curve,
            another_publisher(station, ANY_PORT, curve) as publisher,
            ReplayServer(ANY_PORT, station.journal.path, context=station.context, curve=curve) as replay,
        ):
            publisher.publish([inspected(0), inspected(1)])
            yield publisher, replay

    def test_the_admitted_consumer_hears_everything(self, locked: tuple[Publisher, ReplayServer], keys: Path) -> None:
        publisher, replay = locked
        curve = CurveClient(keys / "station.key", keys / "consumer.key_secret")
        with Subscriber(publisher.endpoint, replay.endpoint, station=STATION, curve=curve) as subscriber:
            assert sequences(take(subscriber, 2)) == [0, 1]

    @pytest.mark.parametrize("own_key", ["stranger.key_secret", None])
    def test_a_stranger_hears_nothing(
        self, locked: tuple[Publisher, ReplayServer], keys: Path, own_key: str | None
    ) -> None:
        publisher, replay = locked
        curve = CurveClient(keys / "station.key", None if own_key is None else keys / own_key)
        with Subscriber(publisher.endpoint, replay.endpoint, station=STATION, curve=curve) as subscriber:
            assert subscriber.receive(timeout_s=0.5) is None

    def test_a_consumer_in_clear_hears_nothing(self, locked: tuple[Publisher, ReplayServer]) -> None:
        publisher, replay = locked
        with Subscriber(publisher.endpoint, replay.endpoint, station=STATION) as subscriber:
            assert subscriber.receive(timeout_s=0.5) is None

    def test_bad_keys_are_refused_by_name(self, station: Station, keys: Path) -> None:
        (keys / "broken.key_secret").write_text("no key")
        with pytest.raises(ConfigError, match=r"broken\.key_secret: cannot be read"):
            CurveServer(station.context, keys / "broken.key_secret", None)
        with pytest.raises(ConfigError, match=r"station\.key: found a public key only"):
            CurveServer(station.context, keys / "station.key", None)
        with pytest.raises(ConfigError, match="found no such folder"):
            CurveServer(station.context, keys / "station.key_secret", keys / "nobody")
        socket = station.context.socket(zmq.SUB)
        with pytest.raises(ConfigError, match=r"absent\.key: cannot be read"):
            connect("subscriber", socket, "tcp://127.0.0.1:5556", CurveClient(keys / "absent.key"))
        assert socket.closed
