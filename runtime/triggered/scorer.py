"""From the bytes of a picture's file to what is to be said of it."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from camera.base import CameraError, Frame
from camera.images import DEFAULT_PIXELS, PixelSettings, decode_grey
from runtime.errors import ConfigError, EngineError
from runtime.loop import latency_ms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runtime.facts import Facts
    from runtime.messages import MissedReason
    from runtime.pipeline import Answer
    from runtime.serving import Serving
    from runtime.sized_engines import SizedEngines

log = logging.getLogger(__name__)

LONGEST_NAME = 100
"""Characters of a picture's own name that stay in the name of the file that keeps it."""

CAMERA = "trigger"
"""What stands for the camera's name where the pictures come one by one."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture's file.

    Attributes:
        source: What the messages call it.
        data: The bytes of the file.
        image_sha256: Of the bytes, in hex; what tells one picture from another.
        came_ns: Monotonic time at which its turn came.
        read_ns: Monotonic time at which its bytes were there.
    """

    source: str
    data: bytes
    image_sha256: str
    came_ns: int
    read_ns: int

    @classmethod
    def of(cls, source: str, data: bytes, came_ns: int, clock_ns: Callable[[], int]) -> Picture:
        """From the bytes."""
        return cls(source, data, hashlib.sha256(data).hexdigest(), came_ns, clock_ns())


@dataclass(frozen=True, slots=True)
class Score:
    """What is to be said of a picture.

    Attributes:
        answer: Makes the message.
        pixels: (H, W) uint8, the picture as the model saw it.
        latency_ms: By stage, and 'total'.
    """

    answer: Answer
    pixels: NDArray[np.uint8]
    latency_ms: Mapping[str, float]


def keep_picture(picture: Picture, folder: Path) -> Picture:
    """Keep a picture that came without a file; gives it with the file as its source.

    Raises:
        ConfigError: The folder cannot be written.
    """
    path = folder / f"{picture.image_sha256[:16]}_{Path(picture.source).name[-LONGEST_NAME:] or 'picture'}"
    if not path.exists():
        half = path.with_name(f".{path.name}.part")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            half.write_bytes(picture.data)
            half.replace(path)
        except OSError as error:
            raise ConfigError(
                f"picture {path}: {error.strerror}, expected a folder that keeps pictures. Make room, or change 'keep'."
            ) from error
    return replace(picture, source=str(path))


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """How large a picture may be.

    Attributes:
        max_pixels: Rows times columns at most.
        min_side_px: Rows and columns at least.
    """

    max_pixels: int = 16_000_000
    min_side_px: int = 32

    def refusal(self, shape: tuple[int, int]) -> str | None:
        """Why a picture of so many rows and columns is not taken; None where it is."""
        found = f"found {shape[0]}x{shape[1]} pixels (rows x columns)"
        if shape[0] * shape[1] > self.max_pixels:
            return f"{found}, expected at most {self.max_pixels} in all. Cut it, or raise max_pixels."
        if min(shape) < self.min_side_px:
            return f"{found}, expected at least {self.min_side_px} of each. Use a whole picture, or lower min_side_px."
        return None


class MissedPictureError(Exception):
    """A picture that cannot be scored, and why."""

    def __init__(self, reason: MissedReason, detail: str) -> None:
        super().__init__(detail)
        self.reason: MissedReason = reason


class Scorer:
    """Scores pictures one by one, each on its own.

    Args:
        serving: The bundle that scores; another one may be put in its place between two pictures.
        pixels: How colour, depth and orientation become grey frames.
        limits: How large a picture may be, whatever the graphs take.
        clock_ns: Monotonic clock.
    """

    def __init__(
        self,
        serving: Serving[SizedEngines],
        pixels: PixelSettings = DEFAULT_PIXELS,
        limits: PictureLimits | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.serving = serving
        self._pixels = pixels
        self._limits = limits or PictureLimits()
        self._clock_ns = clock_ns

    def keep_awake(self) -> None:
        """See `runtime.engine.Engine.keep_awake`."""
        self.serving.engines.keep_awake()

    def decode(self, picture: Picture) -> NDArray[np.uint8]:
        """The picture as the model takes it, (H, W) uint8.

        Raises:
            MissedPictureError: The bytes are no whole picture, or of a size that the bundle does not take.
        """
        try:
            pixels = decode_grey(picture.data, picture.source or "without a name", pixels=self._pixels)
        except CameraError as error:
            raise MissedPictureError("unreadable", str(error)) from error
        shape = (pixels.shape[0], pixels.shape[1])
        refusal = self.serving.engines.refusal(shape) or self._limits.refusal(shape)
        if refusal is not None:
            raise MissedPictureError("wrong_size", f"picture {picture.source}: {refusal}")
        return pixels

    def score(self, picture: Picture, pixels: NDArray[np.uint8], index: int, facts: Facts) -> Score:
        """Run the model on a decoded picture.

        Args:
            picture: Where it came from.
            pixels: (H, W) uint8, as `decode` gave it.
            index: Its number in the run.
            facts: What is known of it.

        Raises:
            MissedPictureError: The model failed.
        """
        stamps_ns = {"read": picture.read_ns, "decode": self._clock_ns()}
        frame = Frame(CAMERA, index, picture.came_ns, pixels, math.nan, picture.source)
        try:
            pipeline = self.serving.engines.open((pixels.shape[0], pixels.shape[1]))
            pending = pipeline.start(pixels[np.newaxis, np.newaxis])
            pipeline.advance(pending)
            (raw,) = pipeline.finish(pending)
        except EngineError as error:
            raise MissedPictureError("engine_failed", str(error)) from error
        stamps_ns["model"] = self._clock_ns()
        try:
            self.serving.answerer.gap()
            answer = self.serving.answerer.answer(frame, raw, facts)
        except Exception as error:
            # One odd picture must not stop the station, which would meet it again at each start.
            log.exception("picture %s", picture.source)
            fault = f"picture {picture.source}: its answer failed: {type(error).__name__}: {error}. Report it."
            raise MissedPictureError("engine_failed", fault) from error
        finally:
            pipeline.release(pending)
        stamps_ns["decide"] = self._clock_ns()
        return Score(answer, pixels, latency_ms(picture.came_ns, stamps_ns))
