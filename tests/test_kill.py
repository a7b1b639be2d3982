"""The station killed without warning, again and again: nothing is lost, and nothing comes twice."""

from __future__ import annotations

import itertools
import random
import sqlite3
import time
from pathlib import Path

import pytest

from runtime.delivery.client import Subscriber
from runtime.messages import Inspected, Missed, RunEnded, RunStarted
from tests.bundles import make_strip_bundle
from tests.lines import SYNTHETIC, station, write_line

KILLS = 20


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_twenty_kills_leave_no_hole_and_no_duplicate(tmp_path: Path) -> None:
    bundle = make_strip_bundle(tmp_path / "bundle")
    config = write_line(tmp_path, bundle, camera=SYNTHETIC + "defects_per_frame = 0.3\n")
    rng = random.Random(20)
    heard: list[int] = []
    cursor = tmp_path / "cursor"
    for _ in range(KILLS):
        with station(config) as running:
            until = time.monotonic() + rng.uniform(0.02, 0.6)
            with Subscriber(running.publish, running.replay, station="top", cursor=cursor) as subscriber:
                while time.monotonic() < until:
                    received = subscriber.receive(timeout_s=0.01)
                    if received is not None:
                        heard.append(received.message.sequence)
                        subscriber.ack()
            running.process.kill()
    config = write_line(tmp_path, bundle, camera=SYNTHETIC + "frames = 20\n", run="coil-2")
    with station(config) as running:
        assert running.next_event()["reason"] == "finished"
        with Subscriber(running.publish, running.replay, station="top", cursor=cursor) as subscriber:
            while True:
                received = subscriber.receive(timeout_s=10)
                assert received is not None, "the client never heard the end of the last run"
                heard.append(received.message.sequence)
                subscriber.ack()
                if isinstance(received.message, RunEnded) and received.message.reason == "finished":
                    break
        with Subscriber(running.publish, running.replay, station="top") as subscriber:
            whole = [subscriber.receive(timeout_s=10) for _ in heard]
    assert heard == list(range(len(heard)))
    messages = [received.message for received in whole if received is not None]
    assert [message.sequence for message in messages] == heard
    with sqlite3.connect(tmp_path / "journal.sqlite") as journal:
        stored = [row[0] for row in journal.execute("SELECT sequence FROM message ORDER BY sequence")]
    assert stored == heard
    runs = [m for m in messages if isinstance(m, RunStarted | RunEnded)]
    # A kill may come before the first message of its run; every run that began is closed all the same.
    count = len(runs) // 2
    assert count > KILLS // 4
    assert [type(m) for m in runs] == [RunStarted, RunEnded] * count
    assert [m.reason for m in runs if isinstance(m, RunEnded)] == ["interrupted"] * (count - 1) + ["finished"]
    assert not any(m.coverage.complete for m in runs[:-1] if isinstance(m, RunEnded))
    for first, last in itertools.pairwise(runs):
        if isinstance(first, RunStarted):
            _every_frame_once(messages[first.sequence + 1 : last.sequence])


def _every_frame_once(messages: list[object]) -> None:
    due: int | None = None
    for message in messages:
        assert isinstance(message, Inspected | Missed)
        first, stop = message.frame_range()
        assert due in (None, first)
        due = stop
