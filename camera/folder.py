"""A folder of pictures as a camera: one picture is one frame, and one that cannot be used is a named loss."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from camera.base import CameraError, Frame, Lost
from camera.config import FolderSettings
from camera.images import find_images, is_picture, natural_order, read_grey

_NS_PER_S = 1_000_000_000


class FolderCamera:
    """Delivers the pictures below a folder in natural order.

    A picture that cannot be read or has another size uses up its frame's number and is told as lost, with
    the file's name and the reason. A watched folder never ends: a new picture is taken once it has stopped
    growing, so that none is read while it is being written; of several, the earlier name goes first.

    Args:
        name: The camera's name in the line configuration.
        settings: Which folder, and how.
        clock_ns: A monotonic clock in nanoseconds.
        sleep_s: Waits for so many seconds.

    Raises:
        CameraError: No such folder, no picture in it that tells the size, or none at all.
    """

    def __init__(
        self,
        name: str,
        settings: FolderSettings,
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        sleep_s: Callable[[float], None] = time.sleep,
    ) -> None:
        self._name = name
        self._settings = settings
        self._clock_ns = clock_ns
        self._sleep_s = sleep_s
        self._closed = False
        self._next_index = 0
        paths = find_images(settings.path)
        self._arrivals = Arrivals(settings.path, settings.settle_s, taken=paths) if settings.watch else None
        self._paths = deque(paths)
        self._height_px, self._width_px = self._size(paths)

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

    def grab(self, timeout_s: float) -> Frame | Lost | None:
        """Read the next picture.

        Args:
            timeout_s: The longest wait for a new picture in a watched folder, in seconds.

        Returns:
            The picture, its path as `source`; a loss with the reason if it cannot be used; None after the
            last one of a folder that is not watched.

        Raises:
            TimeoutError: The watched folder has no new picture.
            CameraError: The camera was closed, or the watched folder is gone.
        """
        if self._closed:
            raise CameraError(f"camera {self._name}: a frame was asked for after close. Open the camera again.")
        if not self._paths:
            if self._arrivals is None:
                return None
            self._await_arrival(self._arrivals, timeout_s)
        path = self._paths.popleft()
        grabbed = self._read(path)
        index = self._next_index
        self._next_index += 1
        if isinstance(grabbed, Frame) and grabbed.pixels.shape != (self._height_px, self._width_px):
            rows, cols = grabbed.pixels.shape
            detail = (
                f"picture {path}: found {rows} x {cols} pixels, expected "
                f"{self._height_px} x {self._width_px}. Sort it into another folder."
            )
            return Lost(self._name, index, index + 1, "wrong_size", detail)
        return grabbed

    def close(self) -> None:
        """Take no more pictures; calling it again does nothing."""
        self._closed = True

    def __enter__(self) -> FolderCamera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, path: Path) -> Frame | Lost:
        index = self._next_index
        try:
            pixels = read_grey(path, pixels=self._settings.pixels)
        except CameraError as error:
            return Lost(self._name, index, index + 1, "unreadable", str(error))
        return Frame(self._name, index, self._clock_ns(), pixels, math.nan, str(path))

    def _await_arrival(self, arrivals: Arrivals, timeout_s: float) -> None:
        deadline_ns = self._clock_ns() + round(timeout_s * _NS_PER_S)
        while True:
            self._paths.extend(arrivals.settled(self._clock_ns()))
            left_ns = deadline_ns - self._clock_ns()
            if self._paths:
                return
            if left_ns <= 0:
                raise TimeoutError(f"camera {self._name}: no new picture after {timeout_s} s")
            self._sleep_s(min(self._settings.poll_s, left_ns / _NS_PER_S))

    def _size(self, paths: list[Path]) -> tuple[int, int]:
        """The size that the settings state, or that of the first picture that can be read."""
        if self._settings.height_px is not None and self._settings.width_px is not None:
            return self._settings.height_px, self._settings.width_px
        fault = f"camera {self._name}: found no picture in {self._settings.path}"
        for path in paths:
            first = self._read(path)
            if isinstance(first, Frame):
                height_px, width_px = first.pixels.shape
                return height_px, width_px
            fault = first.detail
        raise CameraError(
            f"{fault} Expected at least one readable picture below {self._settings.path}. Check the folder"
            f"{', or give height_px and width_px to wait for the first' if self._settings.watch else ''}."
        )


class Arrivals:
    """New pictures in a folder, each given once, after it has stopped growing.

    It looks again and again instead of listening: network shares, where inspection cameras like to write,
    tell nobody of a new file.

    Args:
        folder: Looked through at any depth.
        settle_s: A picture is complete once size and time have stood still for so long.
        taken: Pictures that are not new.
    """

    def __init__(self, folder: Path, settle_s: float, taken: list[Path]) -> None:
        self._folder = folder
        self._settle_ns = round(settle_s * _NS_PER_S)
        self._taken = set(taken)
        self._growing: dict[Path, tuple[tuple[int, int], int]] = {}  # what it looks like, and since when

    def settled(self, now_ns: int) -> list[Path]:
        """The pictures that are complete at `now_ns`, in natural order and none past one that still grows.

        Raises:
            CameraError: The folder is gone.
        """
        before, self._growing = self._growing, {}
        for path, look in self._look().items():
            look_before, since_ns = before.get(path, (None, 0))
            self._growing[path] = (look, since_ns if look == look_before else now_ns)
        complete: list[Path] = []
        for path in natural_order(self._growing):
            if now_ns - self._growing[path][1] < self._settle_ns:
                break
            complete.append(path)
        self._taken.update(complete)
        for path in complete:
            del self._growing[path]
        return complete

    def _look(self) -> dict[Path, tuple[int, int]]:
        """Size and time of every picture that has not been taken yet."""
        if not self._folder.is_dir():
            raise CameraError(f"folder {self._folder}: is gone, expected it to be watched. Restore it.")
        looks: dict[Path, tuple[int, int]] = {}
        for root, folders, files in os.walk(self._folder):
            folders[:] = [folder for folder in folders if not folder.startswith(".")]
            for file in files:
                path = Path(root, file)
                if path in self._taken or not is_picture(path, self._folder):
                    continue
                try:
                    status = path.stat()
                except OSError:
                    continue  # renamed or removed in this moment
                looks[path] = (status.st_size, status.st_mtime_ns)
        return looks
