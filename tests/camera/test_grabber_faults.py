"""A camera's process may hang, crash or vanish; the count goes on, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from camera.base import CameraError, Lost
from camera.config import FolderSettings, GrabberSettings
from camera.ring import Batch
from tests.camera.grabbers import (
    PATIENCE_S,
    QUICK,
    claim_all,
    claim_until_gone,
    faulty,
    frames,
    grabber,
    indexes,
    outages,
)

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("faulty_path", "nothing_is_left_behind")


@pytest.mark.parametrize(
    ("fault", "detail"),
    [
        ("hang", "no sign of life for 1.5 s and was killed"),
        ("hang_in_c", "no sign of life for 1.5 s and was killed"),
        ("crash", "its process ended with SIGSEGV"),
        ("exit", "its process ended with status 3"),
        ("camera_error", "camera top: its cable was pulled"),
        ("bug", "its driver failed: ZeroDivisionError: an oversight"),
        ("backwards", "ran backwards to 100, expected 106"),
    ],
)
def test_a_driver_that_fails_is_started_again(openings: Path, fault: str, detail: str) -> None:
    with grabber(faulty(openings, fault)) as source:
        events = claim_all(source)
    assert openings.read_text() == "xx"
    assert frames(events) == 5 + 10
    (outage,) = outages(events)
    assert (outage.first_index, outage.stop_index) == (106, 107)
    assert detail in outage.detail
    # 100..105 with the jump, the outage, and then the second life's eleven.
    assert indexes(events) == list(range(100, 107 + 11))


def test_a_camera_that_comes_back_with_another_size_is_lost_for_good(openings: Path) -> None:
    settings = faulty(openings, "resize", faulty_openings=(2, 3, 4), frames=None, period_s=0.01)
    with grabber(settings, watch=QUICK.model_copy(update={"restarts": 2})) as source:
        events, error = claim_until_gone(source, kills=1)
        assert "came back with frames of 5 x 8, expected 4 x 8" in error
        assert events[-1] == outages(events)[0]
        assert len(outages(events)) == 1
        assert openings.read_text() == "xxx"
        assert indexes(events) == list(range(100, 100 + len(indexes(events))))


def test_the_nominal_rate_sizes_an_outage(openings: Path) -> None:
    watch = QUICK.model_copy(update={"nominal_hz": 1000.0})
    with grabber(faulty(openings, "exit"), watch=watch) as source:
        events = claim_all(source)
    first, second = outages(events)
    assert (first.first_index, first.stop_index, second.first_index) == (106, 107, 107)
    assert "no frame for" in second.detail
    # Between the last frame and the next lay at least the back-off of 50 ms, so 49 frames.
    assert second.stop_index - first.first_index >= 49
    assert indexes(events) == list(range(100, second.stop_index + 11))


def test_restarts_are_numbered_and_then_it_is_over(openings: Path) -> None:
    settings = faulty(openings, "camera_error", after_frames=0, faulty_openings=tuple(range(1, 9)))
    with grabber(settings, watch=QUICK.model_copy(update={"restarts": 2})) as source:
        events, error = claim_until_gone(source)
        assert "its cable was pulled" in error
        with pytest.raises(CameraError, match="its cable was pulled"):
            source.claim(4, 0.0)
        assert openings.read_text() == "xxx"
        assert indexes(events) == [0]
        source.stop()
        assert source.ended


def test_a_source_that_is_not_live_is_not_begun_again(openings: Path) -> None:
    with grabber(faulty(openings, "exit", is_live=False)) as source:
        events, error = claim_until_gone(source)
        assert error.startswith("camera top: its process ended with status 3; expected")
        assert indexes(events) == list(range(100, 107))
        assert openings.read_text() == "x"


@pytest.mark.parametrize(
    ("fault", "watch", "match"),
    [
        ("camera_error", QUICK, "its cable was pulled"),
        ("hang_in_open", QUICK.model_copy(update={"open_timeout_s": 3.0}), "did not open within 3.0 s"),
    ],
)
def test_a_camera_that_does_not_open_the_first_time_is_an_error(
    openings: Path, fault: str, watch: GrabberSettings, match: str
) -> None:
    if fault == "camera_error":
        settings: Any = FolderSettings(path=openings)
        match = "found no such folder"
    else:
        settings = faulty(openings, fault)
    with pytest.raises(CameraError, match=match):
        grabber(settings, watch=watch)


def test_a_camera_that_hangs_when_it_comes_back_is_tried_again(openings: Path) -> None:
    settings = faulty(openings, "hang_in_open", faulty_openings=(2,), frames=20, period_s=0.02)
    with grabber(settings, watch=QUICK.model_copy(update={"open_timeout_s": 5.0})) as source:
        first = source.claim(1, 5.0)
        assert isinstance(first, Batch)
        first.release()
        assert source.pid is not None
        os.kill(source.pid, signal.SIGKILL)
        events = claim_all(source)
    assert openings.read_text() == "xxx"
    assert len(outages(events)) == 1
    assert indexes([first, *events])[-1] == indexes(events)[0] + len(indexes(events)) - 1


def test_stop_of_a_driver_that_hangs(openings: Path) -> None:
    settings = faulty(openings, "hang")
    with grabber(settings, watch=QUICK.model_copy(update={"hang_timeout_s": 60.0})) as source:
        while len(openings.read_text()) == 0:
            pass
        source.stop()
        events = claim_all(source)
        assert outages(events) == []


@pytest.mark.parametrize("fault", ["hang", "hang_in_c", "hang_in_close", "none"])
def test_close_is_final_whatever_the_driver_does(openings: Path, fault: str) -> None:
    source = grabber(faulty(openings, fault))
    batch = source.claim(4, 5.0)
    assert isinstance(batch, Batch)
    pid = source.pid
    assert pid is not None
    source.close()
    source.close()
    source.stop()
    assert source.ended
    assert source.claim(4, 0.0) is None
    assert not psutil.pid_exists(pid)
    assert batch.pixels[0, 0, 0, 0] == 100
    batch.release()


def test_hangs_are_measured_on_the_clock_that_was_given(openings: Path) -> None:
    now_ns = [0]
    settings = faulty(openings, "hang")
    watch = QUICK.model_copy(update={"hang_timeout_s": 3600.0, "restart_first_s": 100.0, "restart_most_s": 1000.0})
    with grabber(settings, watch=watch, clock_ns=lambda: now_ns[0]) as source:
        events: list[Batch | Lost] = []
        give_up = time.monotonic() + PATIENCE_S

        def claim_until(enough: int) -> None:
            while frames(events) < enough and time.monotonic() < give_up:
                event = source.claim(4, 0.0)
                if event is not None:
                    events.append(event)
                time.sleep(0.01)

        claim_until(5)
        now_ns[0] += 3599 * 10**9
        assert source.claim(4, 0.0) is None  # an hour has not passed since the last sign of life
        assert source.pid is not None
        now_ns[0] += 3602 * 10**9
        hung = source.claim(4, 0.0)
        assert isinstance(hung, Lost)
        assert "3600.0 s" in hung.detail
        now_ns[0] += 99 * 10**9
        assert source.claim(4, 0.0) is None
        assert source.pid is None  # the back-off of 100 s is not over
        now_ns[0] += 2 * 10**9
        claim_until(9)
        assert frames(events) >= 9
    assert openings.read_text() == "xx"


PARENT = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
from faulty_drivers import FAULTY_DRIVERS, FaultySettings
from camera.grabber import Grabber
from pathlib import Path
source = Grabber(FaultySettings(fault={fault!r}, openings=Path({openings!r}), frames=None, period_s=0.001),
                 drivers=FAULTY_DRIVERS)
batch = source.claim(1, 10.0)
print(source.pid, flush=True)
while True:
    source.claim(1, 1.0)
"""


@pytest.mark.parametrize("fault", ["none", "hang", "hang_in_c"])
def test_the_camera_process_dies_with_its_parent(openings: Path, fault: str) -> None:
    """Even while a driver hangs in C and no Python can run there."""
    code = PARENT.format(root=str(ROOT), tests=str(Path(__file__).parent), fault=fault, openings=str(openings))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        camera = psutil.Process(int(parent.stdout.readline()))
        time.sleep(0.2)
        parent.kill()
    gone, _ = psutil.wait_procs([camera], timeout=10)
    assert gone or camera.status() == psutil.STATUS_ZOMBIE  # a zombie waits for init, which is not ours to be
