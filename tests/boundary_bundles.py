"""A tiny boundary bundle for tests: a real graph, in which dark is boundary (255 minus the level)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from runtime.spec import TensorSpec
from tests.tiny_bundle import darkness, write_tiny_bundle

SETTINGS: dict[str, Any] = {"certain": 0.5, "faint": 0.3, "min_length_px": 10, "min_grain_px": 12}
OUTPUT = TensorSpec(name="boundary_probability", dtype="uint8", shape=("N", 1, "H", "W"))


def make_boundary_bundle(folder: Path, *, settings: dict[str, Any] | None = None) -> Path:
    """Write a valid boundary bundle that takes pictures of any size, and give its folder."""
    frames = np.random.default_rng(1).integers(0, 256, (2, 1, 20, 30), dtype=np.uint8)
    return write_tiny_bundle(
        folder,
        darkness(OUTPUT),
        task="boundary",
        outputs=(OUTPUT,),
        golden={"frames": frames, OUTPUT.name: 255 - frames},
        limits={"line_loss": 0.005},
        settings=SETTINGS if settings is None else settings,
        metrics={"boundary_f1": 1.0},
    )
