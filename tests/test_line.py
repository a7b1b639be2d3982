"""The line from outside: a process, its messages, its exit code and its last words."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.delivery.client import Subscriber
from runtime.messages import Inspected, Message, Missed, RunEnded, RunStarted
from tests.bundles import make_strip_bundle
from tests.lines import ROOT, SYNTHETIC, Running, station, write_line


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_strip_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


def listen(running: Running) -> list[Message]:
    """Every message from the first to the end of the run."""
    messages: list[Message] = []
    with Subscriber(running.publish, running.replay, station="top") as subscriber:
        while not (messages and isinstance(messages[-1], RunEnded)):
            received = subscriber.receive(timeout_s=20)
            assert received is not None, running.errors.read_text()
            messages.append(received.message)
    return messages


def run(config: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ferrosight", "run", str(config), *options]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)


def test_a_run_from_its_first_message_to_its_books(tmp_path: Path, bundle: Path) -> None:
    camera = SYNTHETIC + "defects_per_frame = 0.4\nframes = 120\n"
    with station(write_line(tmp_path, bundle, camera=camera)) as running:
        messages = listen(running)
    assert isinstance(messages[0], RunStarted)
    assert [m.sequence for m in messages] == list(range(len(messages)))
    inspected = [m for m in messages if isinstance(m, Inspected)]
    missed = sum(m.stop_index - m.first_index for m in messages if isinstance(m, Missed))
    ended = messages[-1]
    assert isinstance(ended, RunEnded)
    assert ended.coverage.complete
    assert ended.coverage.frames_expected == len(inspected) + missed == 120
    assert [m.position_m for m in inspected] == pytest.approx([0.064 * m.frame_index for m in inspected])
    assert all({"wait", "gate", "segment", "decide", "total"} == set(m.latency_ms) for m in inspected)


def test_a_stop_ends_the_run_with_its_books(tmp_path: Path, bundle: Path) -> None:
    with station(write_line(tmp_path, bundle, camera=SYNTHETIC)) as running:
        with Subscriber(running.publish, running.replay, station="top") as subscriber:
            for _ in range(20):
                assert subscriber.receive(timeout_s=20) is not None
        running.process.send_signal(signal.SIGTERM)
        event = running.next_event()
        assert event["reason"] == "stopped"
        assert event["coverage"]["complete"]


def test_pictures_that_cannot_be_inspected_are_missed_and_the_exit_code_says_so(tmp_path: Path, bundle: Path) -> None:
    import cv2
    import numpy as np

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(4):
        cv2.imwrite(str(pictures / f"frame_{number}.png"), np.full((64, 256), 120, np.uint8))
    (pictures / "frame_1.png").write_bytes((pictures / "frame_1.png").read_bytes()[:60])
    cv2.imwrite(str(pictures / "frame_2.png"), np.full((32, 256), 120, np.uint8))
    config = write_line(tmp_path, bundle, camera=f'kind = "folder"\npath = "{pictures}"\n')
    config.write_text(config.read_text().replace("linger_s = 30.0", "linger_s = 0.0"))
    done = run(config, "--json")
    assert done.returncode == 1, done.stderr
    assert '"frames_missed": 2' in done.stdout


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("no_bundle", "found no readable spec.json"),
        ("altered", "gate.fp16.onnx"),
        ("backend", "found no such backend"),
        ("camera", "/dev/video99"),
        ("size", "expected 64x256"),
        ("journal", "journal"),
        ("key", "does not exist"),
    ],
)
def test_what_cannot_run_says_why_in_one_sentence(tmp_path: Path, bundle: Path, spoil: str, message: str) -> None:
    own = tmp_path / "bundle"
    shutil.copytree(bundle, own)
    camera, more = SYNTHETIC, ""
    if spoil == "no_bundle":
        shutil.rmtree(own)
    elif spoil == "altered":
        model = own / "gate.fp16.onnx"
        model.write_bytes(model.read_bytes() + b"\0")
    elif spoil == "backend":
        more = 'backend = "abacus"\n'
    elif spoil == "camera":
        camera = 'kind = "opencv"\ndevice = "/dev/video99"\nheight_px = 64\nwidth_px = 256\n'
    elif spoil == "size":
        camera = SYNTHETIC.replace("height_px = 64", "height_px = 128")
    elif spoil == "journal":
        (tmp_path / "journal.sqlite").write_text("no journal at all, but a text that somebody keeps here")
    elif spoil == "key":
        more = "bach = 4\n"
    done = run(write_line(tmp_path, own, camera=camera, station=more))
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_named(tmp_path: Path, bundle: Path) -> None:
    import zmq

    with zmq.Context() as context, context.socket(zmq.PUB) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        config = write_line(tmp_path, bundle, camera=SYNTHETIC)
        config.write_text(
            config.read_text().replace('publish = "tcp://127.0.0.1:*"', f'publish = "tcp://127.0.0.1:{port}"')
        )
        done = run(config)
    assert done.returncode == 2
    assert f"tcp://127.0.0.1:{port}" in done.stderr
    assert "Stop the process that has it" in done.stderr
