"""A tiny phase bundle for tests: a real graph, built with onnx alone, in which dark is pearlite.

A pixel is pearlite where the mean of the 5 x 5 pixels around it is below 128. Beyond the picture is black, but its last
row and column are repeated first where their numbers are odd, as the lab's networks do up to multiples of their stride.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from scipy.ndimage import uniform_filter

from runtime.bundle import GOLDEN_FILE, PARITY_FILE, Parity, ParityResult, digest_of
from runtime.spec import SPEC_FILE, GraphSpec, ModelSpec, Provenance, TensorSpec

RADIUS_PX = 2
SETTINGS: dict[str, Any] = {
    "phase_names": ["ferrite", "pearlite"],
    "tile_px": 32,
    "radius_px": RADIUS_PX,
    "stride_px": 2,
    "field_px": 16,
}
FILE = "model.fp32.onnx"


def labels_of(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What the bundle says of a whole picture (H, W)."""
    height, width = picture.shape
    even = np.pad(picture.astype(np.float64), ((0, height % 2), (0, width % 2)), mode="edge")
    mean = uniform_filter(even, size=2 * RADIUS_PX + 1, mode="constant")[:height, :width]
    return (mean < 128.0 - 1e-3).astype(np.uint8)


def make_phase_bundle(folder: Path, *, name: str = "tiny-phase", settings: dict[str, Any] | None = None) -> Path:
    """Write a valid phase bundle that takes pictures of any size, and give its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(_model(), folder / FILE)
    frames = np.random.default_rng(1).integers(0, 256, (2, 1, 20, 30), dtype=np.uint8)
    np.savez(folder / GOLDEN_FILE, **{"frames": frames, "model.phase": np.stack([labels_of(f[0]) for f in frames])})
    result = ParityResult(
        graph="model",
        precision="fp32",
        backend="openvino",
        figure="pixel_disagreement",
        value=0.0,
        limit=0.002,
        passed=True,
    )
    parity = Parity(limits={"pixel_disagreement": 0.002}, results=(result,))
    (folder / PARITY_FILE).write_text(parity.model_dump_json(indent=2) + "\n", encoding="utf-8")
    spec = ModelSpec(
        name=name,
        task="phase",
        graphs={
            "model": GraphSpec(
                architecture="tiny-phase",
                variant="compact",
                parameters=25,
                files={"fp32": FILE},
                input=TensorSpec(name="frames", dtype="uint8", shape=("N", 1, "H", "W")),
                outputs=(TensorSpec(name="phase", dtype="uint8", shape=("N", "H", "W")),),
            )
        },
        settings=SETTINGS if settings is None else settings,
        provenance=Provenance(
            recipe={"model": {}},
            data={"model": "0" * 64},
            git_commit="0" * 40,
            created_at="2024-01-01T00:00:00Z",
            metrics={"mean_iou": 1.0},
        ),
        files={file: digest_of(folder / file) for file in (FILE, GOLDEN_FILE, PARITY_FILE)},
        schema="ferrosight.bundle/1",
    )
    (folder / SPEC_FILE).write_text(spec.to_json(), encoding="utf-8")
    return folder


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
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", 1, "H", "W"])],
        [helper.make_tensor_value_info("phase", TensorProto.UINT8, ["N", "H", "W"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model
