"""A fracture surface with what was counted on it: a pure function of the pixels and of the message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.scored import FractureResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runtime.messages import Scored

BRITTLE_RGB = (255, 140, 0)
"""Orange: seen on bright and on dark steel, and told apart from green and red verdicts."""
BRITTLE_LEVEL = 128
"""Level of the activation from which a place is drawn as brittle."""
RATED_RGB = (0, 170, 255)
VERDICT_RGB = {"accepted": (30, 132, 73), "rejected": (192, 57, 43), "unrated": (110, 110, 110)}
HEADER_PX, MARGIN_PX = 30, 8
LEAST_WIDTH_PX = 640
"""A narrower picture gets a heading of this width, beside which the picture stands on white."""
_FILL_SHARE = 0.30
_DIM_SHARE = 0.45
_FONT_SCALE = 0.48


def activation_levels(result: FractureResult, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """The activation at every pixel, (H, W) uint8, 255 = wholly brittle."""
    import cv2

    height, width = shape
    return np.asarray(cv2.resize(result.activation.array(), (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def marked(pixels: NDArray[np.uint8], result: FractureResult) -> NDArray[np.uint8]:
    """The surface with brittle parts tinted and outlined, and what is not rated dimmed.

    Args:
        pixels: (H, W) uint8.
        result: What was said of them.

    Returns:
        (H, W, 3) uint8 in the order red, green, blue.
    """
    import cv2

    height, width = pixels.shape
    brittle = activation_levels(result, (height, width)) >= BRITTLE_LEVEL
    picture: NDArray[Any] = np.repeat(pixels[..., None], 3, axis=2).astype(np.float32)
    picture[brittle] += _FILL_SHARE * (np.array(BRITTLE_RGB, np.float32) - picture[brittle])
    box = result.rated_region
    if box is not None:
        outside = np.ones((height, width), np.bool_)
        outside[box.first_row : box.stop_row, box.first_col : box.stop_col] = False
        picture[outside] *= 1.0 - _DIM_SHARE
    picture = np.ascontiguousarray(picture.astype(np.uint8))
    contours, _ = cv2.findContours(brittle.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, BRITTLE_RGB, 1, cv2.LINE_AA)
    if box is not None:
        corner = box.stop_col - 1, box.stop_row - 1
        cv2.rectangle(picture, (box.first_col, box.first_row), corner, RATED_RGB, 2)
    return picture


def render_overlay(pixels: NDArray[np.uint8], message: Scored, heading: str) -> NDArray[np.uint8]:
    """The marked surface under a line that says the verdict and the figures.

    Args:
        pixels: (H, W) uint8.
        message: With a `FractureResult`.
        heading: Names the picture.

    Returns:
        (header + H, max(W, 640), 3) uint8 in the order blue, green, red, as `write_png` takes it.
    """
    import cv2

    result = fracture_result(message)
    picture = marked(pixels, result)
    width = max(LEAST_WIDTH_PX, picture.shape[1])
    canvas = np.full((HEADER_PX + picture.shape[0], width, 3), 255, np.uint8)
    canvas[:HEADER_PX] = VERDICT_RGB[message.verdict]
    canvas[HEADER_PX:, : picture.shape[1]] = picture
    figures = (
        f"brittle {100 * result.brittle_ratio:.1f} % of the whole"
        if result.shear_percent is None
        else f"shear {result.shear_percent:.1f} +- {result.uncertainty_percent:.1f} %"
    )
    text = f"{message.verdict.upper()}   {figures}   {heading}".encode("ascii", "replace").decode()
    place = (MARGIN_PX, HEADER_PX - 10)
    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, _FONT_SCALE, (255, 255, 255), 1, cv2.LINE_AA)
    return np.ascontiguousarray(canvas[..., ::-1])


def fracture_result(message: Scored) -> FractureResult:
    """The message's result.

    Raises:
        TypeError: It is of another task.
    """
    if not isinstance(message.result, FractureResult):
        raise TypeError(f"picture: found a result of the task {message.result.task!r}, expected 'fracture'.")
    return message.result
