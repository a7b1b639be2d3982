"""A tiny phase bundle for tests: a real graph, in which dark is pearlite.

A pixel is pearlite where the mean of the 5 x 5 pixels around it is below 128. Beyond the picture is black, but its last
row and column are repeated first where their numbers are odd, as the lab's networks do up to multiples of their stride.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from scipy.ndimage import uniform_filter

from runtime.spec import TensorSpec
from tests.tiny_bundle import tiny_model, write_tiny_bundle

RADIUS_PX = 2
SETTINGS: dict[str, Any] = {
    "phase_names": ["ferrite", "pearlite"],
    "tile_px": 32,
    "radius_px": RADIUS_PX,
    "stride_px": 2,
    "field_px": 16,
}
OUTPUTS = (TensorSpec(name="phase", dtype="uint8", shape=("N", "H", "W")),)


def labels_of(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What the bundle says of a whole picture (H, W)."""
    height, width = picture.shape
    even = np.pad(picture.astype(np.float64), ((0, height % 2), (0, width % 2)), mode="edge")
    mean = uniform_filter(even, size=2 * RADIUS_PX + 1, mode="constant")[:height, :width]
    return (mean < 128.0 - 1e-3).astype(np.uint8)


def make_phase_bundle(folder: Path, *, name: str = "tiny-phase", settings: dict[str, Any] | None = None) -> Path:
    """Write a valid phase bundle that takes pictures of any size, and give its folder."""
    frames = np.random.default_rng(1).integers(0, 256, (2, 1, 20, 30), dtype=np.uint8)
    return write_tiny_bundle(
        folder,
        _model(),
        task="phase",
        name=name,
        outputs=OUTPUTS,
        golden={"frames": frames, "phase": np.stack([labels_of(frame[0]) for frame in frames])},
        limits={"pixel_disagreement": 0.002},
        settings=SETTINGS if settings is None else settings,
        metrics={"mean_iou": 1.0},
    )


def _model() -> onnx.ModelProto:
    side = 2 * RADIUS_PX + 1
    nodes = [
        helper.make_node("Cast", ["frames"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["grey", "mean"], ["level"], pads=[RADIUS_PX] * 4),
        helper.make_node("Less", ["level", "threshold"], ["dark"]),
        helper.make_node("Squeeze", ["dark", "channel"], ["plane"]),
        helper.make_node("Cast", ["plane"], ["phase"], to=TensorProto.UINT8),
    ]
    constants = {
        "mean": np.full((1, 1, side, side), 1.0 / side**2, np.float32),
        "threshold": np.array(128.0 - 1e-3, np.float32),  # sums of grey levels lie 1/25 apart: none falls on it
        "channel": np.array([1], np.int64),
    }
    return tiny_model(nodes, constants, OUTPUTS)
