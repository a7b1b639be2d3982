"""A micrograph under its map of the grain size number: a pure function of the pixels and of the message."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from runtime.scored import GrainResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runtime.messages import Scored

VERDICT_RGB = {"accepted": (30, 132, 73), "rejected": (192, 57, 43), "unrated": (90, 90, 90)}
HEADER_PX, BAR_PX, MARGIN_PX = 34, 84, 8
LEAST_WIDTH_PX = 640
_TINT = 0.38
_LEAST_RANGE_G = 3.0  # so that the noise of an even specimen does not fill the whole bar
_SMOOTH_CELLS = 1.6
_FONT_SCALE = 0.5


def map_numbers(result: GrainResult) -> NDArray[np.float64]:
    """G at each cell of the published map, (h, w)."""
    return result.map_first + result.map_step * result.grain_map.array().astype(np.float64)


def bar_range(numbers: NDArray[np.floating]) -> tuple[float, float]:
    """The first and last G of the colour bar: whole numbers about the map, at least three apart."""
    low, high = math.floor(float(numbers.min())), math.ceil(float(numbers.max()))
    missing = max(0.0, _LEAST_RANGE_G - (high - low))
    return low - math.ceil(missing / 2), high + math.floor(missing / 2)


def tinted(pixels: NDArray[np.uint8], result: GrainResult) -> NDArray[np.uint8]:
    """The micrograph under its map: coarse grain violet, fine grain yellow, as the bar beside it says.

    Args:
        pixels: (H, W) uint8.
        result: What was said of them.

    Returns:
        (H, W + bar, 3) uint8 in the order blue, green, red.
    """
    import cv2

    height, width = pixels.shape
    # A cell sees one grain at a time where grain is coarse; what is shown is the neighbourhood's.
    blurred = cv2.GaussianBlur(map_numbers(result).astype(np.float32), (0, 0), _SMOOTH_CELLS)
    numbers = np.asarray(blurred, np.float32)
    low, high = bar_range(numbers)
    smooth = cv2.resize(numbers, (width, height), interpolation=cv2.INTER_LINEAR)
    colours = _colours((smooth - low) / (high - low)).astype(np.float32)
    # Colour only, no light: the grains stay as bright as they are.
    grey = pixels.astype(np.float32)[..., None]
    light = colours.mean(axis=2, keepdims=True)
    shown = (1.0 - _TINT) * grey + _TINT * colours * (0.35 + 0.65 * grey / np.maximum(light, 40.0))
    picture = np.full((height, width + BAR_PX, 3), 255, np.uint8)
    picture[:, :width] = np.clip(shown, 0, 255).astype(np.uint8)
    _draw_bar(picture, width, (low, high), result.grain_number)
    return picture


def render_overlay(pixels: NDArray[np.uint8], message: Scored, heading: str) -> NDArray[np.uint8]:
    """The tinted micrograph under a line that says verdict and figures.

    Args:
        pixels: (H, W) uint8.
        message: With a `GrainResult`.
        heading: Names the picture.

    Returns:
        (header + H, max(W + bar, 640), 3) uint8 in the order blue, green, red, as `write_png` takes it.
    """
    import cv2

    result = grain_result(message)
    picture = tinted(pixels, result)
    canvas = np.full((HEADER_PX + picture.shape[0], max(LEAST_WIDTH_PX, picture.shape[1]), 3), 255, np.uint8)
    canvas[:HEADER_PX] = VERDICT_RGB[message.verdict][::-1]
    canvas[HEADER_PX:, : picture.shape[1]] = picture
    said = "" if message.verdict == "unrated" else f"{message.verdict.upper()}   "
    mixed = f"   INHOMOGENEOUS: fields differ by {result.spread:.1f}" if result.inhomogeneous else ""
    text = f"{said}ASTM G {result.grain_number:.1f} +- {result.uncertainty:.1f}{mixed}   {heading}"
    text += f"   ({result.reason})" if result.reason else ""
    place = (MARGIN_PX, HEADER_PX - 12)
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(canvas, plain, place, cv2.FONT_HERSHEY_SIMPLEX, _FONT_SCALE, (255, 255, 255), 1, cv2.LINE_AA)
    return canvas


def grain_result(message: Scored) -> GrainResult:
    """The message's result.

    Raises:
        TypeError: It is of another task.
    """
    if not isinstance(message.result, GrainResult):
        raise TypeError(f"picture: found a result of the task {message.result.task!r}, expected 'grain'.")
    return message.result


def _colours(share: NDArray[np.floating]) -> NDArray[np.uint8]:
    """(h, w, 3) uint8, blue, green, red, of shares 0..1 along the bar."""
    import cv2

    levels = np.rint(np.clip(share, 0.0, 1.0) * 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS), np.uint8)


def _draw_bar(picture: NDArray[np.uint8], left: int, span: tuple[float, float], number: float) -> None:
    """The colour bar with a tick at every grade, and a mark at the picture's own."""
    import cv2

    height = picture.shape[0]
    top, bottom = 2 * MARGIN_PX, height - 2 * MARGIN_PX
    if bottom - top < 40:
        return
    bar = _colours(np.linspace(1.0, 0.0, bottom - top)[:, None].repeat(18, axis=1))
    first = left + MARGIN_PX
    picture[top:bottom, first : first + 18] = bar
    row_of = lambda grade: round(bottom - (grade - span[0]) / (span[1] - span[0]) * (bottom - top))  # noqa: E731
    for grade in range(int(span[0]), int(span[1]) + 1):
        row = row_of(grade)
        cv2.line(picture, (first + 18, row), (first + 24, row), (60, 60, 60), 1)
        label = f"G {grade}" if grade == int(span[1]) else f"{grade}"
        cv2.putText(picture, label, (first + 28, row + 5), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (40, 40, 40), 1, cv2.LINE_AA)
    if span[0] <= number <= span[1]:
        tip = (first - 1, row_of(number))
        corners = np.array([tip, (tip[0] - 6, tip[1] - 5), (tip[0] - 6, tip[1] + 5)], np.int32)
        cv2.fillPoly(picture, [corners], (0, 0, 0))
