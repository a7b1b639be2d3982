"""The frames on which torch and the graphs are compared: synthetic strip, so that they belong to nobody."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from camera.steel.strip import SyntheticStrip

GOLDEN_SEED = 70_001
"""A strip that nothing is trained or tested on."""
FREE_SIZE_PX = (256, 384)
"""Size of the golden frames where a graph leaves its own free."""
_SEARCHED = 60


def synthetic_frames(count: int, size_px: tuple[int, int], seed: int = GOLDEN_SEED) -> NDArray[np.uint8]:
    """(count, 1, H, W) uint8 frames, so ordered that a few of them already say much.

    A clean one, then those that show most classes of defects not shown before, then as they come.
    """
    height_px, width_px = size_px
    strip = SyntheticStrip(seed, height_px=height_px, width_px=width_px)
    shown = {
        index: frozenset(each.class_id for each in strip.planted(index, index + 1))
        for index in range(max(_SEARCHED, count))
    }
    chosen = [next((index for index, classes in shown.items() if not classes), 0)]
    while len(chosen) < count:
        seen = frozenset().union(*(shown[index] for index in chosen))
        rest = [index for index in shown if index not in chosen]
        chosen.append(max(rest, key=lambda index: (len(shown[index] - seen), -index)))
    return np.stack([strip.pixels(index)[None] for index in chosen[:count]])
