"""A line scan camera over an endless synthetic strip, which keeps time and loses frames as real ones do."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from camera.base import CameraError, Frame
from camera.steel.strip import LEAST_SIZE_PX, SyntheticStrip

_NS_PER_S = 1_000_000_000


class SyntheticSettings(BaseModel):
    """A synthetic steel strip and the camera that looks at it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["synthetic"] = "synthetic"
    seed: int = Field(default=0, ge=0, description="Which strip: one seed is one strip, on every machine.")
    height_px: int = Field(default=256, ge=LEAST_SIZE_PX, description="Rows of a frame, along the travel.")
    width_px: int = Field(default=1600, ge=LEAST_SIZE_PX, description="Columns of a frame, across the strip.")
    speed_mps: float = Field(default=10.0, gt=0.0, description="Speed of the strip, metres per second.")
    mm_per_px: float = Field(default=0.5, gt=0.0, description="Size of a pixel on the strip, millimetres.")
    defects_per_frame: float = Field(
        default=0.7,
        ge=0.0,
        le=50.0,
        description="Mean number of defects that start in a frame; 0 is a clean strip.",
    )
    look_alikes_per_frame: float = Field(
        default=1.0, ge=0.0, le=50.0, description="Mean number of harmless marks that start in a frame."
    )
    frames: int | None = Field(default=None, ge=1, description="Frames of the strip; none for a strip without end.")
    paced: bool = Field(
        default=True,
        description="Deliver at the strip's speed and lose what is not fetched in time; else on demand.",
    )
    buffer_frames: int = Field(default=4, ge=1, description="Frames that the camera holds for a late reader.")
    cached_frames: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Draw only so many frames, at opening, and show them in a loop.",
    )

    @property
    def frame_m(self) -> float:
        """Length of strip in a frame, metres."""
        return self.height_px * self.mm_per_px / 1000.0

    def open_strip(self) -> SyntheticStrip:
        """The strip that the camera sees, to ask it for the truth."""
        return SyntheticStrip(
            self.seed,
            height_px=self.height_px,
            width_px=self.width_px,
            defects_per_frame=self.defects_per_frame,
            look_alikes_per_frame=self.look_alikes_per_frame,
        )

    def strip_index(self, frame_index: int) -> int:
        """Which frame of the strip the camera shows as frame `frame_index`."""
        return frame_index if self.cached_frames is None else frame_index % self.cached_frames


class SyntheticCamera:
    """Delivers the synthetic strip frame by frame.

    The strip starts to move at the first `grab`. From then on it waits for nobody: frame k is complete after
    k + 1 frame lengths of travel, the camera holds the newest `buffer_frames` complete frames, and when the
    reader comes too late for a frame, the frame is gone and the counter shows it.

    Args:
        name: The camera's name in the line configuration.
        settings: Strip and camera.
        clock_ns: A monotonic clock in nanoseconds.
        sleep_s: Waits for so many seconds.
    """

    def __init__(
        self,
        name: str,
        settings: SyntheticSettings,
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        sleep_s: Callable[[float], None] = time.sleep,
    ) -> None:
        self._name = name
        self._settings = settings
        self._clock_ns = clock_ns
        self._sleep_s = sleep_s
        self._frame_ns = settings.frame_m / settings.speed_mps * _NS_PER_S
        self._start_ns: int | None = None
        self._next_index = 0
        self._closed = False
        self._pixels = np.empty((settings.height_px, settings.width_px), np.uint8)
        self._strip = settings.open_strip()
        drawn = settings.cached_frames or 0
        self._cached = np.empty((drawn, *self._pixels.shape), np.uint8)
        for index, picture in enumerate(self._cached):
            self._strip.pixels(index, picture)
        self._cached.flags.writeable = False  # they are lent to the reader as they are

    @property
    def name(self) -> str:
        """The camera's name in the line configuration."""
        return self._name

    @property
    def height_px(self) -> int:
        """Rows of every frame."""
        return self._settings.height_px

    @property
    def width_px(self) -> int:
        """Columns of every frame."""
        return self._settings.width_px

    def grab(self, timeout_s: float) -> Frame | None:
        """Wait for the next frame.

        Args:
            timeout_s: The longest wait in seconds.

        Returns:
            The next frame, its pixels borrowed until the next call; None after the last of `frames`.

        Raises:
            TimeoutError: The next frame is not complete in time.
            CameraError: The camera was closed.
        """
        return self._grab(None, timeout_s)

    def grab_into(self, pixels: NDArray[np.uint8], timeout_s: float) -> Frame | None:
        """As `grab`, into (H, W) uint8 memory of the caller's; see `camera.base.PlacingCamera`."""
        return self._grab(pixels, timeout_s)

    def close(self) -> None:
        """End the acquisition; calling it again does nothing."""
        self._closed = True

    def __enter__(self) -> SyntheticCamera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _grab(self, into: NDArray[np.uint8] | None, timeout_s: float) -> Frame | None:
        if self._closed:
            raise CameraError(f"camera {self._name}: a frame was asked for after close. Open the camera again.")
        start_ns = self._start_ns = self._clock_ns() if self._start_ns is None else self._start_ns
        paced = self._settings.paced
        if paced:
            self._next_index = max(self._next_index, self._oldest_held(start_ns))
        index = self._next_index
        if self._settings.frames is not None and index >= self._settings.frames:
            return None
        if paced:
            self._await_beginning(index, start_ns, timeout_s)
        frame = Frame(
            camera=self._name,
            index=index,
            captured_ns=self._due_ns(index, start_ns) if paced else self._clock_ns(),
            pixels=self._shown(index, into),
            position_m=index * self._settings.frame_m,
        )
        # As in a line camera the rows have arrived while the strip passed, and what is left is to wait for the last.
        if paced:
            self._sleep_until(frame.captured_ns)
        self._next_index = index + 1
        return frame

    def _due_ns(self, index: int, start_ns: int) -> int:
        """When the last row of frame `index` is exposed; from the start, so that no error adds up."""
        return start_ns + round((index + 1) * self._frame_ns)

    def _oldest_held(self, start_ns: int) -> int:
        """The oldest frame that is not overwritten at this moment."""
        now_ns = self._clock_ns()
        complete = max(0, math.floor((now_ns - start_ns) / self._frame_ns) - 1)
        while self._due_ns(complete, start_ns) <= now_ns:  # the division may be a nanosecond off
            complete += 1
        if self._settings.frames is not None:
            complete = min(complete, self._settings.frames)
        return complete - self._settings.buffer_frames

    def _await_beginning(self, index: int, start_ns: int, timeout_s: float) -> None:
        """Return once the frame is complete or will be before the timeout, so that none is drawn in vain."""
        due_ns = self._due_ns(index, start_ns)
        deadline_ns = self._clock_ns() + round(timeout_s * _NS_PER_S)
        if due_ns <= deadline_ns:
            return
        self._sleep_until(deadline_ns)
        if self._clock_ns() < due_ns:
            raise TimeoutError(f"camera {self._name}: frame {index} is not complete after {timeout_s} s")

    def _sleep_until(self, moment_ns: int) -> None:
        while (left_ns := moment_ns - self._clock_ns()) > 0:
            self._sleep_s(left_ns / _NS_PER_S)

    def _shown(self, index: int, into: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
        """The picture of frame `index`, put where it is wanted; else a cached one without a copy, or a fresh one."""
        shown = self._settings.strip_index(index)
        if self._settings.cached_frames is None:
            place = self._pixels if into is None else into
            self._strip.pixels(shown, place)
            return place
        if into is None:
            return self._cached[shown]
        into[:] = self._cached[shown]
        return into
