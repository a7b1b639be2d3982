"""What a camera delivers comes through its process whole: in batches, by the policy of the ring, to the last frame."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from camera.base import CameraError, Lost
from camera.config import FolderSettings, OpenCvSettings, RingSettings, SyntheticCameraSettings
from camera.grabber import Grabber
from camera.ring import Batch, Policy
from tests.camera.grabbers import PATIENCE_S, QUICK, WAIT, claim_all, faulty, grabber, indexes, outages

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.usefixtures("faulty_path", "nothing_is_left_behind")


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


def test_the_process_sleeps_no_longer_than_its_driver_asks() -> None:
    settings = SyntheticCameraSettings(name="top", height_px=64, width_px=64, cached_frames=1)
    with Grabber(settings, ring=WAIT, watch=QUICK) as source:
        assert Path(f"/proc/{source.pid}/timerslack_ns").read_text().strip() == "1"


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


def test_a_batch_waits_until_it_is_full(openings: Path) -> None:
    with grabber(faulty(openings, "none", frames=12, period_s=0.01)) as source:
        events = claim_all(source, max_frames=8, fill_s=5.0)
    sizes = [len(each) for each in events if isinstance(each, Batch)]
    assert sizes == [3, 8, 1]  # the jump after three frames ends the first, the end of the source the last


def test_a_library_that_prints_does_not_reach_our_output(openings: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with grabber(faulty(openings, "print")) as source:
        claim_all(source)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "a library's chatter" in captured.err


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
