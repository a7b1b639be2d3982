"""The frames on which the ranges of a network's tensors are seen before it is quantised."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from camera.images import find_images, read_grey
from runtime.errors import ConfigError, DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from export.tasks.base import DrawFrames
    from runtime.spec import GraphSpec

SYNTHETIC = "synthetic"


@dataclass(frozen=True, slots=True)
class CalibrationFrames:
    """Frames, and where they came from.

    Attributes:
        source: As the user named them.
        frames: (1, H, W) uint8 each; of one size unless the graphs leave theirs free.
    """

    source: str
    frames: Sequence[NDArray[np.uint8]]

    @property
    def digest(self) -> str:
        """SHA-256 of sizes and pixels, in hex."""
        digest = hashlib.sha256()
        for frame in self.frames:
            digest.update(str(frame.shape).encode())
            digest.update(frame.tobytes())
        return digest.hexdigest()


def open_calibration(
    text: str, count: int, size_px: tuple[int, int], draw: DrawFrames | None, *, free_size: bool
) -> CalibrationFrames:
    """The frames that a user asks for.

    Args:
        text: `synthetic=SEED`, or a folder of frames.
        count: At most so many; of a folder, evenly spread.
        size_px: Rows and columns: of the graphs, or of what is drawn where they leave their size free.
        draw: The task's synthetic frames; None where it draws none.
        free_size: Whether frames may have any size.

    Raises:
        CameraError: A picture cannot be read.
        ConfigError: There is no such seed, or the task draws no frames.
        DataError: The folder has no picture, or one smaller than the graphs' frames.
    """
    kind, _, seed = text.partition("=")
    if kind != SYNTHETIC:
        return CalibrationFrames(text, _read(Path(text), count, None if free_size else size_px))
    if draw is None:
        raise ConfigError("quantise: found synthetic data for a task that draws none, expected a folder of frames.")
    if not seed.isdecimal():
        raise ConfigError(f"quantise: --data is {text!r}, expected synthetic=SEED with a whole number, or a folder.")
    return CalibrationFrames(f"{text}, {count} frames", list(draw(int(seed), count, size_px)))


def frame_size_px(graphs: Sequence[GraphSpec], otherwise: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns that the graphs fix, else those given."""
    for graph in graphs:
        height, width = graph.input.shape[2:]
        if isinstance(height, int) and isinstance(width, int):
            return height, width
    return otherwise


def _read(folder: Path, count: int, size_px: tuple[int, int] | None) -> list[NDArray[np.uint8]]:
    paths = find_images(folder) if folder.is_dir() else []
    if not paths:
        raise DataError(f"quantise: found no picture in {folder}, expected a folder of frames. Give another --data.")
    chosen = [paths[round(place)] for place in np.linspace(0, len(paths) - 1, min(count, len(paths)))]
    frames: list[NDArray[np.uint8]] = []
    for path in chosen:
        pixels = read_grey(path)
        if size_px is not None:
            if pixels.shape[0] < size_px[0] or pixels.shape[1] < size_px[1]:
                raise DataError(
                    f"quantise: found {path.name} of {pixels.shape[0]}x{pixels.shape[1]} px, expected at least "
                    f"{size_px[0]}x{size_px[1]}, the frames of the bundle. Give frames as the line's camera takes them."
                )
            pixels = pixels[: size_px[0], : size_px[1]]
        frames.append(np.ascontiguousarray(pixels)[None])
    return frames
