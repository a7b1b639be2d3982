"""What a camera delivers, in figures: rate, size, grey levels, losses."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camera.base import CameraError, Frame, Lost
from camera.config import NamedSettings, RingSettings
from camera.grabber import Grabber
from camera.images import write_png
from camera.open import driver_of
from camera.ring import Policy

_DARK, _BRIGHT = 2, 253


@dataclass(frozen=True, slots=True)
class Survey:
    """The figures of some frames of one camera.

    Attributes:
        camera: Its name.
        height_px: Rows of every frame.
        width_px: Columns of every frame.
        frames_grabbed: Frames that came.
        frames_lost: Frames that did not.
        rate_hz: Frames a second by the camera's own time stamps; None for fewer than two.
        delay_ms: Median time from the end of exposure until the frame was in our hands.
        grey_mean: Mean of all pixels, 0..255.
        grey_deviation: Standard deviation of all pixels.
        grey_min: Darkest pixel.
        grey_max: Brightest pixel.
        dark_ratio: Pixels at or below 2.
        bright_ratio: Pixels at or above 253.
        lost: What was lost, and why.
        pictures: The folder of the PNG files; empty if none were asked for.
    """

    camera: str
    height_px: int
    width_px: int
    frames_grabbed: int
    frames_lost: int
    rate_hz: float | None
    delay_ms: float
    grey_mean: float
    grey_deviation: float
    grey_min: int
    grey_max: int
    dark_ratio: float
    bright_ratio: float
    lost: tuple[Lost, ...]
    pictures: str

    def to_dict(self) -> dict[str, Any]:
        """The figures for JSON."""
        return asdict(self)


def survey(
    settings: NamedSettings,
    frames: int,
    timeout_s: float,
    out: Path | None = None,
    *,
    clock_ns: Callable[[], int] = time.monotonic_ns,
) -> Survey:
    """Grab `frames` frames through a process and a ring, as the line does.

    Args:
        settings: Any of `camera.config.CameraSettings`.
        frames: How many to wait for; fewer if the source ends.
        timeout_s: Longest wait for one, in seconds.
        out: Where to write each frame as PNG, named by its index.
        clock_ns: A monotonic clock in nanoseconds.

    Raises:
        CameraError: The camera cannot be opened, is gone, or delivers nothing in time.
    """
    driver = driver_of(settings.kind)  # pyright: ignore[reportAttributeAccessIssue]
    waits = driver.counts or not driver.is_live(settings)
    ring = RingSettings(policy=Policy.WAIT if waits else Policy.DROP_OLDEST)
    histogram = np.zeros(256, np.int64)
    captured_ns: list[int] = []
    delays_ms: list[float] = []
    lost: list[Lost] = []
    kept: dict[int, NDArray[np.uint8]] = {}

    def look_at(frame: Frame) -> None:
        delays_ms.append((clock_ns() - frame.captured_ns) / 1e6)
        captured_ns.append(frame.captured_ns)
        histogram[:] += np.bincount(frame.pixels.ravel(), minlength=256)
        if out is not None:
            kept[frame.index] = frame.pixels.copy()  # to be written later: it would hold the camera up

    with Grabber(settings, ring=ring) as grabber:
        size = (grabber.height_px, grabber.width_px)
        while len(captured_ns) < frames and not grabber.ended:
            event = grabber.claim(1, timeout_s)
            if isinstance(event, Lost):
                lost.append(event)
            elif event is not None:
                for frame in event.frames():
                    look_at(frame)
                event.release()
            elif not grabber.ended:
                raise CameraError(
                    f"camera {settings.name}: found no frame within {timeout_s} s, expected one. "
                    "Check its trigger, or wait longer with --timeout."
                )
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for index, pixels in kept.items():
            write_png(out / f"{index:08d}.png", pixels)
    if not captured_ns:
        raise CameraError(
            f"camera {settings.name}: found no frame that could be used, expected at least one. "
            f"{lost[0].detail if lost else 'Check the source.'}"
        )
    return Survey(
        settings.name,
        *size,
        frames_grabbed=len(captured_ns),
        frames_lost=sum(each.stop_index - each.first_index for each in lost),
        rate_hz=_rate_hz(captured_ns),
        delay_ms=float(np.median(delays_ms)),
        **_grey(histogram),
        lost=tuple(lost),
        pictures="" if out is None else str(out),
    )


def _rate_hz(captured_ns: list[int]) -> float | None:
    span_ns = captured_ns[-1] - captured_ns[0]
    return (len(captured_ns) - 1) * 1e9 / span_ns if span_ns > 0 else None


def _grey(histogram: NDArray[np.int64]) -> dict[str, Any]:
    """Grey statistics of all pixels, from their histogram of 256 levels."""
    levels = np.arange(256)
    share = histogram / histogram.sum()
    mean = float(share @ levels)
    present = np.flatnonzero(histogram)
    return {
        "grey_mean": mean,
        "grey_deviation": float(np.sqrt(share @ (levels - mean) ** 2)),
        "grey_min": int(present[0]),
        "grey_max": int(present[-1]),
        "dark_ratio": float(share[: _DARK + 1].sum()),
        "bright_ratio": float(share[_BRIGHT:].sum()),
    }
