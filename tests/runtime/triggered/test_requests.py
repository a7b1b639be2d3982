from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import zmq
import zmq.auth

from runtime.delivery.journal_reader import JournalReader
from runtime.delivery.sockets import CurveClient
from runtime.errors import WireError
from runtime.messages import Missed, Overridden, RunStarted, Scored
from runtime.scored import FractureResult
from runtime.triggered.client import RequestClient, RequestRefusedError
from runtime.triggered.requests import RefusedError, parse_request
from tests.fracture_bundles import make_fracture_bundle, surface
from tests.lines import write_rig
from tests.runtime.triggered.rig import Rig, png, rig

MAX_BYTES = 20_000


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_fracture_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Iterator[Rig]:
    """One station for all tests of this file: what one of them sends is no other's business."""
    folder = tmp_path_factory.mktemp("rig")
    with rig(write_rig(folder, bundle, hot_folder=False, trigger=f"max_bytes = {MAX_BYTES}\n")) as running:
        yield running


@pytest.fixture
def client(station: Rig) -> Iterator[RequestClient]:
    with station.client() as opened:
        yield opened


def raw(station: Rig, *parts: bytes) -> list[bytes]:
    """What the station answers to these parts, asked with a REQ socket."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.linger = 0
        socket.connect(station.request)
        socket.send_multipart(parts)
        assert socket.poll(30_000), "no answer"
        return socket.recv_multipart()


def test_a_picture_is_scored_with_its_facts_and_its_digest(client: RequestClient) -> None:
    data = png(0.1, 1)
    answer = client.score(data, "S1.png", {"specimen": "S1", "thickness_mm": 19.0})
    message = answer.message
    assert isinstance(message, Scored)
    assert not answer.known
    assert message.image_sha256 == hashlib.sha256(data).hexdigest()
    assert (message.source, message.facts.specimen, message.facts.thickness_mm) == ("S1.png", "S1", 19.0)
    assert message.verdict == "accepted"
    assert isinstance(message.result, FractureResult)
    assert message.result.brittle_ratio == pytest.approx(surface(0.1, 1).mean() / 255, abs=1e-3)
    assert list(message.latency_ms) == ["read", "decode", "model", "decide", "total"]


def test_the_same_bytes_are_answered_with_the_same_message_under_any_name(client: RequestClient) -> None:
    first = client.score(png(0.2, 2), "first.png")
    again = client.score(png(0.2, 2), "again.png", {"specimen": "another"})
    assert (first.known, again.known) == (False, True)
    assert again.message == first.message


def test_pictures_of_any_size_and_format(client: RequestClient) -> None:
    for number, (suffix, size) in enumerate(((".jpg", (64, 64)), (".tiff", (40, 100)), (".bmp", (32, 32))), 10):
        done, data = cv2.imencode(suffix, np.full(size, number, np.uint8))
        assert done
        assert client.score(data.tobytes(), f"picture{suffix}").message.kind == "scored"


def test_a_picture_that_cannot_be_used_is_missed_for_everyone_to_see(client: RequestClient, station: Rig) -> None:
    garbage = b"\x89PNG\r\n\x1a\n" + bytes(500)
    answer = client.score(garbage, "garbage.png")
    assert isinstance(answer.message, Missed)
    assert (answer.message.reason, answer.message.source) == ("unreadable", "garbage.png")
    assert answer.message.image_sha256 == hashlib.sha256(garbage).hexdigest()
    assert client.score(garbage, "garbage.png").known, "the same fault is not told twice"
    heard = station.messages(answer.message.sequence + 1)
    assert heard[-1] == answer.message


def test_facts_that_are_absurd_are_told_and_may_be_put_right(client: RequestClient) -> None:
    data = png(0.3, 3)
    first = client.score(data, "S3.png", {"mm_per_px": -1.0})
    assert isinstance(first.message, Missed)
    assert first.message.reason == "bad_facts"
    assert "mm_per_px" in first.message.detail
    assert client.score(data, "S3.png", {"mm_per_px": 0.1}).message.kind == "scored"


@pytest.mark.parametrize(
    ("parts", "reason", "text"),
    [
        pytest.param([b"no json"], "bad_request", "Invalid JSON", id="no JSON"),
        pytest.param([b"{}"], "bad_request", "schema", id="no schema"),
        pytest.param([b'{"schema": "ferrosight.score/2"}', b""], "bad_request", "score/2", id="version of tomorrow"),
        pytest.param([b'{"schema": "ferrosight.score/1", "fact": {}}', b""], "bad_request", "fact", id="unknown key"),
        pytest.param([b'{"schema": "ferrosight.score/1"}'], "bad_request", "expected 2", id="no picture"),
        pytest.param([b'{"schema": "ferrosight.score/1"}', b"", b""], "bad_request", "found 3 parts", id="three parts"),
        pytest.param(
            [b'{"schema": "ferrosight.score/1", "station": "other"}', b""], "unknown_station", "'rig'", id="station"
        ),
        pytest.param([b'{"schema": "ferrosight.score/1"}', bytes(MAX_BYTES + 1)], "too_large", "max_bytes", id="large"),
        pytest.param([b" " * 70_000], "bad_request", "70000 bytes", id="large header"),
        pytest.param(
            [b'{"schema": "ferrosight.score/1", "source": "a\\u0000b"}', b""], "bad_request", "source", id="no name"
        ),
        pytest.param([b""], "bad_request", "Invalid JSON", id="nothing"),
    ],
)
def test_what_is_no_request_is_refused_with_the_reason_and_the_station_goes_on(
    station: Rig, client: RequestClient, parts: list[bytes], reason: str, text: str
) -> None:
    word, answer = raw(station, *parts)
    error = json.loads(answer)
    assert (word, error["schema"], error["reason"]) == (b"error", "ferrosight.request_error/1", reason)
    assert text in error["error"]
    assert client.score(png(0.1, 1)).message.kind == "scored"


def test_a_peer_that_sends_far_too_much_is_cut_off_and_no_other_is(station: Rig, client: RequestClient) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(station.request)
        socket.send_multipart((b'{"schema": "ferrosight.score/1"}', bytes(40 * MAX_BYTES)))
        assert not socket.poll(500)
    assert client.score(png(0.1, 1)).message.kind == "scored"


def test_answers_come_in_the_order_of_the_requests(station: Rig) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(station.request)
        pictures = [png(0.4, 40 + number) for number in range(12)]
        for picture in pictures:
            socket.send_multipart((b'{"schema": "ferrosight.score/1"}', picture))
        answers = []
        for _ in pictures:
            assert socket.poll(30_000)
            answers.append(json.loads(socket.recv_multipart()[2])["image_sha256"])
    assert answers == [hashlib.sha256(picture).hexdigest() for picture in pictures]


class TestOverride:
    def test_an_operators_word_is_journaled_with_name_time_and_reason(
        self, client: RequestClient, station: Rig
    ) -> None:
        scored = client.score(png(0.1, 5), "S5.png", {"specimen": "S5"}).message
        answer = client.override(scored.sequence, "rejected", "M. Hadfield", "inverse fracture")
        said = answer.message
        assert isinstance(said, Overridden)
        assert not answer.known
        assert (said.scored_sequence, said.specimen, said.verdict_before) == (scored.sequence, "S5", "accepted")
        assert (said.verdict, said.name, said.reason) == ("rejected", "M. Hadfield", "inverse fracture")
        assert station.messages(said.sequence + 1)[-1] == said

    def test_the_same_word_again_is_not_a_second_one_but_another_is(self, client: RequestClient) -> None:
        scored = client.score(png(0.1, 6)).message
        first = client.override(scored.sequence, "rejected", "A", "why")
        assert client.override(scored.sequence, "rejected", "A", "why").message == first.message
        assert not client.override(scored.sequence, "accepted", "B", "looked again").known
        assert not client.override(scored.sequence, "rejected", "A", "why").known

    def test_there_must_be_a_score_to_override(self, client: RequestClient) -> None:
        for sequence, found in ((0, "run_started"), (999_999, "no message")):
            with pytest.raises(RequestRefusedError, match=f"found {found}") as caught:
                client.override(sequence, "rejected", "A", "why")
            assert caught.value.reason == "unknown_sequence"

    def test_it_needs_a_name_and_a_reason(self, station: Rig) -> None:
        for name, reason in ((" ", "why"), ("A", "\t")):
            text = {"schema": "ferrosight.override/1", "scored_sequence": 1, "verdict": "accepted", "name": name}
            with pytest.raises(RefusedError, match=r"See docs/wire\.md"):
                parse_request([json.dumps({**text, "reason": reason}).encode()], "rig")


def test_a_station_may_take_overrides_alone(tmp_path: Path, bundle: Path) -> None:
    with rig(write_rig(tmp_path, bundle, request="pictures = false\n")) as running, running.client() as client:
        with pytest.raises(RequestRefusedError, match="its hot folder") as caught:
            client.score(png(0.1, 1))
        assert caught.value.reason == "no_pictures"
        (running.hot / "a.png").write_bytes(png(0.1, 1))
        _, scored = running.messages(2)
        assert client.override(scored.sequence, "rejected", "A", "why").message.kind == "overridden"


def test_a_score_that_retention_deleted_is_said_to_be_gone_and_not_given_twice(tmp_path: Path, bundle: Path) -> None:
    config = write_rig(tmp_path, bundle, station="journal_keep_days = 1e-9\n")
    with rig(config) as running, running.client() as client:
        client.score(png(0.1, 1))
    # A run in the middle of which nothing may be deleted is over: the next one may.
    with rig(config) as running, running.client() as client:
        for seed in range(100, 180):
            client.score(png(0.2, seed))
        with pytest.raises(RequestRefusedError, match="retention has deleted") as caught:
            client.score(png(0.1, 1))
        assert caught.value.reason == "deleted"


def test_pictures_that_come_by_request_are_kept_where_asked(tmp_path: Path, bundle: Path) -> None:
    with rig(write_rig(tmp_path, bundle, request='keep = "kept"\n')) as running, running.client() as client:
        scored = client.score(png(0.1, 1), "../../S1.png").message
        assert client.score(png(0.1, 1), "again.png").known
    assert isinstance(scored, Scored)
    assert Path(scored.source).read_bytes() == png(0.1, 1)
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [Path(scored.source).name]
    with JournalReader(tmp_path / "journal.sqlite") as reader:
        assert reader.scored_as("rig", hashlib.sha256(png(0.1, 1)).hexdigest()) == scored.sequence


def test_the_album_of_a_run_has_a_picture_of_each_score(tmp_path: Path, bundle: Path) -> None:
    with rig(write_rig(tmp_path, bundle, trigger='album = "album"\n')) as running, running.client() as client:
        started = running.messages(1)[0]
        scored = client.score(png(0.1, 1), "S1.png").message
        client.score(png(0.1, 1), "S1.png")
        client.score(b"no picture", "S2.png")
    assert isinstance(started, RunStarted)
    pictures = sorted(path.relative_to(tmp_path).as_posix() for path in (tmp_path / "album").rglob("*.png"))
    assert f"album/{started.sequence:06d}_heat-1/overlays/{scored.sequence:06d}_S1.png" in pictures
    assert not [picture for picture in pictures if "S2" in picture]


def test_requests_are_encrypted_where_the_station_asks_for_it(tmp_path: Path, bundle: Path) -> None:
    keys = tmp_path / "keys"
    (keys / "admitted").mkdir(parents=True)
    for name in ("station", "operator", "stranger"):
        zmq.auth.create_certificates(keys, name)
    shutil.copy(keys / "operator.key", keys / "admitted")
    config = write_rig(tmp_path, bundle, hot_folder=False)
    curve = (
        '[stations.wire.curve]\nserver_secret_key = "keys/station.key_secret"\nclient_public_keys = "keys/admitted"\n'
    )
    config.write_text(config.read_text() + curve)
    with rig(config) as running:
        admitted = CurveClient(keys / "station.key", keys / "operator.key_secret")
        with RequestClient(running.request, curve=admitted) as client:
            assert client.score(png(0.1, 1)).message.kind == "scored"
        stranger = CurveClient(keys / "station.key", keys / "stranger.key_secret")
        for curve_client in (stranger, None):
            with (
                RequestClient(running.request, timeout_s=0.2, curve=curve_client) as client,
                pytest.raises(WireError, match="found no answer"),
            ):
                client.score(png(0.1, 2))


def test_a_picture_without_the_facts_that_are_needed_is_missed_and_scored_when_they_come(
    tmp_path: Path, bundle: Path
) -> None:
    config = write_rig(tmp_path, bundle, trigger='needs = ["specimen", "thickness_mm"]\n')
    with rig(config) as running, running.client() as client:
        first = client.score(png(0.1, 1), "S1.png", {"specimen": "S1"}).message
        assert isinstance(first, Missed)
        assert (first.reason, "found no thickness_mm" in first.detail) == ("no_facts", True)
        second = client.score(png(0.1, 1), "S1.png", {"specimen": "S1", "thickness_mm": 19.0}).message
        assert second.kind == "scored"
