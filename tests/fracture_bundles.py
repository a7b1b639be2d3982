"""A tiny fracture bundle for tests: a real graph, built with onnx alone, in which bright is brittle.

The activation of a cell of 8 x 8 px is its mean grey level / 255, and the ratio is the mean of the map.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from runtime.bundle import GOLDEN_FILE, PARITY_FILE, Parity, ParityResult, digest_of
from runtime.spec import SPEC_FILE, GraphSpec, ModelSpec, Provenance, TensorSpec

CELL_PX = 8
SETTINGS: dict[str, Any] = {"cell_px": CELL_PX, "uncertainty_floor_percent": 2.0, "uncertainty_per_soft": 0.1}
LIMITS = {"ratio_points": 0.2, "part_points": 0.3, "map_points": 1.5}
FILE = "model.fp32.onnx"


def surface(brittle_ratio: float, seed: int, height: int = 64, width: int = 96) -> NDArray[np.uint8]:
    """(height, width) uint8: no two seeds give the same picture, and the graph's ratio is near the one asked for."""
    grey = np.full((height, width), round(255 * brittle_ratio), np.uint8)
    grey[0, : 4 * 8 : 4] = [200 + (seed >> (4 * digit)) % 16 for digit in range(8)]
    return grey


def make_fracture_bundle(
    folder: Path, *, name: str = "tiny-fracture", size_px: tuple[int | str, int | str] = ("H", "W")
) -> Path:
    """Write a valid fracture bundle and give its folder.

    Args:
        folder: Of the bundle.
        name: Of the bundle.
        size_px: Rows and columns of its pictures: those of its golden ones (64, 96), or letters for any from 8 x 8 px.
    """
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(_model(size_px), folder / FILE)
    frames = np.stack([surface(ratio, seed)[np.newaxis] for seed, ratio in enumerate((0.0, 0.3, 0.9))])
    cells = frames.reshape(3, 64 // CELL_PX, CELL_PX, 96 // CELL_PX, CELL_PX).astype(np.float32).mean(axis=(2, 4)) / 255
    np.savez(
        folder / GOLDEN_FILE,
        **{"frames": frames, "model.brittle_ratio": cells.mean(axis=(1, 2)), "model.activation": cells},
    )
    results = tuple(
        ParityResult(
            graph="model",
            precision="fp32",
            backend="openvino",
            figure=figure,
            value=0.0,
            limit=limit,
            passed=True,
        )
        for figure, limit in LIMITS.items()
    )
    parity = Parity(limits=LIMITS, results=results)
    (folder / PARITY_FILE).write_text(parity.model_dump_json(indent=2) + "\n", encoding="utf-8")
    spec = ModelSpec(
        name=name,
        task="fracture",
        graphs={
            "model": GraphSpec(
                architecture="tiny-fracture",
                variant="compact",
                parameters=1,
                files={"fp32": FILE},
                input=TensorSpec(name="frames", dtype="uint8", shape=("N", 1, *size_px)),
                outputs=(
                    TensorSpec(name="brittle_ratio", dtype="float32", shape=("N",)),
                    TensorSpec(name="activation", dtype="float32", shape=("N", "h", "w")),
                ),
            )
        },
        settings=SETTINGS,
        provenance=Provenance(
            recipe={"model": {}},
            data={"model": "0" * 64},
            git_commit="0" * 40,
            created_at="2024-01-01T00:00:00Z",
            metrics={"bfr_error": 0.0},
        ),
        files={file: digest_of(folder / file) for file in (FILE, GOLDEN_FILE, PARITY_FILE)},
        schema="ferrosight.bundle/1",
    )
    (folder / SPEC_FILE).write_text(spec.to_json(), encoding="utf-8")
    return folder


def _model(size_px: tuple[int | str, int | str]) -> onnx.ModelProto:
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
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", 1, *size_px])],
        [
            helper.make_tensor_value_info("brittle_ratio", TensorProto.FLOAT, ["N"]),
            helper.make_tensor_value_info("activation", TensorProto.FLOAT, ["N", "h", "w"]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model
