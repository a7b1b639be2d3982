"""A tiny crack bundle for tests: a real graph, in which dark is crack (255 minus the level)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.spec import TensorSpec
from tests.tiny_bundle import darkness, write_tiny_bundle

SETTINGS: dict[str, Any] = {"pixel_threshold": 0.7, "min_size_px": 20, "min_branch_px": 8.0}
OUTPUT = TensorSpec(name="crack_probability", dtype="uint8", shape=("N", 1, "H", "W"))
STEEL_GREY, CRACK_GREY = 160, 10


def cracked(tip_col: int = 60, height: int = 64, width: int = 96) -> NDArray[np.uint8]:
    """(height, width) uint8: steel with a straight crack of 3 px from the left border to a column, in the middle."""
    pixels = np.full((height, width), STEEL_GREY, np.uint8)
    pixels[::7, ::5] -= 12
    middle = height // 2
    pixels[middle - 1 : middle + 2, : tip_col + 1] = CRACK_GREY
    return pixels


def make_crack_bundle(folder: Path, *, name: str = "tiny-crack", settings: dict[str, Any] | None = None) -> Path:
    """Write a valid crack bundle that takes pictures of any size, and give its folder."""
    frames = np.stack([cracked(tip)[np.newaxis] for tip in (20, 50, 80)])
    return write_tiny_bundle(
        folder,
        darkness(OUTPUT),
        task="crack",
        name=name,
        outputs=(OUTPUT,),
        golden={"frames": frames, OUTPUT.name: 255 - frames},
        limits={"tip_px": 1.0},
        settings=SETTINGS if settings is None else settings,
        metrics={"mean_iou": 1.0},
    )
