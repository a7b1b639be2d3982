"""A camera's process may hang, crash or vanish; the count goes on, and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest

from camera.base import CameraError, Lost
from camera.config import FolderSettings, GrabberSettings, OpenCvSettings, RingSettings, SyntheticCameraSettings
from camera.grabber import Grabber, backoff_s
from camera.ring import Batch, Policy

ROOT = Path(__file__).resolve().parents[2]
WAIT = RingSettings(slots=16, policy=Policy.WAIT)
QUICK = GrabberSettings(hang_timeout_s=1.5, stop_timeout_s=1.0, restart_first_s=0.05, restart_most_s=0.2)
PATIENCE_S = 90.0  # a stuck test ends; a slow machine does not fail it

pytestmark = pytest.mark.usefixtures("faulty_path")


def descriptors_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    """No descriptor, no process, no zombie."""
    descriptors = descriptors_open()
    yield
    assert psutil.Process().children() == []
    assert descriptors_open() == descriptors


@pytest.fixture
def openings(tmp_path: Path) -> Path:
    return tmp_path / "openings"


def faulty(openings: Path, fault: str, **values: Any) -> Any:
    from faulty_drivers import FaultySettings

    return FaultySettings(fault=fault, openings=openings, name="top", **values)


def grabber(settings: Any, ring: RingSettings = WAIT, watch: GrabberSettings = QUICK, **values: Any) -> Grabber:
    from faulty_drivers import FAULTY_DRIVERS

    return Grabber(settings, ring=ring, watch=watch, drivers=FAULTY_DRIVERS, **values)


def claim_all(source: Grabber, max_frames: int = 4, fill_s: float = 0.0) -> list[Batch | Lost]:
    """Everything until the end, each batch released at once."""
    events: list[Batch | Lost] = []
    give_up = time.monotonic() + PATIENCE_S
    while not source.ended:
        event = source.claim(max_frames, 0.2, fill_s=fill_s)
        if event is not None:
            events.append(event)
        if isinstance(event, Batch):
            event.release()
        assert time.monotonic() < give_up
    assert source.claim(max_frames, 0.0) is None
    return events


def claim_until_gone(source: Grabber, kills: int = 0) -> tuple[list[Batch | Lost], str]:
    """Everything until the camera is gone for good, and the error's text; kill its process after some batches."""
    events: list[Batch | Lost] = []
    give_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        try:
            event = source.claim(4, 1.0)
        except CameraError as error:
            return events, str(error)
        if event is not None:
            events.append(event)
        if isinstance(event, Batch):
            event.release()
            if kills and source.pid is not None:
                os.kill(source.pid, signal.SIGKILL)
                kills -= 1
    pytest.fail("the camera is still there")


def indexes(events: list[Batch | Lost]) -> list[int]:
    """Every index in the order of its answer."""
    covered: list[int] = []
    for each in events:
        stop = each.first_index + len(each) if isinstance(each, Batch) else each.stop_index
        covered.extend(range(each.first_index, stop))
    return covered


def frames(events: list[Batch | Lost]) -> int:
    return sum(len(each) for each in events if isinstance(each, Batch))


def outages(events: list[Batch | Lost]) -> list[Lost]:
    return [each for each in events if isinstance(each, Lost) and each.reason == "camera_outage"]


def test_a_healthy_camera_is_delivered_whole(openings: Path) -> None:
    with grabber(faulty(openings, "none")) as source:
        assert (source.name, source.height_px, source.width_px) == ("top", 4, 8)
        assert source.pixels.shape == (16, 1, 4, 8)
        seen: dict[int, int] = {}
        lost: list[Lost] = []
        while not source.ended:
            event = source.claim(4, 1.0)
            if isinstance(event, Batch):
                seen.update({each.index: int(each.pixels[0, 0]) for each in event.frames()})
                event.release()
            elif isinstance(event, Lost):
                lost.append(event)
    assert seen == {index: index for index in range(100, 111) if index != 103}
    assert lost == [Lost("top", 103, 104, "camera_lost", "the counter jumped")]


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


def test_the_process_sleeps_no_longer_than_its_driver_asks() -> None:
    settings = SyntheticCameraSettings(name="top", height_px=64, width_px=64, cached_frames=1)
    with Grabber(settings, ring=WAIT, watch=QUICK) as source:
        assert Path(f"/proc/{source.pid}/timerslack_ns").read_text().strip() == "1"


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


def test_stop_delivers_what_lies_in_the_ring(openings: Path) -> None:
    with grabber(faulty(openings, "none", frames=None)) as source:
        held = source.claim(1, 5.0)
        assert isinstance(held, Batch)
        memory = source._open_reader()._memory
        give_up = time.monotonic() + PATIENCE_S
        while (memory.next_index or 0) < 100 + 18 and time.monotonic() < give_up:
            time.sleep(0.01)  # the ring of 16 is full, and the camera waits with the next frame
        source.stop()
        source.stop()
        events = claim_all(source)
    assert indexes([held, *events]) in (list(range(100, 117)), list(range(100, 118)))  # the waiting frame may go in
    assert outages(events) == []


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


def test_a_batch_waits_until_it_is_full(openings: Path) -> None:
    with grabber(faulty(openings, "none", frames=12, period_s=0.01)) as source:
        events = claim_all(source, max_frames=8, fill_s=5.0)
    sizes = [len(each) for each in events if isinstance(each, Batch)]
    assert sizes == [3, 8, 1]  # the jump after three frames ends the first, the end of the source the last


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


def test_a_library_that_prints_does_not_reach_our_output(openings: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with grabber(faulty(openings, "print")) as source:
        claim_all(source)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "a library's chatter" in captured.err


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


@pytest.mark.parametrize("policy", [Policy.DROP_OLDEST, Policy.DROP_NEWEST])
def test_a_slow_line_loses_by_policy_and_says_so(openings: Path, policy: Policy) -> None:
    settings = faulty(openings, "none", frames=500, period_s=0.0005)
    with grabber(settings, ring=RingSettings(slots=4, policy=policy)) as source:
        events: list[Batch | Lost] = []
        while not source.ended:
            event = source.claim(4, 0.2)
            if event is None:
                continue
            events.append(event)
            if isinstance(event, Batch):
                time.sleep(0.02)
                event.release()
    assert indexes(events) == list(range(100, 601))
    assert {each.reason for each in events if isinstance(each, Lost)} == {"camera_lost", "ring_full"}


def test_the_synthetic_strip_through_a_process() -> None:
    settings = SyntheticCameraSettings(name="strip", frames=6, height_px=64, width_px=256, paced=False)
    strip = settings.open_strip()
    with Grabber(settings, ring=WAIT) as source:
        while not source.ended:
            batch = source.claim(4, 1.0)
            if batch is None:
                continue
            assert isinstance(batch, Batch)
            for each in batch.frames():
                assert (each.pixels == strip.pixels(each.index)).all()
                assert each.position_m == pytest.approx(each.index * settings.frame_m)
            batch.release()


def test_a_folder_waits_and_a_paced_strip_drops_unless_told_otherwise(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "plate.png"), np.zeros((64, 256), np.uint8))
    strip = SyntheticCameraSettings(frames=1, height_px=64, width_px=256, paced=True)
    cases = (
        (FolderSettings(path=tmp_path), RingSettings(slots=4), Policy.WAIT),
        (FolderSettings(path=tmp_path), RingSettings(slots=4, policy=Policy.DROP_OLDEST), Policy.DROP_OLDEST),
        (strip, RingSettings(slots=4), Policy.DROP_NEWEST),
        (strip.model_copy(update={"paced": False}), RingSettings(slots=4), Policy.WAIT),
    )
    for settings, ring, expected in cases:
        with Grabber(settings, ring=ring) as source:
            assert source.policy is expected


def test_a_slow_line_loses_no_picture_of_a_folder(tmp_path: Path) -> None:
    for number in range(40):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((32, 48), number, np.uint8))
    seen: list[int] = []
    with Grabber(FolderSettings(path=tmp_path), ring=RingSettings(slots=2)) as source:
        while not source.ended:
            batch = source.claim(2, 1.0)
            if batch is None:
                continue
            assert isinstance(batch, Batch)
            time.sleep(0.005)  # the folder would fill the ring many times over
            seen += [int(each.pixels[0, 0]) for each in batch.frames()]
            batch.release()
    assert seen == list(range(40))


def test_a_live_camera_without_a_counter_may_not_wait() -> None:
    with pytest.raises(CameraError, match="found the policy 'wait' for a live camera whose driver has no counter"):
        Grabber(OpenCvSettings(device="/dev/video0"), ring=WAIT)


def test_the_camera_process_does_not_load_the_line() -> None:
    code = "import camera.grab_process, json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = {name.split(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & {"runtime", "cv2", "torch", "scipy", "openvino", "matplotlib"}


def test_the_wait_doubles_up_to_the_most() -> None:
    assert [backoff_s(failures, 1.0, 30.0) for failures in (0, 1, 4, 5, 10_000)] == [1.0, 2.0, 16.0, 30.0, 30.0]
