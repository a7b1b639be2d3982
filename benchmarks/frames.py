"""Frames to measure with: synthetic steel, because what a gate passes on depends on content."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from camera.steel.strip import LEAST_SIZE_PX, SyntheticStrip

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runtime.spec import GraphSpec

STRIP_SIZE_PX = (256, 1600)
"""Rows and columns of a frame where neither the graph nor the user says: the paper's."""


def steel_frames(count: int, size: tuple[int, int], seed: int = 0, defects_per_frame: float = 0.7) -> NDArray[np.uint8]:
    """(count, 1, H, W) uint8 consecutive frames of a synthetic strip.

    Args:
        count: How many.
        size: Rows and columns; smaller ones than a strip can be drawn in are cut from the least strip.
        seed: Which strip.
        defects_per_frame: Mean number of defects that start in a frame.
    """
    height, width = size
    strip = SyntheticStrip(
        seed,
        height_px=max(height, LEAST_SIZE_PX),
        width_px=max(width, LEAST_SIZE_PX),
        defects_per_frame=defects_per_frame,
    )
    frames = np.empty((count, 1, height, width), np.uint8)
    for index in range(count):
        frames[index, 0] = strip.pixels(index)[:height, :width]
    return frames


def frame_size(graph: GraphSpec, asked: tuple[int, int] | None) -> tuple[int, int]:
    """Rows and columns to measure a graph with: its own, else those asked for, else the paper's.

    Raises:
        ValueError: The graph is made for another size than the one asked for.
    """
    wanted = asked or STRIP_SIZE_PX
    fixed = graph.input.shape[2:]
    height, width = (own if isinstance(own, int) else want for own, want in zip(fixed, wanted, strict=True))
    if asked is not None and (height, width) != asked:
        raise ValueError(f"found {asked[0]}x{asked[1]} px, expected {height}x{width}, the size of the graph")
    return height, width


DRAWN_FRAMES = 4
"""Different pictures of a task in a batch; a larger batch shows them again."""


def network_frames(task: str, count: int, size_px: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    """(count, 1, H, W) uint8 synthetic pictures such as a task's network is given.

    Args:
        task: As a bundle names it; one that is unknown here gets a strip.
        count: How many.
        size_px: Rows and columns.
        seed: Which strip.
    """
    from export.tasks import TASKS, export_task

    golden = {found.name: found.golden for found in map(export_task, TASKS)}.get(task)
    if task == "strip" or golden is None:
        return steel_frames(count, size_px, seed)
    drawn = golden(min(count, DRAWN_FRAMES), size_px)
    return np.ascontiguousarray(drawn[np.arange(count) % len(drawn)])
