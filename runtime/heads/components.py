"""Connected parts of a class in one frame: the hot path of a defective strip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEVER = 256
"""A level that no pixel reaches."""

Keep = Callable[["NDArray[Any]", "NDArray[np.bool_]"], "NDArray[np.bool_]"]
"""Says which parts are worth having, from their areas in pixels and whether each touches the first or last row."""


@dataclass(frozen=True, slots=True)
class Part:
    """Pixels of one class that hang together in one frame, corners included.

    Attributes:
        class_id: 1-based class.
        first_row, first_col, stop_row, stop_col: Its box in the frame, half-open, in pixels.
        area_px: Its pixels.
        probability_sum: Sum of its pixels' class probability, 255 = 1.0.
        mask: (stop_row - first_row, stop_col - first_col) bool, its pixels inside the box.
    """

    class_id: int
    first_row: int
    first_col: int
    stop_row: int
    stop_col: int
    area_px: int
    probability_sum: int
    mask: NDArray[np.bool_]


def find_class(probability: NDArray[np.uint8], level: int, class_id: int, keep: Keep) -> list[Part]:
    """The connected parts of one class, from the top of the frame down.

    Args:
        probability: (H, W) uint8, C-contiguous, 255 = 1.0.
        level: Smallest value that counts, 1 to 255; `NEVER` for none.
        class_id: Goes into the parts.
        keep: Which parts to give; the others cost next to nothing.
    """
    if probability.max() < level:
        return []
    import cv2  # late: nothing but a defective frame needs it

    over = (probability >= level).view(np.uint8)
    left, top, width, height = cv2.boundingRect(over)
    # Defects fill a small part of a frame, and labelling costs what its input costs.
    crop = np.s_[top : top + height, left : left + width]
    _, labels, stats, _ = cv2.connectedComponentsWithStats(over[crop], connectivity=8, ltype=cv2.CV_32S)
    stats = stats[1:]  # the first is the background
    rows, heights = stats[:, cv2.CC_STAT_TOP] + top, stats[:, cv2.CC_STAT_HEIGHT]
    areas = stats[:, cv2.CC_STAT_AREA]
    touches = (rows == 0) | (rows + heights == probability.shape[0])
    parts: list[Part] = []
    for index in np.flatnonzero(keep(areas, touches)).tolist():
        col, row, cols, tall, area = stats[index].tolist()
        box = np.s_[row : row + tall, col : col + cols]
        mask = labels[box] == index + 1
        inside = probability[crop][box]
        parts.append(
            Part(
                class_id=class_id,
                first_row=top + row,
                first_col=left + col,
                stop_row=top + row + tall,
                stop_col=left + col + cols,
                area_px=area,
                probability_sum=int(inside.sum(where=mask, dtype=np.int64)),
                mask=mask,
            )
        )
    return sorted(parts, key=lambda part: (part.first_row, part.first_col))
