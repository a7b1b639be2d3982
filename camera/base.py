"""What a camera gives, and what every camera driver must do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class CameraError(Exception):
    """A camera cannot be opened, or stopped delivering frames.

    The text names the camera, what was found, what was expected and what to do.
    """


@dataclass(frozen=True, slots=True)
class Frame:
    """One grabbed image, with what is needed to trace it back to the strip.

    Attributes:
        camera: Name of the camera in the line configuration.
        index: The camera's own frame counter; it only rises, and a gap is a loss.
        captured_ns: Monotonic clock at the end of exposure, in nanoseconds.
        pixels: (H, W) uint8, borrowed from the driver or the ring: copy it to keep it.
        position_m: Place along the strip of the frame's first row, in metres; NaN where nobody measures it.
        source: Where the picture came from (a file's path), empty for a live camera.
    """

    camera: str
    index: int
    captured_ns: int
    pixels: NDArray[np.uint8]
    position_m: float = math.nan
    source: str = ""


LostReason = Literal["camera_lost", "ring_full", "camera_outage", "unreadable", "wrong_size"]
"""Why frames never arrived: the camera's counter jumped, the ring had no room, the camera was away, a picture
could not be read or had another size."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Frames [first_index, stop_index) of the camera's counter that nobody will ever see, and why.

    Attributes:
        camera: Name of the camera in the line configuration.
        first_index: The first lost frame.
        stop_index: The frame after the last lost one.
        reason: In one word.
        detail: In words for a person: the file, the sizes, the seconds.
    """

    camera: str
    first_index: int
    stop_index: int
    reason: LostReason
    detail: str = ""


class Camera(Protocol):
    """A driver: it opens in its constructor, delivers frames in order, and closes once.

    The rows of a frame lie along the travel of the strip, its columns across the width, so that
    consecutive frames of a line camera continue each other downwards.
    """

    @property
    def name(self) -> str:
        """The camera's name in the line configuration."""
        ...

    @property
    def height_px(self) -> int:
        """Rows of every frame."""
        ...

    @property
    def width_px(self) -> int:
        """Columns of every frame."""
        ...

    def grab(self, timeout_s: float) -> Frame | Lost | None:
        """Wait for the next frame.

        Args:
            timeout_s: The longest wait in seconds.

        Returns:
            The next frame, whose pixels are borrowed until the next call; or what the driver knows to be lost
            in its place; None once the source has ended.

        Raises:
            TimeoutError: No frame came in time; the camera is still good and may be asked again.
            CameraError: The camera is lost, or its counter ran backwards.
        """
        ...

    def close(self) -> None:
        """Free the device; calling it again does nothing."""
        ...

    def __enter__(self) -> Camera: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class PlacingCamera(Camera, Protocol):
    """A camera whose driver can put pixels where it is told, as a frame grabber's DMA does.

    The ring then lends it the slot of the next frame, and nothing is left to copy once the exposure has ended.
    """

    def grab_into(self, pixels: NDArray[np.uint8], timeout_s: float) -> Frame | Lost | None:
        """As `grab`, into memory of the caller's.

        Args:
            pixels: (H, W) uint8, C-contiguous; the driver may write here until the call returns, whether or not a
                frame comes of it.
            timeout_s: The longest wait in seconds.

        Returns:
            As `grab`; a frame's pixels are this very array.

        Raises:
            TimeoutError, CameraError: As `grab`.
        """
        ...
