"""Video devices, video files and network streams, through OpenCV."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from camera.base import CameraError, Frame, Lost, LostReason
from camera.config import OpenCvSettings
from camera.images import to_grey


class OpenCvCamera:
    """Delivers what `cv2.VideoCapture` gives.

    A file ends; a device or a stream that falls silent is lost, and a `Grabber` opens it again. Frames are
    counted here, because OpenCV has no counter of the camera's own: what a device or a network loses before
    it reaches OpenCV is not seen to be missing.

    Args:
        name: The camera's name in the line configuration.
        settings: What to open, and how.
        clock_ns: A monotonic clock in nanoseconds.
        sleep_s: Not needed: OpenCV waits itself.

    Raises:
        CameraError: It cannot be opened, gives no first frame, or has another size than expected.
    """

    def __init__(
        self,
        name: str,
        settings: OpenCvSettings,
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        sleep_s: Callable[[float], None] = time.sleep,  # noqa: ARG002 - every driver is called alike
    ) -> None:
        self._name = name
        self._settings = settings
        self._clock_ns = clock_ns
        self._closed = False
        self._next_index = 0
        self._source = str(settings.device or settings.path or settings.url)
        self._capture = _open(name, self._source, settings)
        try:
            self._first: Frame | None = self._first_frame()
        except BaseException:
            self._capture.release()
            raise
        self._height_px, self._width_px = self._first.pixels.shape

    @property
    def name(self) -> str:
        """The camera's name in the line configuration."""
        return self._name

    @property
    def height_px(self) -> int:
        """Rows of every frame."""
        return self._height_px

    @property
    def width_px(self) -> int:
        """Columns of every frame."""
        return self._width_px

    def grab(self, timeout_s: float) -> Frame | Lost | None:  # noqa: ARG002
        """Wait for the next frame.

        Args:
            timeout_s: Not obeyed: OpenCV cannot be asked to wait shorter than `read_timeout_s`.

        Returns:
            The next frame; a loss if it has another size than the first or cannot be made grey; None at the
            end of a file.

        Raises:
            CameraError: The device or stream fell silent or ended, or the camera was closed.
        """
        if self._closed:
            raise CameraError(f"camera {self._name}: a frame was asked for after close. Open the camera again.")
        first, self._first = self._first, None
        if first is not None:
            return first
        grabbed = self._next()
        if isinstance(grabbed, Frame) and grabbed.pixels.shape != (self._height_px, self._width_px):
            return self._lost(grabbed.index, "wrong_size", _sizes(grabbed, self._height_px, self._width_px))
        return grabbed

    def close(self) -> None:
        """Free the device; calling it again does nothing."""
        self._closed = True
        self._capture.release()

    def __enter__(self) -> OpenCvCamera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next(self) -> Frame | Lost | None:
        if not self._capture.grab():
            if self._settings.path is not None:
                return None
            raise CameraError(
                f"camera {self._name}: {self._source} ended, or was silent for "
                f"{self._settings.read_timeout_s} s, expected frames. "
                "Check the camera and its cable or network."
            )
        captured_ns = self._clock_ns()
        index = self._next_index
        self._next_index += 1
        decoded, picture = self._capture.retrieve()
        if not decoded:
            return self._lost(index, "unreadable", "it could not be decoded")
        try:
            pixels = to_grey(picture, self._settings.pixels, f"frame {index}")
        except CameraError as error:
            return self._lost(index, "unreadable", str(error))
        return Frame(self._name, index, captured_ns, pixels, math.nan)

    def _lost(self, index: int, reason: LostReason, detail: str) -> Lost:
        return Lost(self._name, index, index + 1, reason, f"{self._source}: {detail}")

    def _first_frame(self) -> Frame:
        """The frame that shows that the source works and what size it has."""
        first = self._next()
        if not isinstance(first, Frame):
            found = "no frame" if first is None else first.detail
            raise CameraError(
                f"camera {self._name}: found {found} in {self._source}, expected a first frame. "
                "Check that it is sending, and the settings of its pixels."
            )
        height_px = self._settings.height_px or first.pixels.shape[0]
        width_px = self._settings.width_px or first.pixels.shape[1]
        if first.pixels.shape != (height_px, width_px):
            raise CameraError(
                f"camera {self._name}: {self._source}: {_sizes(first, height_px, width_px)}. "
                "Set the camera, or height_px and width_px."
            )
        return first


def _sizes(frame: Frame, height_px: int, width_px: int) -> str:
    rows, cols = frame.pixels.shape
    return f"found frames of {rows} x {cols} pixels, expected {height_px} x {width_px}"


def _open(name: str, source: str, settings: OpenCvSettings) -> Any:
    """A `cv2.VideoCapture` that is open."""
    import cv2

    if settings.device is not None:
        capture = cv2.VideoCapture(source, cv2.CAP_V4L2)
        wishes = {
            cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*settings.fourcc) if settings.fourcc else None,
            cv2.CAP_PROP_FRAME_WIDTH: settings.width_px,
            cv2.CAP_PROP_FRAME_HEIGHT: settings.height_px,
            cv2.CAP_PROP_FPS: settings.rate_hz,
        }
        for wish, value in wishes.items():
            if value is not None:
                capture.set(wish, value)
    else:
        limits = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(settings.open_timeout_s * 1e3),
            cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(settings.read_timeout_s * 1e3),
        ]  # fmt: skip
        capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, limits)
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)  # `pixels` alone says how a picture is turned
    if not capture.isOpened():
        capture.release()
        raise CameraError(
            f"camera {name}: {source} cannot be opened, expected a video device, file or stream. "
            "Check that it exists, is not in use, and may be read."
        )
    return capture
