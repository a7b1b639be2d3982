"""A picture with its cracks and their tips on it: a pure function of the pixels and of the message.

Beside the picture stands the main tip enlarged, once as the camera saw it and once with what was found, so that a
person can tell whether the crack ends there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime import rle
from runtime.heads.crack_trace import trace_cracks
from runtime.scored import CrackResult, CrackTip

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runtime.messages import Scored

OUTLINE_RGB, SKELETON_RGB = (255, 210, 0), (0, 210, 255)
MAIN_RGB, TIP_RGB = (255, 45, 45), (255, 140, 20)
VERDICT_RGB = {"accepted": (30, 132, 73), "rejected": (192, 57, 43), "unrated": (70, 78, 88)}
LEAST_SIDE_PX = 480
"""A smaller picture is enlarged by a whole factor, so that text and outlines stay legible."""
PANEL_PX = 264
MOST_TIPS = 9
"""So many tips are numbered and listed; the others are marked, and counted below the list."""
_HEADER_PX, _FOOTER_PX, _MARGIN_PX, _LINE_PX = 32, 38, 12, 19
_CLOSE_PX, _CLOSE_FACTOR = 40, 6  # side of the enlarged piece, and how much it is enlarged
_COLUMN_PX = 285
_INK, _FAINT, _PAPER, _WHITE = (32, 36, 40), (110, 116, 122), (246, 247, 248), (255, 255, 255)

Rgb = tuple[int, int, int]


def crack_result(message: Scored) -> CrackResult:
    """The message's result.

    Raises:
        TypeError: It is of another task.
    """
    if not isinstance(message.result, CrackResult):
        raise TypeError(f"picture: found a result of the task {message.result.task!r}, expected 'crack'.")
    return message.result


def tips_in_order(result: CrackResult) -> list[CrackTip]:
    """All tips of a picture, the main one first, then crack by crack: the order in which they are numbered."""
    tips = [tip for crack in result.cracks for tip in crack.tips]
    return sorted(tips, key=lambda tip: not tip.main)


def marked(pixels: NDArray[np.uint8], result: CrackResult, factor: int = 1) -> NDArray[np.uint8]:
    """The picture with each crack outlined and its skeleton drawn.

    Args:
        pixels: (H, W) uint8.
        result: Of this picture.
        factor: The result is so many times as large.

    Returns:
        (k H, k W, 3) uint8 in the order red, green, blue.
    """
    import cv2

    picture: NDArray[Any] = np.repeat(pixels[..., None], 3, axis=2)
    mask = rle.decode(result.rle, (pixels.shape[0], pixels.shape[1]))
    if factor > 1:
        picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    picture = np.ascontiguousarray(picture)
    for crack in trace_cracks(mask.astype(np.uint8) * 255, 0.5):
        for row, col in (factor * crack.skeleton + factor // 2).tolist():
            half = max(0, factor // 4)
            picture[row - half : row + half + 1, col - half : col + half + 1] = SKELETON_RGB
    large = mask.repeat(factor, axis=0).repeat(factor, axis=1).astype(np.uint8)
    contours, _ = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, OUTLINE_RGB, 1)
    return picture


def render_overlay(pixels: NDArray[np.uint8], message: Scored, heading: str) -> NDArray[np.uint8]:
    """The marked picture, the main tip enlarged beside it, and the figures.

    Args:
        pixels: (H, W) uint8.
        message: With a `CrackResult`.
        heading: Names the picture.

    Returns:
        (h, w, 3) uint8 in the order blue, green, red, as `write_png` takes it.
    """
    result = crack_result(message)
    factor = max(1, -(-LEAST_SIDE_PX // max(pixels.shape)))
    picture = marked(pixels, result, factor)
    tips = tips_in_order(result)
    for number, tip in reversed(list(enumerate(tips, start=1))):
        _draw_tip(picture, tip, factor, str(number) if number <= MOST_TIPS else "")
    panel = _panel(pixels, result, tips)
    tall, wide = max(picture.shape[0] + _FOOTER_PX, panel.shape[0]), picture.shape[1] + PANEL_PX
    table = _table(list(_lines(result, tips, message.facts.mm_per_px is not None)), wide)
    canvas = np.full((_HEADER_PX + tall + table.shape[0], wide, 3), _PAPER, np.uint8)
    canvas[:_HEADER_PX] = VERDICT_RGB[message.verdict]
    canvas[_HEADER_PX : _HEADER_PX + picture.shape[0], : picture.shape[1]] = picture
    canvas[_HEADER_PX : _HEADER_PX + panel.shape[0], picture.shape[1] :] = panel
    canvas[_HEADER_PX + tall :] = table
    _write(canvas, f"{message.verdict.upper()}   {heading}", (_MARGIN_PX, _HEADER_PX - 11), _WHITE)
    footer = canvas[_HEADER_PX + picture.shape[0] :][:_FOOTER_PX, : picture.shape[1]]
    _draw_scale_bar(footer, message.facts.mm_per_px, factor)
    _write(footer, result.reason or result.headline, (_MARGIN_PX, 24), _INK, 0.44)
    return np.ascontiguousarray(canvas[..., ::-1])


def _panel(pixels: NDArray[np.uint8], result: CrackResult, tips: list[CrackTip]) -> NDArray[np.uint8]:
    """The main tip, seen and found; (h, PANEL_PX, 3) red, green, blue."""
    main = next((tip for tip in tips if tip.main), None)
    views = [] if main is None else list(_close_ups(pixels, result, main))
    side = _CLOSE_PX * _CLOSE_FACTOR
    panel = np.full((_MARGIN_PX + len(views) * (side + _LINE_PX + 4), PANEL_PX, 3), _PAPER, np.uint8)
    place = _MARGIN_PX
    for caption, view in views:
        panel[place : place + side, _MARGIN_PX : _MARGIN_PX + side] = view
        _write(panel, caption, (_MARGIN_PX, place + side + 14), _FAINT, 0.4)
        place += side + _LINE_PX + 4
    return panel


def _table(lines: list[tuple[str, Rgb]], wide: int) -> NDArray[np.uint8]:
    """The lines in as many columns as fit; (h, wide, 3) red, green, blue."""
    columns = max(1, (wide - _MARGIN_PX) // _COLUMN_PX)
    rows = -(-len(lines) // columns)
    table = np.full((rows * _LINE_PX + _MARGIN_PX, wide, 3), _PAPER, np.uint8)
    for number, (text, colour) in enumerate(lines):
        column, row = divmod(number, rows)
        _write(table, text, (_MARGIN_PX + column * _COLUMN_PX, row * _LINE_PX + 13), colour, 0.44)
    return table


def _close_ups(
    pixels: NDArray[np.uint8], result: CrackResult, tip: CrackTip
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """The surroundings of a tip, enlarged, their contrast stretched: as they are, and with what was found."""
    import cv2

    half = _CLOSE_PX // 2
    top, left = math.floor(tip.row_px) - half, math.floor(tip.col_px) - half
    box = np.s_[half + top : 3 * half + top, half + left : 3 * half + left]
    plain = np.pad(pixels, half, mode="edge")[box].astype(np.float32)
    dark, bright = np.percentile(plain, (0.5, 99.5))
    plain = np.clip((plain - dark) * (255.0 / max(1.0, float(bright - dark))), 0, 255).astype(np.uint8)
    large = cv2.resize(plain, None, fx=_CLOSE_FACTOR, fy=_CLOSE_FACTOR, interpolation=cv2.INTER_CUBIC)
    seen: NDArray[Any] = np.repeat(large[..., None], 3, axis=2)
    yield f"main tip, x{_CLOSE_FACTOR}, as seen", seen
    found = seen.copy()
    mask = np.pad(rle.decode(result.rle, (pixels.shape[0], pixels.shape[1])), half)[box]
    mask = mask.repeat(_CLOSE_FACTOR, axis=0).repeat(_CLOSE_FACTOR, axis=1).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(found, contours, -1, OUTLINE_RGB, 1)
    _draw_cross(found, (tip.row_px - top, tip.col_px - left), _CLOSE_FACTOR, MAIN_RGB, 11)
    yield "the same with mask and tip", found


def _lines(result: CrackResult, tips: list[CrackTip], scaled: bool) -> Iterator[tuple[str, Rgb]]:
    """The figures in words."""
    if not result.cracks:
        yield "no crack found", _INK
        return
    for crack in result.cracks[:4]:
        length = f"{crack.length_px:.0f} px" + (f" = {crack.length_mm:.2f} mm" if crack.length_mm is not None else "")
        yield f"crack {crack.crack_id}: length {length}", _INK
        width = f"{crack.mean_width_px:.1f} px" if crack.mean_width_mm is None else f"{crack.mean_width_mm:.3f} mm"
        yield f"  width {width}, at most {crack.max_width_px:.1f} px", _FAINT
    if len(result.cracks) > 4:
        yield f"and {len(result.cracks) - 4} smaller cracks", _FAINT
    yield f"tips (row, column){' in mm' if scaled else ' in px'}", _INK
    for number, tip in enumerate(tips[:MOST_TIPS], start=1):
        place = f"{tip.row_px:.1f}, {tip.col_px:.1f}"
        if tip.row_mm is not None and tip.col_mm is not None:
            place = f"{tip.row_mm:.2f}, {tip.col_mm:.2f}"
        yield f"{number}  {place}{'  main' if tip.main else ''}", MAIN_RGB if tip.main else _INK
    if len(tips) > MOST_TIPS:
        yield f"and {len(tips) - MOST_TIPS} more, marked", _FAINT
    if not tips:
        yield "none: the cracks run out of the picture", _FAINT


def _draw_tip(picture: NDArray[np.uint8], tip: CrackTip, factor: int, label: str) -> None:
    """A ring around a tip, with its number where it hides the least."""
    import cv2

    colour, radius = (MAIN_RGB, 11) if tip.main else (TIP_RGB, 7)
    row, col = (round((each + 0.5) * factor) for each in (tip.row_px, tip.col_px))
    cv2.circle(picture, (col, row), radius, colour, 2 if tip.main else 1, cv2.LINE_AA)
    right = col + radius + 3 if col + radius + 16 < picture.shape[1] else col - radius - 13
    place = right, min(picture.shape[0] - 4, max(12, row - radius))
    cv2.putText(picture, label, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, _INK, 3, cv2.LINE_AA)
    _write(picture, label, place, colour, 0.5)


def _draw_cross(picture: NDArray[np.uint8], place: tuple[float, float], factor: int, colour: Rgb, reach: int) -> None:
    """Two hairlines through a place, open in the middle."""
    row, col = (round((each + 0.5) * factor) for each in place)
    for near, far in ((3, reach), (-reach, -3)):
        picture[row + near : row + far + 1, col] = colour
        picture[row, col + near : col + far + 1] = colour


def _draw_scale_bar(footer: NDArray[np.uint8], mm_per_px: float | None, factor: int) -> None:
    """A bar of a round length, about a sixth of the picture, at the right."""
    import cv2

    unit, per_px = ("px", 1.0 / factor) if mm_per_px is None else ("mm", mm_per_px / factor)
    most = per_px * footer.shape[1] / 6.0
    decade = 10.0 ** math.floor(math.log10(most))
    length = max(step * decade for step in (1.0, 2.0, 5.0) if step * decade <= most * (1.0 + 1e-9))
    right, wide = footer.shape[1] - _MARGIN_PX, max(1, round(length / per_px))
    cv2.rectangle(footer, (right - wide, 26), (right, 30), _INK, cv2.FILLED)
    text = f"{length:g} {unit}"
    (size, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.44, 1)
    _write(footer, text, (right - wide // 2 - size // 2, 19), _INK, 0.44)


def _write(canvas: NDArray[np.uint8], text: str, place: tuple[int, int], colour: Rgb, scale: float = 0.5) -> None:
    import cv2

    plain = text.encode("ascii", "replace").decode()  # the font has nothing else
    cv2.putText(canvas, plain, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)
