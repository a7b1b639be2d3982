"""A frame with its defects drawn on it, for a person to look at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.albums.files import write_png
from runtime.messages import Defect
from runtime.rle import decode_union
from runtime.strip_map import CLASS_COLOURS

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_WIDTH_PX = 800
"""A narrower frame is enlarged by a whole factor, so that text and outlines stay legible."""

MOST_LABELS = 24
"""The largest defects get a label; the others are outlined and counted in the heading."""

HEADER_PX, MARGIN_PX = 34, 6
FILL_SHARE = 0.28
FONT_SCALE = 0.5
INK, PAPER, WHITE = (30, 30, 30), (240, 242, 244), (255, 255, 255)

Rect = tuple[int, int, int, int]
"""Left, top, right and bottom on the canvas."""


def draw_overlay(pixels: NDArray[np.uint8], defects: Sequence[Defect], path: Path, *, heading: str = "") -> None:
    """Write a frame with its defects as PNG; the folder is made if it does not exist.

    Args:
        pixels: (H, W) uint8.
        defects: As the frame's message names them.
        path: Where the picture goes.
        heading: Stands above the frame.
    """
    write_png(path, render_overlay(pixels, defects, heading=heading))


def render_overlay(pixels: NDArray[np.uint8], defects: Sequence[Defect], *, heading: str = "") -> NDArray[np.uint8]:
    """A frame with its defects: filled lightly and outlined in the class's colour, the largest labelled.

    Returns:
        (header + k H, k W, 3) uint8, blue, green, red; k enlarges narrow frames.
    """
    import cv2

    height, width = pixels.shape
    factor = -(-LEAST_WIDTH_PX // width) if width < LEAST_WIDTH_PX else 1
    frame: NDArray[Any] = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    masks = {
        class_id: decode_union([d.rle for d in defects if d.class_id == class_id], (height, width))
        for class_id in sorted({defect.class_id for defect in defects})
    }
    for class_id, mask in masks.items():
        frame[mask] = frame[mask] * (1 - FILL_SHARE) + np.array(_bgr(class_id)) * FILL_SHARE
    if factor > 1:
        frame = cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    for class_id, mask in masks.items():
        large = np.kron(mask, np.ones((factor, factor), dtype=bool)) if factor > 1 else mask
        contours, _ = cv2.findContours(large.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(frame, contours, -1, _bgr(class_id), 1, cv2.LINE_AA)
    by_size = sorted(defects, key=lambda defect: -defect.area_px)
    _draw_labels(frame, by_size[:MOST_LABELS], factor)
    unlabelled = len(by_size) - MOST_LABELS
    note = f"  (+{unlabelled} smaller, unlabelled)" if unlabelled > 0 else ""
    return np.concatenate((_header(frame.shape[1], heading + note, defects), frame)).astype(np.uint8, copy=False)


def _draw_labels(frame: NDArray[Any], defects: Iterable[Defect], factor: int) -> None:
    """Put `class probability` beside each box, where it hides no other label and stays in the frame."""
    import cv2

    taken: list[Rect] = []
    for defect in defects:
        text = f"{defect.class_name} {defect.probability:.2f}"
        (wide, tall), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, FONT_SCALE, 1)
        rect = _free_place(defect, factor, (wide + 8, tall + base + 4), frame.shape[:2], taken)
        taken.append(rect)
        left, top, right, bottom = rect
        colour = _bgr(defect.class_id)
        cv2.rectangle(frame, (left, top), (right - 1, bottom - 1), colour, cv2.FILLED)
        _text(frame, text, (left + 4, bottom - base - 2), _readable_on(colour))


def _free_place(
    defect: Defect, factor: int, size: tuple[int, int], canvas: tuple[int, int], taken: Sequence[Rect]
) -> Rect:
    """Above the box, below it, beside it; else the first of these moved down until it hides nothing."""
    wide, tall = size
    box = defect.box
    left, right = box.first_col * factor, box.stop_col * factor
    top, bottom = box.first_row * factor, box.stop_row * factor
    places = ((left, top - tall - 2), (left, bottom + 2), (right + 2, top), (left - wide - 2, top))
    rects = [_inside(left, top, wide, tall, canvas) for left, top in places]
    fits = [rect for rect, place in zip(rects, places, strict=True) if rect[:2] == (max(0, place[0]), max(0, place[1]))]
    for rect in (*fits, *rects):
        if not any(_overlap(rect, other) for other in taken):
            return rect
    for step in range(1, canvas[0] // (tall + 1)):
        rect = _inside(left, (top + step * (tall + 1)) % canvas[0], wide, tall, canvas)
        if not any(_overlap(rect, other) for other in taken):
            return rect
    return rects[0]


def _inside(left: int, top: int, wide: int, tall: int, canvas: tuple[int, int]) -> Rect:
    left, top = max(0, min(left, canvas[1] - wide)), max(0, min(top, canvas[0] - tall))
    return left, top, left + wide, top + tall


def _overlap(one: Rect, other: Rect) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _header(width: int, heading: str, defects: Sequence[Defect]) -> NDArray[np.uint8]:
    """A line with the heading on the left and the classes of the frame on the right."""
    import cv2

    header = np.full((HEADER_PX, width, 3), PAPER, dtype=np.uint8)
    line = HEADER_PX - 12
    counts: dict[tuple[int, str], int] = {}
    for defect in defects:
        key = defect.class_id, defect.class_name
        counts[key] = counts.get(key, 0) + 1
    right = width - MARGIN_PX
    for (class_id, name), count in sorted(counts.items(), reverse=True):
        text = f"{class_id} {name}" + (f" x{count}" if count > 1 else "")
        (wide, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, FONT_SCALE, 1)
        right -= wide
        _text(header, text, (right, line), INK)
        cv2.rectangle(header, (right - 20, line - 12), (right - 7, line + 1), _bgr(class_id), cv2.FILLED)
        right -= 36
    _text(header, _shortened(heading, right - MARGIN_PX), (MARGIN_PX, line), INK)
    return header


def _shortened(text: str, most_px: int) -> str:
    """The text, cut in its middle where it would run into the legend: both ends of a path tell most."""
    import cv2

    text = text.encode("ascii", "replace").decode()  # the font has nothing else
    shown, cut = text, len(text)
    while cut > 8:
        wide = cv2.getTextSize(shown, cv2.FONT_HERSHEY_SIMPLEX, FONT_SCALE, 1)[0][0]
        if wide <= most_px:
            break
        cut = min(cut - 1, int(cut * max(0, most_px) / wide))
        shown = f"{text[: cut // 2]}...{text[len(text) - cut // 2 :]}"
    return shown


def _text(canvas: NDArray[Any], text: str, place: tuple[int, int], colour: tuple[int, int, int]) -> None:
    import cv2

    text = text.encode("ascii", "replace").decode()
    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, FONT_SCALE, colour, 1, cv2.LINE_AA)


def _bgr(class_id: int) -> tuple[int, int, int]:
    colour = CLASS_COLOURS[(class_id - 1) % len(CLASS_COLOURS)]
    return int(colour[5:7], 16), int(colour[3:5], 16), int(colour[1:3], 16)


def _readable_on(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    blue, green, red = colour
    return INK if 0.114 * blue + 0.587 * green + 0.299 * red > 150 else WHITE
