"""From the bytes of a picture's file to what is to be said of it."""

from __future__ import annotations

import hashlib
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
    from runtime.pipeline import Answer, Answerer
    from runtime.sized_engines import SizedEngines

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


class MissedPictureError(Exception):
    """A picture that cannot be scored, and why."""

    def __init__(self, reason: MissedReason, detail: str) -> None:
        super().__init__(detail)
        self.reason: MissedReason = reason


class Scorer:
    """Scores pictures one by one, each on its own.

    Args:
        engines: The bundle's.
        answerer: The task's.
        pixels: How colour, depth and orientation become grey frames.
        max_pixels: Pixels of the largest picture.
        clock_ns: Monotonic clock.
    """

    def __init__(
        self,
        engines: SizedEngines,
        answerer: Answerer,
        pixels: PixelSettings = DEFAULT_PIXELS,
        max_pixels: int = 64_000_000,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._engines = engines
        self._answerer = answerer
        self._pixels = pixels
        self._max_pixels = max_pixels
        self._clock_ns = clock_ns

    def decode(self, picture: Picture) -> NDArray[np.uint8]:
        """The picture as the model takes it, (H, W) uint8.

        Raises:
            MissedPictureError: The bytes are no whole picture, or of a size that the bundle does not take.
        """
        try:
            pixels = decode_grey(picture.data, picture.source or "without a name", pixels=self._pixels)
        except CameraError as error:
            raise MissedPictureError("unreadable", str(error)) from error
        refusal = self._engines.refusal((pixels.shape[0], pixels.shape[1]))
        if refusal is None and pixels.size > self._max_pixels:
            refusal = f"found {pixels.size} pixels, expected at most {self._max_pixels}. Cut it, or raise max_pixels."
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
            pipeline = self._engines.open((pixels.shape[0], pixels.shape[1]))
            pending = pipeline.start(pixels[np.newaxis, np.newaxis])
            pipeline.advance(pending)
            (raw,) = pipeline.finish(pending)
        except EngineError as error:
            raise MissedPictureError("engine_failed", str(error)) from error
        stamps_ns["model"] = self._clock_ns()
        try:
            self._answerer.gap()
            answer = self._answerer.answer(frame, raw, facts)
        finally:
            pipeline.release(pending)
        stamps_ns["decide"] = self._clock_ns()
        return Score(answer, pixels, latency_ms(picture.came_ns, stamps_ns))
