"""A bundle changed while the line runs, from outside: the camera runs on through a good change and bad ones."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runtime.bundle import open_bundle
from runtime.delivery.client import Subscriber
from runtime.messages import Inspected, Message, Missed, RunEnded, RunStarted, Swapped, SwapRefused
from runtime.swap.cli import app as commands
from runtime.triggered.client import RequestClient, RequestRefusedError
from tests.bundles import make_strip_bundle
from tests.lines import SYNTHETIC, station, write_line

SWAP = '[stations.swap]\nendpoint = "tcp://127.0.0.1:*"\n'
PATIENT = "[stations.grabber]\nopen_timeout_s = 100.0\nhang_timeout_s = 30.0\n"
SLOW = SYNTHETIC.replace("speed_mps = 10.0", "speed_mps = 2.0") + "defects_per_frame = 0.4\n"
"""31 frames a second."""


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    """The bundle that serves, one that is better, and one that was altered on its way."""
    folder = tmp_path / "bundles"
    make_strip_bundle(folder / "first", name="first")
    make_strip_bundle(folder / "second", name="second", settings={"min_size_px": (2, 2, 2, 2)})
    altered = shutil.copytree(folder / "second", folder / "altered")
    with (altered / "segmenter.fp16.onnx").open("ab") as graph:
        graph.write(b"\0")
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_line_runs_on_through_good_and_bad_changes(tmp_path: Path, bundles: Path) -> None:
    config = write_line(tmp_path, bundles / "first", camera=SLOW)
    config.write_text(config.read_text() + SWAP + PATIENT)
    digests = {name: open_bundle(bundles / name).digest for name in ("first", "second")}
    messages: list[Message] = []

    def hear(subscriber: Subscriber, kind: type[Message]) -> None:  # type: ignore[valid-type]
        """All messages up to the next of a kind."""
        while True:
            received = subscriber.receive(timeout_s=120)
            assert received is not None, running.errors.read_text()
            messages.append(received.message)
            if isinstance(received.message, kind):  # type: ignore[arg-type]
                return

    with station(config) as running:
        with Subscriber(running.publish, running.replay, station="top") as subscriber:
            hear(subscriber, RunStarted)
            with RequestClient(running.swap, "top", timeout_s=120) as client:
                refused = client.swap("altered", "M. Hadfield").message
                assert isinstance(refused, SwapRefused)
                assert "segmenter.fp16.onnx was altered" in refused.detail
                with pytest.raises(RequestRefusedError, match="expected one in"):
                    client.swap("../elsewhere", "M. Hadfield")
            good = CliRunner().invoke(commands, [running.swap, "second", "--name", "M. Hadfield", "--station", "top"])
            assert good.exit_code == 0, good.output
            assert "bundle swapped" in good.output
            hear(subscriber, Swapped)
            # The station's own folder has another bundle by now: a reload finds it.
            shutil.rmtree(bundles / "first")
            make_strip_bundle(bundles / "first", name="third")
            running.process.send_signal(signal.SIGHUP)
            hear(subscriber, Swapped)
            hear(subscriber, Inspected)
            running.process.send_signal(signal.SIGTERM)
            hear(subscriber, RunEnded)
        assert running.next_event()["event"] == "run_ended"

    assert [message.sequence for message in messages] == list(range(len(messages)))
    changes = [message for message in messages if isinstance(message, Swapped | SwapRefused)]
    assert [type(message) for message in changes] == [SwapRefused, Swapped, Swapped]
    assert [message.name for message in changes] == ["M. Hadfield", "M. Hadfield", "SIGHUP"]
    digests["third"] = open_bundle(bundles / "first").digest
    serving, due = digests["first"], 0
    for message in messages:
        if isinstance(message, Swapped):
            assert message.before.digest == serving
            serving = message.model.digest
            assert message.next_index == due
        if isinstance(message, Inspected | Missed):
            first, stop = message.frame_range()
            assert first == due
            due = stop
        if isinstance(message, Inspected):
            assert message.model.digest == serving
    assert serving == digests["third"]
    assert {m.model.bundle for m in messages if isinstance(m, Inspected)} == {"first", "second", "third"}
    ids = [defect.defect_id for m in messages if isinstance(m, Inspected) for defect in m.defects]
    assert list(dict.fromkeys(ids)) == sorted(set(ids))  # a bundle counts on where the last one stopped
    ended = messages[-1]
    assert isinstance(ended, RunEnded)
    assert ended.coverage.complete
    assert ended.coverage.frames_expected == due
    # A machine that is busy with other things may let the camera miss its times, but the line loses nothing.
    assert {m.reason for m in messages if isinstance(m, Missed)} <= {"camera_lost", "ring_full"}
