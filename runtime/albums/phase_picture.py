"""A micrograph with its phases on it: a pure function of the pixels and of the message."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.scored import PhaseResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runtime.messages import Scored

PHASE_RGB = ((255, 255, 255), (20, 150, 255), (255, 140, 0), (60, 190, 90), (200, 60, 200))
"""By label; the matrix is not tinted."""
VERDICT_RGB = {"accepted": (30, 132, 73), "rejected": (192, 57, 43), "unrated": (70, 78, 88)}
LEAST_SIDE_PX = 640
"""A smaller micrograph is enlarged by a whole factor, so that text and outlines stay legible."""
HEADER_PX, FOOTER_PX, MARGIN_PX = 32, 46, 10
_FILL_SHARE = 0.22
_INK, _PAPER = (32, 36, 40), (246, 247, 248)
_BAR_STEPS = (1.0, 2.0, 5.0)


def phase_result(message: Scored) -> PhaseResult:
    """The message's result.

    Raises:
        TypeError: It is of another task.
    """
    if not isinstance(message.result, PhaseResult):
        raise TypeError(f"picture: found a result of the task {message.result.task!r}, expected 'phase'.")
    return message.result


def marked(pixels: NDArray[np.uint8], labels: NDArray[np.uint8], factor: int = 1) -> NDArray[np.uint8]:
    """The micrograph with every phase but the matrix lightly tinted and outlined in its colour.

    Args:
        pixels: (H, W) uint8.
        labels: (H, W) uint8, the phase at each pixel.
        factor: The result is so many times as large.

    Returns:
        (k H, k W, 3) uint8 in the order red, green, blue.
    """
    import cv2

    picture: NDArray[Any] = np.repeat(pixels[..., None], 3, axis=2)
    present = [label for label in np.unique(labels).tolist() if label > 0]
    for label in present:
        place = labels == label
        colour = np.array(_colour(label), np.float32)
        picture[place] = (picture[place] * (1.0 - _FILL_SHARE) + colour * _FILL_SHARE).astype(np.uint8)
    if factor > 1:
        picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        labels = labels.repeat(factor, axis=0).repeat(factor, axis=1)
    picture = np.ascontiguousarray(picture)
    for label in present:
        contours, _ = cv2.findContours((labels == label).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, _colour(label), 1, cv2.LINE_AA)
    return picture


def render_overlay(pixels: NDArray[np.uint8], message: Scored, heading: str) -> NDArray[np.uint8]:
    """The marked micrograph between a line with the verdict and one with the fractions and a scale bar.

    Args:
        pixels: (H, W) uint8.
        message: With a `PhaseResult`.
        heading: Names the picture.

    Returns:
        (header + k H + footer, max(k W, 640), 3) uint8 in the order blue, green, red, as `write_png` takes it.
    """
    result = phase_result(message)
    factor = max(1, -(-LEAST_SIDE_PX // max(pixels.shape)))
    picture = marked(pixels, result.labels.array(), factor)
    width = max(LEAST_SIDE_PX, picture.shape[1])
    canvas = np.full((HEADER_PX + picture.shape[0] + FOOTER_PX, width, 3), _PAPER, np.uint8)
    canvas[:HEADER_PX] = VERDICT_RGB[message.verdict]
    left = (width - picture.shape[1]) // 2
    canvas[HEADER_PX : HEADER_PX + picture.shape[0], left : left + picture.shape[1]] = picture
    _write(canvas, f"{message.verdict.upper()}   {heading}", (MARGIN_PX, HEADER_PX - 11), (255, 255, 255))
    footer = canvas[-FOOTER_PX:]
    stop = _draw_scale_bar(footer, message.facts.mm_per_px, factor)
    _draw_fractions(footer, result, stop)
    return np.ascontiguousarray(canvas[..., ::-1])


def _draw_fractions(footer: NDArray[np.uint8], result: PhaseResult, stop: int) -> None:
    """A swatch and the figures for each phase, the last of them first: it is what was asked for."""
    import cv2

    col, line = MARGIN_PX, FOOTER_PX // 2 - 4
    for label in reversed(range(len(result.fractions))):
        each = result.fractions[label]
        half = "" if each.interval_percent is None else f" +- {each.interval_percent:.1f}"
        text = f"{each.phase} {each.fraction_percent:.1f}{half} %"
        cv2.rectangle(footer, (col, line - 11), (col + 13, line + 2), _colour(label), cv2.FILLED)
        cv2.rectangle(footer, (col, line - 11), (col + 13, line + 2), _INK, 1)
        _write(footer, text, (col + 20, line), _INK)
        col += 36 + _text_width(text)
        if col > stop:
            return
    if result.reason:
        _write(footer, f"not relied on: {result.reason}", (MARGIN_PX, FOOTER_PX - 8), VERDICT_RGB["rejected"], 0.38)
        return
    note = f"{result.fields} fields, 95 % interval of their mean (ASTM E562)" if result.fields > 1 else "one field"
    _write(footer, note, (MARGIN_PX, FOOTER_PX - 8), (110, 116, 122), 0.38)


def _draw_scale_bar(footer: NDArray[np.uint8], mm_per_px: float | None, factor: int) -> int:
    """A bar of a round length, about a sixth of the picture, at the right; returns the first column that it takes."""
    import cv2

    right = footer.shape[1] - MARGIN_PX
    if mm_per_px is None:
        text = "no scale known"
        left = right - _text_width(text, 0.42)
        _write(footer, text, (left, FOOTER_PX // 2 + 2), (110, 116, 122), 0.42)
        return left
    um_per_px = 1000.0 * mm_per_px / factor
    length_um = round_length(um_per_px * footer.shape[1] / 6.0)
    length_px = max(1, round(length_um / um_per_px))
    text = f"{length_um:g} um" if length_um < 1000.0 else f"{length_um / 1000.0:g} mm"
    left = right - max(length_px, _text_width(text))
    middle = FOOTER_PX - 14
    cv2.rectangle(footer, (right - length_px, middle), (right, middle + 4), _INK, cv2.FILLED)
    _write(footer, text, (right - length_px // 2 - _text_width(text) // 2, middle - 7), _INK)
    return left


def round_length(most: float) -> float:
    """The largest 1, 2 or 5 times a power of ten that is not above `most`.

    >>> round_length(69.0), round_length(0.3)
    (50.0, 0.2)
    """
    decade = 10.0 ** math.floor(math.log10(most))
    return max(step * decade for step in _BAR_STEPS if step * decade <= most * (1.0 + 1e-9))


def _colour(label: int) -> tuple[int, int, int]:
    return PHASE_RGB[0] if label == 0 else PHASE_RGB[1 + (label - 1) % (len(PHASE_RGB) - 1)]


def _text_width(text: str, scale: float = 0.5) -> int:
    import cv2

    return cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0]


def _write(
    canvas: NDArray[np.uint8], text: str, place: tuple[int, int], colour: tuple[int, int, int], scale: float = 0.5
) -> None:
    import cv2

    plain = text.encode("ascii", "replace").decode()  # the font has nothing else
    cv2.putText(canvas, plain, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)
