"""Video files and a real stream: ffmpeg sends over loopback, is killed, and comes back."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from camera.base import CameraError, Frame, Lost
from camera.config import GrabberSettings, OpenCvSettings, RingSettings
from camera.grabber import Grabber
from camera.images import PixelSettings
from camera.opencv_driver import OpenCvCamera
from camera.ring import Batch, Policy

FFMPEG = shutil.which("ffmpeg")
SHAPE = (96, 160)
PATIENCE_S = 90.0  # a stuck test ends; a slow machine does not fail it

needs_ffmpeg = pytest.mark.skipif(FFMPEG is None, reason="ffmpeg is not installed (Debian: apt-get install ffmpeg)")


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Twelve frames, frame k of grey 20 k; its colour is blueish so that the conversion shows."""
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, SHAPE[::-1])
    assert writer.isOpened()
    for index in range(12):
        writer.write(np.full((*SHAPE, 3), 20 * index, np.uint8))
    writer.release()
    return path


def open_video(path: Path, **values: object) -> OpenCvCamera:
    settings = OpenCvSettings.model_validate({"path": path, "name": "top", **values})
    return OpenCvCamera("top", settings)


def test_a_file_is_delivered_whole_and_ends(video: Path) -> None:
    with open_video(video) as camera:
        assert (camera.height_px, camera.width_px, camera.name) == (*SHAPE, "top")
        grabbed = list(iter(lambda: camera.grab(1.0), None))
        assert camera.grab(1.0) is None
    frames = [each for each in grabbed if isinstance(each, Frame)]
    assert [each.index for each in frames] == list(range(12))
    assert all(abs(int(each.pixels.mean()) - 20 * each.index) <= 2 for each in frames)
    assert all(each.pixels.shape == SHAPE and each.pixels.dtype == np.uint8 for each in frames)
    assert frames == sorted(frames, key=lambda frame: frame.captured_ns)


def test_the_pixel_settings_hold(video: Path) -> None:
    with open_video(video, pixels=PixelSettings(rotate_deg=90), height_px=SHAPE[1], width_px=SHAPE[0]) as camera:
        frame = camera.grab(1.0)
    assert isinstance(frame, Frame)
    assert frame.pixels.shape == SHAPE[::-1]


def test_a_size_that_is_not_the_expected_one_is_an_error(video: Path) -> None:
    with pytest.raises(CameraError, match="found frames of 96 x 160 pixels, expected 100 x 160"):
        open_video(video, height_px=100, width_px=160)


def test_what_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match=r"absent.avi cannot be opened, expected a video"):
        open_video(tmp_path / "absent.avi")
    (tmp_path / "text.avi").write_text("no video at all")
    with pytest.raises(CameraError, match=r"text.avi cannot be opened"):
        open_video(tmp_path / "text.avi")
    with pytest.raises(CameraError, match="/dev/video77 cannot be opened"):
        OpenCvCamera("top", OpenCvSettings(device="/dev/video77"))
    with pytest.raises(CameraError, match=r"tcp://127.0.0.1:9 cannot be opened"):
        OpenCvCamera("top", OpenCvSettings(url="tcp://127.0.0.1:9", open_timeout_s=1.0))


def test_a_closed_camera_gives_nothing(video: Path) -> None:
    camera = open_video(video)
    camera.close()
    camera.close()
    with pytest.raises(CameraError, match="after close"):
        camera.grab(1.0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def ffmpeg(port: int, container: str, scheme: str) -> Iterator[subprocess.Popen[bytes]]:
    """A camera on the network: 25 frames/s for whoever connects first."""
    codec = {"mpegts": ["-c:v", "mpeg2video", "-g", "5"], "mpjpeg": ["-c:v", "mjpeg"]}[container]
    listen = {"tcp": [f"tcp://127.0.0.1:{port}?listen=1"], "http": ["-listen", "1", f"http://127.0.0.1:{port}"]}[scheme]
    source = f"testsrc2=size={SHAPE[1]}x{SHAPE[0]}:rate=25"
    assert FFMPEG is not None
    process = subprocess.Popen(
        [FFMPEG, "-loglevel", "error", "-re", "-f", "lavfi", "-i", source, *codec, "-f", container, *listen],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        give_up = time.monotonic() + PATIENCE_S
        while not any(each.status == psutil.CONN_LISTEN for each in psutil.Process(process.pid).net_connections()):
            assert process.poll() is None
            assert time.monotonic() < give_up
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait()


def claim_frames(source: Grabber, count: int, lost: list[Lost]) -> list[int]:
    """Indexes of at least `count` more frames; losses go into `lost`."""
    found: list[int] = []
    give_up = time.monotonic() + PATIENCE_S
    while len(found) < count:
        event = source.claim(4, 0.5)
        if isinstance(event, Batch):
            assert event.pixels.shape[1:] == (1, *SHAPE)
            assert event.pixels.std() > 10  # a picture, not a blank
            found.extend(range(event.first_index, event.first_index + len(event)))
            event.release()
        elif isinstance(event, Lost):
            lost.append(event)
        assert time.monotonic() < give_up
    return found


@needs_ffmpeg
@pytest.mark.parametrize(("container", "scheme"), [("mpegts", "tcp"), ("mpjpeg", "http")])
def test_a_stream_that_dies_and_returns_is_picked_up_again(container: str, scheme: str) -> None:
    port = free_port()
    settings = OpenCvSettings(name="top", url=f"{scheme}://127.0.0.1:{port}", read_timeout_s=2.0)
    watch = GrabberSettings(hang_timeout_s=10.0, restart_first_s=0.1, restart_most_s=0.5, nominal_hz=25.0)
    ring = RingSettings(policy=Policy.DROP_NEWEST)
    lost: list[Lost] = []
    with ffmpeg(port, container, scheme):
        source = Grabber(settings, ring=ring, watch=watch)
        before = claim_frames(source, 10, lost)
    with source:
        while not lost:
            before.extend(claim_frames(source, 0, lost))
            event = source.claim(4, 0.5)
            if isinstance(event, Batch):
                before.extend(range(event.first_index, event.first_index + len(event)))
                event.release()
            elif event is not None:
                lost.append(event)
        with ffmpeg(port, container, scheme):
            after = claim_frames(source, 10, lost)
    assert [each.reason for each in lost] == ["camera_outage"] * len(lost)
    assert "ended, or was silent" in lost[0].detail
    answered = [*before, *(index for each in lost for index in range(each.first_index, each.stop_index)), *after]
    assert answered == list(range(len(answered)))
    assert sum(each.stop_index - each.first_index for each in lost) >= 2  # it was away longer than one frame


@needs_ffmpeg
def test_a_stream_that_falls_silent_is_lost() -> None:
    port = free_port()
    with ffmpeg(port, "mpegts", "tcp") as process:
        settings = OpenCvSettings(name="top", url=f"tcp://127.0.0.1:{port}", read_timeout_s=1.0)
        with OpenCvCamera("top", settings) as camera:
            assert isinstance(camera.grab(1.0), Frame)
            psutil.Process(process.pid).suspend()
            with pytest.raises(CameraError, match=r"was silent for 1\.0 s, expected frames"):
                all(camera.grab(1.0) for _ in range(10_000))
