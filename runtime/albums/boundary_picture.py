"""A micrograph with its traced boundaries on it: a pure function of the pixels and of the message."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from runtime.scored import BoundaryResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runtime.messages import Scored

VERDICT_BGR = {"accepted": (73, 132, 30), "rejected": (43, 57, 192), "unrated": (90, 90, 90)}
LINE_BGR = (40, 40, 230)
HEADER_PX, MARGIN_PX = 34, 8
LEAST_WIDTH_PX = 640
"""A smaller micrograph is enlarged by a whole factor, so that text and lines stay legible."""


def boundary_result(message: Scored) -> BoundaryResult:
    """The message's result.

    Raises:
        TypeError: It is of another task.
    """
    if not isinstance(message.result, BoundaryResult):
        raise TypeError(f"picture: found a result of the task {message.result.task!r}, expected 'boundary'.")
    return message.result


def traced(pixels: NDArray[np.uint8], lines: NDArray[np.bool_], factor: int = 1) -> NDArray[np.uint8]:
    """The micrograph with a red line wherever a boundary was traced.

    Args:
        pixels: (H, W) uint8.
        lines: (H, W) bool, one pixel wide; so they stay where the picture is not enlarged.
        factor: The result is so many times as large.

    Returns:
        (k H, k W, 3) uint8 in the order blue, green, red.
    """
    import cv2

    picture = np.repeat(pixels[..., None], 3, axis=2)
    if factor > 1:
        picture = np.asarray(cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC), np.uint8)
        lines = lines.repeat(factor, axis=0).repeat(factor, axis=1)
    picture[lines] = LINE_BGR
    return picture


def render_overlay(pixels: NDArray[np.uint8], message: Scored, heading: str) -> NDArray[np.uint8]:
    """The traced micrograph under a line that says verdict and figures.

    Args:
        pixels: (H, W) uint8.
        message: With a `BoundaryResult`.
        heading: Names the picture.

    Returns:
        (header + k H, max(k W, 640), 3) uint8 in the order blue, green, red, as `write_png` takes it.
    """
    import cv2

    result = boundary_result(message)
    factor = max(1, -(-LEAST_WIDTH_PX // pixels.shape[1]))
    picture = traced(pixels, result.lines.array() > 0, factor)
    canvas = np.full((HEADER_PX + picture.shape[0], picture.shape[1], 3), 255, np.uint8)
    canvas[:HEADER_PX] = VERDICT_BGR[message.verdict]
    canvas[HEADER_PX:] = picture
    said = "" if message.verdict == "unrated" else f"{message.verdict.upper()}   "
    plain = f"{said}{result.headline}   {heading}".encode("ascii", "replace").decode()  # the font has nothing else
    place = (MARGIN_PX, HEADER_PX - 12)
    cv2.putText(canvas, plain, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
    return canvas
