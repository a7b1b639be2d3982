"""From a map of boundary probability to lines one pixel wide, as one would trace them with a pencil."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BEYOND_PX = 8
"""How far a mask is drawn on beyond the picture's border: more than half the width of any line."""


def trace_lines(
    probability: NDArray[np.uint8], *, certain: float, faint: float, min_length_px: int, min_grain_px: int = 0
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
        min_grain_px: Smaller holes in the lines are speckle, and no grains.

    Returns:
        (H, W) bool, one pixel wide.
    """
    from skimage.filters import apply_hysteresis_threshold

    # A threshold of t takes in the level 255 t itself, and the filter only what lies above it.
    mask = apply_hysteresis_threshold(probability, 255.0 * faint - 0.5, 255.0 * certain - 0.5)
    lines = thinned(~_parts_of(~mask, min_grain_px, connectivity=1))
    return _parts_of(lines, min_length_px, connectivity=2)


def _parts_of(mask: NDArray[np.bool_], least_px: int, connectivity: int) -> NDArray[np.bool_]:
    """The connected parts of a mask that have so many pixels."""
    from skimage.morphology import label

    parts = np.asarray(label(mask, connectivity=connectivity))
    kept = np.bincount(parts.ravel()) >= least_px
    kept[0] = False
    return np.asarray(kept[parts], np.bool_)


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
