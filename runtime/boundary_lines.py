"""From a map of boundary probability to lines one pixel wide, as one would trace them with a pencil."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BEYOND_PX = 8
"""How far a mask is drawn on beyond the picture's border: more than half the width of any line."""


def trace_lines(
    probability: NDArray[np.uint8], *, certain: float, faint: float, min_length_px: int
) -> NDArray[np.bool_]:
    """The lines of a picture: certain somewhere, and followed for as long as they are at least faint.

    A gap in a line joins two grains and lengthens intercepts, while a faint mark on its own is a scratch or a twin; so
    a boundary is begun by one threshold and carried on across its weak places by another (Canny's hysteresis), and
    thinned to its middle.

    Args:
        probability: (H, W) uint8, 255 = 1.0.
        certain: Probability, 0..1, that a line must reach somewhere.
        faint: Probability, 0..1, from which a line goes on; at most `certain`.
        min_length_px: Shorter lines that touch no other are dropped.

    Returns:
        (H, W) bool, one pixel wide.
    """
    from skimage.filters import apply_hysteresis_threshold
    from skimage.morphology import label

    # A threshold of t takes in the level 255 t itself, and the filter only what lies above it.
    lines = thinned(apply_hysteresis_threshold(probability, 255.0 * faint - 0.5, 255.0 * certain - 0.5))
    pieces = np.asarray(label(lines, connectivity=2))
    kept = np.bincount(pieces.ravel()) >= min_length_px
    kept[0] = False
    return np.asarray(kept[pieces], np.bool_)


def thinned(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The middle of lines drawn with any pen, so that two drawings are compared by where their lines run.

    Args:
        mask: (H, W) bool; a line that reaches the picture's border is taken to go on beyond, for a skeleton ends
            before its mask does, and grains would be joined around its end.

    Returns:
        (H, W) bool, lines of one pixel.

    >>> thinned(np.array([[False] * 9, *[[True] * 9] * 3, [False] * 9])).astype(int).tolist()[2]
    [1, 1, 1, 1, 1, 1, 1, 1, 1]
    """
    from skimage.morphology import skeletonize

    beyond = np.pad(mask, _BEYOND_PX, mode="edge")
    return np.asarray(skeletonize(beyond), np.bool_)[_BEYOND_PX:-_BEYOND_PX, _BEYOND_PX:-_BEYOND_PX].copy()
