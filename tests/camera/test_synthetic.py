"""The synthetic camera keeps time, counts what it loses, and shows its strip."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from pydantic import ValidationError

from camera.base import Camera, CameraError, Frame, PlacingCamera
from camera.synthetic import SyntheticCamera, SyntheticSettings

SMALL = SyntheticSettings(seed=3, height_px=64, width_px=256, speed_mps=2.0, mm_per_px=0.5)
FRAME_NS = 16_000_000  # 64 rows of 0.5 mm at 2 m/s


class FakeTime:
    """A clock that moves only when somebody sleeps or says so."""

    def __init__(self, start_ns: int = 5_000) -> None:
        self.now_ns = start_ns
        self.slept_ns: list[int] = []

    def clock_ns(self) -> int:
        return self.now_ns

    def sleep_s(self, seconds: float) -> None:
        assert seconds > 0.0
        self.slept_ns.append(round(seconds * 1e9))
        self.now_ns += self.slept_ns[-1]


def open_camera(settings: SyntheticSettings, fake: FakeTime | None = None) -> SyntheticCamera:
    fake = fake or FakeTime()
    return SyntheticCamera("top", settings, clock_ns=fake.clock_ns, sleep_s=fake.sleep_s)


def grab(camera: Camera, timeout_s: float = 1.0) -> Frame:
    frame = camera.grab(timeout_s)
    assert isinstance(frame, Frame)
    return frame


def test_frames_come_when_their_last_row_has_passed() -> None:
    fake = FakeTime()
    camera = open_camera(SMALL, fake)
    fake.now_ns += 77_000_000  # between opening and the first grab nothing moves
    start_ns = fake.now_ns
    for index in range(5):
        frame = grab(camera)
        assert (frame.camera, frame.index) == ("top", index)
        assert frame.captured_ns == fake.now_ns == start_ns + (index + 1) * FRAME_NS
        assert frame.position_m == pytest.approx(index * 0.032)
    assert fake.slept_ns == [FRAME_NS] * 5


def test_time_does_not_drift_over_a_period_that_is_no_whole_number_of_nanoseconds() -> None:
    settings = SMALL.model_copy(update={"speed_mps": 3.0, "cached_frames": 1})
    fake = FakeTime(start_ns=0)
    camera = open_camera(settings, fake)
    for index in range(1000):
        exact = Fraction(32_000_000, 3) * (index + 1)
        assert abs(grab(camera).captured_ns - exact) <= 1
    assert fake.now_ns == 10_666_666_667


def test_a_reader_a_little_late_loses_nothing_and_does_not_slow_the_strip() -> None:
    fake = FakeTime(start_ns=0)
    camera = open_camera(SMALL, fake)
    grab(camera)
    fake.now_ns += 4 * FRAME_NS  # frames 1 to 4 are complete and held
    slept = list(fake.slept_ns)
    captured = [grab(camera).captured_ns for _ in range(4)]
    assert captured == [2 * FRAME_NS, 3 * FRAME_NS, 4 * FRAME_NS, 5 * FRAME_NS]
    assert fake.slept_ns == slept
    assert grab(camera).captured_ns == fake.now_ns == 6 * FRAME_NS


def test_a_reader_later_than_the_buffer_finds_a_gap_in_the_counter() -> None:
    fake = FakeTime(start_ns=0)
    camera = open_camera(SMALL, fake)
    assert grab(camera).index == 0
    fake.now_ns = 11 * FRAME_NS  # frames 0 to 10 are complete, the buffer holds 7 to 10
    frames = []
    for _ in range(5):
        frame = grab(camera)
        frames.append((frame.index, frame.captured_ns, frame.position_m))
    assert frames == [(k, (k + 1) * FRAME_NS, pytest.approx(k * 0.032)) for k in (7, 8, 9, 10, 11)]


def test_one_nanosecond_decides_whether_a_frame_is_lost() -> None:
    for late_ns, expected in ((-1, 1), (0, 2)):
        fake = FakeTime(start_ns=0)
        camera = open_camera(SMALL, fake)
        assert grab(camera).index == 0
        fake.now_ns = 6 * FRAME_NS + late_ns
        assert grab(camera).index == expected


def test_every_frame_of_a_strip_is_either_delivered_or_jumped_over() -> None:
    fake = FakeTime(start_ns=0)
    camera = open_camera(SMALL.model_copy(update={"frames": 100, "cached_frames": 2}), fake)
    rng = np.random.default_rng(1)
    delivered = []
    while (frame := camera.grab(1.0)) is not None:
        assert isinstance(frame, Frame)
        delivered.append(frame.index)
        fake.now_ns += int(rng.integers(0, 7 * FRAME_NS) * (rng.random() < 0.3))
    lost = sum(b - a - 1 for a, b in zip([-1, *delivered], delivered, strict=False))
    assert delivered == sorted(set(delivered))
    assert delivered[-1] == 99
    assert len(delivered) + lost == 100
    assert lost > 0
    assert camera.grab(1.0) is None


def test_a_frame_that_is_not_yet_complete_times_out_and_comes_later() -> None:
    fake = FakeTime(start_ns=0)
    camera = open_camera(SMALL, fake)
    with pytest.raises(TimeoutError, match="camera top: frame 0"):
        camera.grab(0.010)
    assert fake.now_ns == 10_000_000
    assert grab(camera, 0.010).captured_ns == FRAME_NS


def test_an_unpaced_camera_never_waits_and_never_loses() -> None:
    fake = FakeTime()
    camera = open_camera(SMALL.model_copy(update={"paced": False, "frames": 3}), fake)
    for index in range(3):
        fake.now_ns += 100 * FRAME_NS
        frame = grab(camera, 0.0)
        assert (frame.index, frame.captured_ns) == (index, fake.now_ns)
    assert camera.grab(0.0) is None
    assert fake.slept_ns == []


def test_it_shows_the_strip_of_its_settings() -> None:
    camera = open_camera(SMALL)
    strip = SMALL.open_strip()
    for index in range(4):
        assert np.array_equal(grab(camera).pixels, strip.frame(index).pixels)
    assert (camera.name, camera.height_px, camera.width_px) == ("top", 64, 256)


def test_cached_frames_come_round_again_under_new_numbers_and_places() -> None:
    settings = SMALL.model_copy(update={"cached_frames": 3})
    camera = open_camera(settings)
    strip = settings.open_strip()
    for index in range(7):
        frame = grab(camera)
        assert frame.index == index
        assert frame.position_m == pytest.approx(index * 0.032)
        assert np.array_equal(frame.pixels, strip.pixels(settings.strip_index(index)))
        with pytest.raises(ValueError, match="read-only"):  # a reader can spoil no later frame
            frame.pixels[...] = 0
    assert [settings.strip_index(index) for index in range(4)] == [0, 1, 2, 0]


@pytest.mark.parametrize("cached_frames", [None, 3])
def test_it_draws_where_it_is_told_before_the_exposure_ends(cached_frames: int | None) -> None:
    settings = SMALL.model_copy(update={"cached_frames": cached_frames})
    fake = FakeTime(start_ns=0)
    place = np.zeros((64, 256), np.uint8)
    seen: list[bool] = []

    def sleep_s(seconds: float) -> None:
        seen.append(np.array_equal(place, strip.pixels(index)))
        fake.sleep_s(seconds)

    camera = SyntheticCamera("top", settings, clock_ns=fake.clock_ns, sleep_s=sleep_s)
    assert isinstance(camera, PlacingCamera)
    strip = settings.open_strip()
    for index in range(3):
        frame = camera.grab_into(place, 1.0)
        assert isinstance(frame, Frame)
        assert frame.pixels is place
        assert (frame.index, frame.captured_ns) == (index, fake.now_ns)
    assert seen == [True] * 3


def test_a_frame_that_would_come_too_late_is_not_drawn() -> None:
    camera = open_camera(SMALL)
    place = np.zeros((64, 256), np.uint8)
    with pytest.raises(TimeoutError, match="camera top: frame 0"):
        camera.grab_into(place, 0.010)
    assert not place.any()


def test_a_closed_camera_says_so() -> None:
    with open_camera(SMALL) as camera:
        grab(camera)
    camera.close()
    with pytest.raises(CameraError, match="after close"):
        camera.grab(1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1},
        {"height_px": 63},
        {"speed_mps": 0.0},
        {"mm_per_px": float("nan")},
        {"defects_per_frame": -0.1},
        {"frames": 0},
        {"buffer_frames": 0},
        {"kind": "opencv"},
        {"sped_mps": 3.0},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_wrong_settings_are_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        SyntheticSettings.model_validate(wrong)


def test_every_setting_is_described_and_survives_a_round_trip() -> None:
    fields = SyntheticSettings.model_fields
    assert all(field.description for name, field in fields.items() if name != "kind")
    assert SyntheticSettings.model_validate_json(SMALL.model_dump_json()) == SMALL
