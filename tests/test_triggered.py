"""A triggered station from outside: killed at any moment, each picture is scored once."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from runtime.delivery.client import Subscriber
from runtime.messages import Message, Missed, Scored
from runtime.triggered.client import RequestClient
from tests.fracture_bundles import make_fracture_bundle
from tests.lines import ROOT, station, write_rig
from tests.runtime.triggered.rig import png

KILLS = 8
PICTURES_A_LIFE = 15


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_fracture_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def scores(journal: Path) -> dict[str, int]:
    """How many scored messages the journal has of each picture."""
    with sqlite3.connect(journal) as opened:
        rows = opened.execute("SELECT json FROM message WHERE kind = 'scored'").fetchall()
    opened.close()
    return Counter(json.loads(text)["image_sha256"] for (text,) in rows)


def test_a_run_with_folder_request_override_and_stop(tmp_path: Path, bundle: Path) -> None:
    with station(write_rig(tmp_path, bundle)) as running:
        (tmp_path / "hot" / "a.png").write_bytes(png(0.1, 1))
        with RequestClient(running.request, "rig") as client:
            second = client.score(png(0.1, 2), "b.png").message
            client.override(second.sequence, "rejected", "M. Hadfield", "inverse fracture")
        heard: list[Message] = []
        with Subscriber(running.publish, running.replay, station="rig") as subscriber:
            while {message.kind for message in heard} != {"run_started", "scored", "overridden"} or len(heard) < 4:
                received = subscriber.receive(timeout_s=20)
                assert received is not None, running.errors.read_text()
                heard.append(received.message)
        running.process.send_signal(signal.SIGTERM)
        event = running.next_event()
        assert (event["event"], event["reason"]) == ("run_ended", "stopped")
        assert event["coverage"] == {
            "frames_expected": 2, "frames_inspected": 2, "frames_missed": 0, "complete": True
        }  # fmt: skip
    assert scores(tmp_path / "journal.sqlite") == {digest(png(0.1, 1)): 1, digest(png(0.1, 2)): 1}


@pytest.mark.parametrize(
    ("doomed", "new"),
    [
        pytest.param("runtime.delivery.journal.Journal.append", True, id="scored, and not yet in the journal"),
        pytest.param("runtime.delivery.publisher.Publisher._send", False, id="in the journal, and not yet published"),
        pytest.param("runtime.triggered.request_socket.RequestSocket.tell", False, id="published, and not answered"),
    ],
)
def test_a_kill_between_two_steps_gives_one_score(tmp_path: Path, bundle: Path, doomed: str, new: bool) -> None:
    config = write_rig(tmp_path, bundle, hot_folder=False, endpoint=f"tcp://127.0.0.1:{_free_port()}")
    module, name, method = doomed.rsplit(".", 2)
    script = f"""
import importlib, os, signal, sys
owner = getattr(importlib.import_module({module!r}), {name!r})
whole = owner.{method}
def die(*arguments, **options):
    if "scored" in repr(arguments):
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*arguments, **options)
owner.{method} = die
from ferrosight import main
main(["run", {str(config)!r}, "--json"])
"""
    doomed_station = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert doomed_station.stdout is not None
        endpoint = json.loads(doomed_station.stdout.readline())["request"]
        with RequestClient(endpoint, "rig", timeout_s=20) as client:
            answers: list[object] = []
            asking = threading.Thread(target=lambda: answers.append(client.score(png(0.1, 1), "S1.png")))
            asking.start()
            assert doomed_station.wait(30) == -signal.SIGKILL
            with station(config):
                asking.join(60)
    finally:
        doomed_station.kill()
        doomed_station.wait()
        assert doomed_station.stdout is not None
        doomed_station.stdout.close()
    (answer,) = answers
    assert isinstance(answer.message, Scored)  # pyright: ignore[reportAttributeAccessIssue]
    assert answer.known is not new  # pyright: ignore[reportAttributeAccessIssue]
    assert scores(tmp_path / "journal.sqlite") == {digest(png(0.1, 1)): 1}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_kills_while_pictures_come_leave_each_scored_once(tmp_path: Path, bundle: Path) -> None:
    """Pictures come by folder and by request, some twice, some spoilt, some slowly; the station dies and dies."""
    config = write_rig(tmp_path, bundle, endpoint=f"tcp://127.0.0.1:{_free_port()}")
    rng = random.Random(20)
    hot, sent = tmp_path / "hot", set[str]()
    heard: list[Message] = []
    cursor = tmp_path / "cursor"
    for life in range(KILLS + 1):
        with station(config) as running:
            done = threading.Event()
            pictures = [png(0.1, life * PICTURES_A_LIFE + number) for number in range(PICTURES_A_LIFE)]
            sent |= {digest(data) for data in pictures}
            writer = threading.Thread(target=_drop, args=(hot, pictures, life, rng.random()))
            writer.start()
            asker = threading.Thread(target=_ask, args=(running.request, pictures[::4], done))
            asker.start()
            until = time.monotonic() + (60 if life == KILLS else rng.uniform(0.05, 1.0))
            with Subscriber(running.publish, running.replay, station="rig", cursor=cursor) as subscriber:
                while time.monotonic() < until:
                    received = subscriber.receive(timeout_s=0.02)
                    if received is not None:
                        heard.append(received.message)
                        subscriber.ack()
                    if sent <= {message.image_digest() for message in heard if isinstance(message, Scored)}:
                        break
            running.process.kill()
            done.set()
            writer.join()
            asker.join()
    assert [message.sequence for message in heard] == list(range(len(heard)))
    assert scores(tmp_path / "journal.sqlite") == dict.fromkeys(sent, 1)
    assert Counter(message.image_digest() for message in heard if isinstance(message, Scored)) == dict.fromkeys(sent, 1)
    told = [
        message.image_digest() for message in heard if isinstance(message, Missed) and message.reason == "unreadable"
    ]
    assert len(told) == len(set(told)), "what cannot be read is told once for the same bytes, through every restart"


def _drop(hot: Path, pictures: list[bytes], life: int, seed: float) -> None:
    """Put pictures into the hot folder as instruments and people do."""
    rng = random.Random(seed)
    (hot / f"{life}_spoilt.png").write_bytes(pictures[0][:90] + bytes([life]))
    for number, data in enumerate(pictures):
        path = hot / f"{life}_{number}.png"
        way = rng.choice(("at once", "slowly", "renamed", "twice", "over another"))
        if way == "slowly":
            with path.open("wb", buffering=0) as file:
                for first in range(0, len(data), 100):
                    file.write(data[first : first + 100])
                    time.sleep(0.01)
        elif way == "renamed":
            (hot / f".{path.name}").write_bytes(data)
            (hot / f".{path.name}").rename(path)
        elif way == "over another":
            path.write_bytes(pictures[number - 1])
            time.sleep(0.15)
            path.write_bytes(data)
        else:
            path.write_bytes(data)
            if way == "twice":
                (hot / f"{life}_{number}_again.png").write_bytes(data)


def _ask(endpoint: str, pictures: list[bytes], done: threading.Event) -> None:
    """Ask for some of the same pictures, until the station is gone."""
    with RequestClient(endpoint, "rig", timeout_s=0.5) as client:
        for data in pictures:
            try:
                client.score(data)
            except Exception:  # noqa: BLE001 - the station was killed, which is what this test does
                if done.is_set():
                    return


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
