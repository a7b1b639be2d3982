"""Connected parts of a class in one frame: the hot path of a defective strip."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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


def warm_up() -> None:
    """Load what `find_class` loads late, so that a line's first defective frame does not wait for it."""
    find_class(np.full((1, 1), 255, dtype=np.uint8), 1, 1, lambda areas, touches: touches & (areas > 0))


def find_class(probability: NDArray[np.uint8], level: int, class_id: int, keep: Keep) -> list[Part]:
    """The connected parts of one class, from the top of the frame down.

    Args:
        probability: (H, W) uint8, C-contiguous, 255 = 1.0.
        level: Smallest value that counts, 1 to 255; `NEVER` for none.
        class_id: Goes into the parts.
        keep: Which parts to give; it is asked once a frame, and what it drops costs next to nothing.
    """
    if probability.max() < level:
        return []
    islands = list(_islands(probability, level))
    kept = keep(
        np.concatenate([island.areas for island in islands]),
        np.concatenate([island.touches(len(probability)) for island in islands]),
    )
    parts: list[Part] = []
    first = 0
    for island in islands:
        stop = first + len(island.areas)
        for row, col, mask in island.masks(np.flatnonzero(kept[first:stop]).tolist()):
            box = np.s_[row : row + mask.shape[0], col : col + mask.shape[1]]
            parts.append(
                Part(
                    class_id=class_id,
                    first_row=row,
                    first_col=col,
                    stop_row=box[0].stop,
                    stop_col=box[1].stop,
                    area_px=int(np.count_nonzero(mask)),
                    # Ten times faster than a sum over a selection.
                    probability_sum=int((probability[box] * mask).sum(dtype=np.int64)),
                    mask=mask,
                )
            )
        first = stop
    return sorted(parts, key=lambda part: (part.first_row, part.first_col))


@dataclass(frozen=True, slots=True)
class _Island:
    """A stretch of columns with empty ones on both sides: no part reaches out of it.

    Attributes:
        first_row, first_col: Where its box begins in the frame.
        over: (h, w) bool, the pixels that count.
        labels: (h, w) int32, the part of each pixel from 1; None if all are of one part.
        areas: Pixels of each part.
    """

    first_row: int
    first_col: int
    over: NDArray[np.bool_]
    labels: NDArray[Any] | None
    areas: NDArray[Any]

    @classmethod
    def label(cls, over: NDArray[np.bool_], first_row: int, first_col: int) -> _Island:
        """Number the parts of what counts, corners joining them."""
        import cv2  # late: nothing but a defective frame needs it

        count, labels = cv2.connectedComponents(over.view(np.uint8), connectivity=8, ltype=cv2.CV_32S)
        # Areas are counted here: asking OpenCV for its statistics costs several times what labelling does.
        if count == 2:
            labels, areas = None, np.array([np.count_nonzero(over)])
        else:
            areas = np.bincount(labels.ravel(), minlength=count)[1:]
        return cls(first_row, first_col, over, labels, areas)

    def touches(self, height_px: int) -> NDArray[np.bool_]:
        """Which parts lie in the first or last row of a frame of that many rows."""
        touching = np.zeros(len(self.areas) + 1, dtype=bool)
        for row, there in ((0, self.first_row == 0), (-1, self.first_row + len(self.over) == height_px)):
            if there:
                touching[1 if self.labels is None else self.labels[row]] = True
        return touching[1:]

    def masks(self, wanted: list[int]) -> Iterator[tuple[int, int, NDArray[np.bool_]]]:
        """First row, first column and tight mask of some of its parts, counted from 0."""
        if self.labels is None:
            if wanted:
                yield self.first_row, self.first_col, self.over
            return
        if not wanted:
            return
        rows, cols = np.nonzero(self.labels)
        parts = self.labels[rows, cols]
        edges = []
        for places, extreme in ((rows, np.minimum), (cols, np.minimum), (rows, np.maximum), (cols, np.maximum)):
            edge = np.full(len(self.areas) + 1, -1 if extreme is np.maximum else 2**31 - 1)
            extreme.at(edge, parts, places)
            edges.append(edge)
        for number in wanted:
            top, left, bottom, right = (int(edge[number + 1]) for edge in edges)
            mask = self.labels[top : bottom + 1, left : right + 1] == number + 1
            yield self.first_row + top, self.first_col + left, mask


def _islands(probability: NDArray[np.uint8], level: int) -> Iterator[_Island]:
    """The stretches of columns with pixels that count, cut to their rows, from the left.

    Defects fill a small part of a frame, and all but the search for these columns costs what they cost.
    """
    edges = np.flatnonzero(np.diff(probability.max(axis=0) >= level, prepend=False, append=False))
    for first, stop in edges.reshape(-1, 2).tolist():
        over = probability[:, first:stop] >= level
        rows = np.flatnonzero(over.any(axis=1))
        top = int(rows[0])
        yield _Island.label(over[top : int(rows[-1]) + 1], top, first)
