"""A bundle changed while a test rig runs, from outside: the rig scores on through good changes and bad ones."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runtime.bundle import open_bundle
from runtime.delivery.client import Subscriber
from runtime.messages import Message, RunEnded, RunStarted, Scored, Swapped, SwapRefused
from runtime.swap.cli import app as commands
from runtime.triggered.client import RequestClient
from tests.bundles import seal
from tests.lines import ROOT, station, write_rig

SWAP = '[stations.swap]\nendpoint = "tcp://127.0.0.1:*"\n'


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    """The shipped bundle as the station's own, the same under other names, and one of another task."""
    folder = tmp_path / "bundles"
    for name in ("own", "second"):
        seal(shutil.copytree(ROOT / "models" / "fracture", folder / name), name=name)
    shutil.copytree(ROOT / "models" / "grain", folder / "grain")
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_rig_scores_on_through_good_and_bad_changes(tmp_path: Path, bundles: Path) -> None:
    config = write_rig(tmp_path, bundles / "own")
    config.write_text(config.read_text() + SWAP)
    pictures = sorted((ROOT / "examples" / "fracture").glob("*.png"))[:4]
    assert len(pictures) == 4
    messages: list[Message] = []

    def hear(subscriber: Subscriber, kind: type[Message]) -> None:
        """All messages up to the next of a kind."""
        while True:
            received = subscriber.receive(timeout_s=120)
            assert received is not None, running.errors.read_text()
            messages.append(received.message)
            if isinstance(received.message, kind):
                return

    def swap(*arguments: str) -> str:
        done = CliRunner().invoke(commands, [running.swap, *arguments, "--name", "M. Hadfield", "--station", "rig"])
        return f"{done.exit_code} {done.output}"

    with station(config) as running:
        with Subscriber(running.publish, running.replay, station="rig") as subscriber:
            hear(subscriber, RunStarted)
            shutil.copy(pictures[0], tmp_path / "hot")
            hear(subscriber, Scored)
            refused = swap("grain")
            assert refused.startswith("1 ")
            assert "found one of the task 'grain', expected 'fracture'" in refused
            with RequestClient(running.request, "rig") as client:
                assert client.score(pictures[1].read_bytes(), "second.png").message.kind == "scored"
                assert swap("second").startswith("0 ")
                assert client.score(pictures[2].read_bytes(), "third.png").message.kind == "scored"
                assert client.score(pictures[0].read_bytes(), "first.png").known
            # The station's own folder has another bundle by now: a reload finds it.
            seal(bundles / "own", name="third")
            running.process.send_signal(signal.SIGHUP)
            hear(subscriber, Swapped)
            hear(subscriber, Swapped)
            shutil.copy(pictures[3], tmp_path / "hot")
            hear(subscriber, Scored)
            running.process.send_signal(signal.SIGTERM)
            hear(subscriber, RunEnded)
        assert running.next_event()["event"] == "run_ended"

    assert [message.sequence for message in messages] == list(range(len(messages)))
    changes = [message for message in messages if isinstance(message, Swapped | SwapRefused)]
    assert [type(message) for message in changes] == [SwapRefused, Swapped, Swapped]
    assert [message.name for message in changes] == ["M. Hadfield", "M. Hadfield", "SIGHUP"]
    scored = [message for message in messages if isinstance(message, Scored)]
    assert [message.model.bundle for message in scored] == ["own", "own", "second", "third"]
    assert scored[-1].model.digest == open_bundle(bundles / "own").digest
    assert len({message.image_sha256 for message in scored}) == 4
    ended = messages[-1]
    assert isinstance(ended, RunEnded)
    assert ended.coverage.complete
    assert (ended.coverage.frames_inspected, ended.coverage.frames_missed) == (4, 0)
