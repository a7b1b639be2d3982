"""A tiny fracture bundle for tests: a real graph, in which bright is brittle.

The activation of a cell of 8 x 8 px is its mean grey level / 255, and the ratio is the mean of the map.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from runtime.spec import TensorSpec
from tests.tiny_bundle import ANY_SIZE, SizePx, tiny_model, write_tiny_bundle

CELL_PX = 8
SETTINGS: dict[str, Any] = {"cell_px": CELL_PX, "uncertainty_floor_percent": 2.0, "uncertainty_per_soft": 0.1}
OUTPUTS = (
    TensorSpec(name="brittle_ratio", dtype="float32", shape=("N",)),
    TensorSpec(name="activation", dtype="float32", shape=("N", "h", "w")),
)


def surface(brittle_ratio: float, seed: int, height: int = 64, width: int = 96) -> NDArray[np.uint8]:
    """(height, width) uint8: no two seeds give the same picture, and the graph's ratio is near the one asked for."""
    grey = np.full((height, width), round(255 * brittle_ratio), np.uint8)
    grey[0, : 4 * 8 : 4] = [200 + (seed >> (4 * digit)) % 16 for digit in range(8)]
    return grey


def make_fracture_bundle(folder: Path, *, name: str = "tiny-fracture", size_px: SizePx = ANY_SIZE) -> Path:
    """Write a valid fracture bundle and give its folder.

    Args:
        folder: Of the bundle.
        name: Of the bundle.
        size_px: Rows and columns of its pictures: those of its golden ones (64, 96), or letters for any from 8 x 8 px.
    """
    frames = np.stack([surface(ratio, seed)[np.newaxis] for seed, ratio in enumerate((0.0, 0.3, 0.9))])
    cells = frames.reshape(3, 64 // CELL_PX, CELL_PX, 96 // CELL_PX, CELL_PX).astype(np.float32).mean(axis=(2, 4)) / 255
    return write_tiny_bundle(
        folder,
        _model(size_px),
        task="fracture",
        name=name,
        size_px=size_px,
        outputs=OUTPUTS,
        golden={"frames": frames, "brittle_ratio": cells.mean(axis=(1, 2)), "activation": cells},
        limits={"ratio_points": 0.2, "part_points": 0.3, "map_points": 1.5},
        settings=SETTINGS,
        metrics={"bfr_error": 0.0},
    )


def _model(size_px: SizePx) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Cast", ["frames"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["grey", "scale"], ["level"]),
        helper.make_node("AveragePool", ["level"], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Squeeze", ["cells", "channel"], ["activation"]),
        helper.make_node("ReduceMean", ["activation", "rows_and_cols"], ["brittle_ratio"], keepdims=0),
    ]
    constants = {
        "scale": np.array(1 / 255, np.float32),
        "channel": np.array([1], np.int64),
        "rows_and_cols": np.array([1, 2], np.int64),
    }
    return tiny_model(nodes, constants, OUTPUTS, size_px)
