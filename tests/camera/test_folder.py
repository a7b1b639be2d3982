"""A folder as a camera: the order, the pictures that cannot be used, and those that are still being written."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from camera.base import CameraError, Frame, Lost
from camera.config import FolderSettings
from camera.folder import Arrivals, FolderCamera
from camera.grabber import Grabber
from camera.images import PixelSettings, write_png
from camera.ring import Batch

SHAPE = (6, 8)


class FakeTime:
    """A clock that moves only when somebody sleeps; before each sleep, something may happen."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.happenings: list[tuple[int, object]] = []

    def clock_ns(self) -> int:
        return self.now_ns

    def sleep_s(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)
        while self.happenings and self.happenings[0][0] <= self.now_ns:
            happening = self.happenings.pop(0)[1]
            assert callable(happening)
            happening()


def picture(path: Path, grey: int, shape: tuple[int, int] = SHAPE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, np.full(shape, grey, np.uint8))
    return path


def open_folder(path: Path, fake: FakeTime | None = None, **values: object) -> FolderCamera:
    fake = fake or FakeTime()
    settings = FolderSettings.model_validate({"path": path, "name": "top", **values})
    return FolderCamera("top", settings, clock_ns=fake.clock_ns, sleep_s=fake.sleep_s)


def grab_all(camera: FolderCamera) -> list[Frame | Lost]:
    return list(iter(lambda: camera.grab(1.0), None))


def test_pictures_come_in_natural_order_from_any_depth(tmp_path: Path) -> None:
    for grey, name in enumerate(["coil2/f9.png", "coil2/f10.png", "coil10/f1.png", "f1.png"]):
        picture(tmp_path / name, grey)
    camera = open_folder(tmp_path)
    grabbed = grab_all(camera)
    assert (camera.height_px, camera.width_px, camera.name) == (*SHAPE, "top")
    assert all(isinstance(each, Frame) for each in grabbed)
    frames = [each for each in grabbed if isinstance(each, Frame)]
    assert [each.index for each in frames] == [0, 1, 2, 3]
    assert [int(each.pixels[0, 0]) for each in frames] == [0, 1, 2, 3]
    assert frames[1].source == str(tmp_path / "coil2" / "f10.png")
    assert math.isnan(frames[0].position_m)
    assert camera.grab(1.0) is None


def test_a_picture_that_cannot_be_used_takes_its_index_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "f0.png").write_bytes(b"no picture")
    picture(tmp_path / "f1.png", 1)
    picture(tmp_path / "f2.png", 2, (6, 9))
    cut = picture(tmp_path / "f3.png", 3)
    cut.write_bytes(cut.read_bytes()[:-6])
    picture(tmp_path / "f4.png", 4)
    cv2.imwrite(str(tmp_path / "f5.png"), np.zeros(SHAPE, np.uint16))
    grabbed = grab_all(open_folder(tmp_path))
    reasons = [each.reason if isinstance(each, Lost) else each.index for each in grabbed]
    assert reasons == ["unreadable", 1, "wrong_size", "unreadable", 4, "unreadable"]
    for index in (0, 2, 3, 5):
        lost = grabbed[index]
        assert isinstance(lost, Lost)
        assert (lost.first_index, lost.stop_index, lost.camera) == (index, index + 1, "top")
        assert str(tmp_path / f"f{index}.png") in lost.detail
    assert isinstance(grabbed[2], Lost)
    assert "found 6 x 9 pixels, expected 6 x 8" in grabbed[2].detail


def test_the_stated_size_rules(tmp_path: Path) -> None:
    picture(tmp_path / "f0.png", 0, (6, 9))
    picture(tmp_path / "f1.png", 1)
    camera = open_folder(tmp_path, height_px=6, width_px=8)
    first, second = grab_all(camera)
    assert isinstance(first, Lost)
    assert first.reason == "wrong_size"
    assert isinstance(second, Frame)


def test_pixels_are_turned_before_the_size_is_taken(tmp_path: Path) -> None:
    picture(tmp_path / "f0.png", 0)
    camera = open_folder(tmp_path, pixels=PixelSettings(rotate_deg=90))
    assert (camera.height_px, camera.width_px) == SHAPE[::-1]


def test_a_folder_without_a_picture_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="found no picture in"):
        open_folder(tmp_path)
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(CameraError, match=r"no whole picture.*Expected at least one readable picture"):
        open_folder(tmp_path)
    with pytest.raises(CameraError, match="no such folder"):
        open_folder(tmp_path / "absent")


def test_a_closed_folder_gives_nothing(tmp_path: Path) -> None:
    picture(tmp_path / "f0.png", 0)
    with open_folder(tmp_path) as camera:
        pass
    with pytest.raises(CameraError, match="after close"):
        camera.grab(1.0)


def test_a_watched_folder_waits_for_pictures(tmp_path: Path) -> None:
    fake = FakeTime()
    picture(tmp_path / "f1.png", 1)
    camera = open_folder(tmp_path, fake, watch=True, settle_s=0.5, poll_s=0.1)
    first = camera.grab(1.0)
    assert isinstance(first, Frame)
    with pytest.raises(TimeoutError):
        camera.grab(2.0)
    assert fake.now_ns == 2_000_000_000
    fake.happenings.append((3_000_000_000, lambda: picture(tmp_path / "new" / "f0.png", 7)))
    second = camera.grab(10.0)
    assert isinstance(second, Frame)
    assert (second.index, second.pixels[0, 0]) == (1, 7)
    assert fake.now_ns >= 3_500_000_000  # it had settled


def test_a_watched_folder_may_be_empty_if_the_size_is_stated(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="give height_px and width_px to wait for the first"):
        open_folder(tmp_path, watch=True)
    camera = open_folder(tmp_path, watch=True, height_px=6, width_px=8)
    with pytest.raises(TimeoutError):
        camera.grab(0.5)


def test_a_watched_folder_that_is_removed_is_lost(tmp_path: Path) -> None:
    folder = tmp_path / "watched"
    folder.mkdir()
    camera = open_folder(folder, watch=True, height_px=6, width_px=8)
    folder.rmdir()
    with pytest.raises(CameraError, match="is gone, expected it to be watched"):
        camera.grab(1.0)


def test_a_growing_picture_is_left_alone_and_holds_back_later_names(tmp_path: Path) -> None:
    old = picture(tmp_path / "f0.png", 0)
    arrivals = Arrivals(tmp_path, 1.0, taken=[old])
    second = 1_000_000_000
    growing = tmp_path / "f9.png"
    growing.write_bytes(b"a")
    assert arrivals.settled(0) == []
    growing.write_bytes(b"ab")
    later = picture(tmp_path / "f10.png", 10)
    assert arrivals.settled(1 * second) == []
    growing.write_bytes(b"abc")
    assert arrivals.settled(2 * second) == []  # f10 is complete, but f9 comes first
    assert arrivals.settled(3 * second) == [growing, later]
    assert arrivals.settled(9 * second) == []


def test_a_picture_that_is_renamed_into_place_is_taken_once(tmp_path: Path) -> None:
    arrivals = Arrivals(tmp_path, 1.0, taken=[])
    second = 1_000_000_000
    hidden = picture(tmp_path / ".f1.png", 1)
    part = tmp_path / "f1.png.part"
    part.write_bytes(b"a")
    assert arrivals.settled(0) == []
    vanishing = picture(tmp_path / "f0.png", 0)
    assert arrivals.settled(1 * second) == []
    vanishing.unlink()
    hidden.replace(tmp_path / "f1.png")
    assert arrivals.settled(2 * second) == []
    assert arrivals.settled(3 * second) == [tmp_path / "f1.png"]


def test_a_folder_through_a_process_keeps_its_sources(tmp_path: Path) -> None:
    paths = [picture(tmp_path / f"f{grey}.png", grey) for grey in range(3)]
    paths[1].write_bytes(b"no picture")
    with Grabber(FolderSettings(path=tmp_path, name="top")) as source:
        answers: dict[int, str] = {}
        while not source.ended:
            event = source.claim(8, 1.0)
            if isinstance(event, Batch):
                answers.update({each.index: each.source for each in event.frames()})
                event.release()
            elif isinstance(event, Lost):
                answers[event.first_index] = event.reason
    assert answers == {0: str(paths[0]), 1: "unreadable", 2: str(paths[2])}
