"""The strip cascade's export: a gate and a segmenter."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from camera.steel.strip import SyntheticStrip
from export.tasks.base import ExportTask
from export.tasks.strip_graphs import ENDS
from export.tasks.strip_settings import StripChoices, choose_settings

GOLDEN_SEED = 70_001
"""A strip that nothing is trained or tested on."""
_SEARCHED = 60


def golden_frames(count: int, size_px: tuple[int, int]) -> NDArray[np.uint8]:
    """(count, 1, H, W) uint8 frames, so ordered that a few of them already say much.

    A clean one, then those that show most classes of defects not shown before, then as they come.
    """
    height_px, width_px = size_px
    strip = SyntheticStrip(GOLDEN_SEED, height_px=height_px, width_px=width_px)
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


def draw_frames(seed: int, count: int, size_px: tuple[int, int]) -> NDArray[np.uint8]:
    """(count, 1, H, W) uint8 frames of a strip, one after the other."""
    strip = SyntheticStrip(seed, height_px=size_px[0], width_px=size_px[1])
    return np.stack([strip.pixels(index)[None] for index in range(count)])


TASK = ExportTask(
    name="strip",
    graphs=ENDS,
    choices=StripChoices,
    settings=choose_settings,
    golden=golden_frames,
    golden_size_px=(256, 384),
    free_size=False,
    draw=draw_frames,
)
