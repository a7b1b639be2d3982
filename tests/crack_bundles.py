"""A tiny crack bundle for tests: a real graph, built with onnx alone, in which dark is crack (255 minus the level)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from runtime.bundle import GOLDEN_FILE, PARITY_FILE, Parity, ParityResult, digest_of
from runtime.spec import SPEC_FILE, GraphSpec, ModelSpec, Provenance, TensorSpec

SETTINGS: dict[str, Any] = {"pixel_threshold": 0.7, "min_size_px": 20, "min_branch_px": 8.0}
FILE = "model.fp32.onnx"
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
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(_model(), folder / FILE)
    frames = np.stack([cracked(tip)[np.newaxis] for tip in (20, 50, 80)])
    np.savez(folder / GOLDEN_FILE, **{"frames": frames, "model.crack_probability": 255 - frames})
    result = ParityResult(
        graph="model", precision="fp32", backend="openvino", figure="tip_px", value=0.0, limit=1.0, passed=True
    )
    parity = Parity(limits={"tip_px": 1.0}, results=(result,))
    (folder / PARITY_FILE).write_text(parity.model_dump_json(indent=2) + "\n", encoding="utf-8")
    spec = ModelSpec(
        name=name,
        task="crack",
        graphs={
            "model": GraphSpec(
                architecture="tiny-crack",
                variant="compact",
                parameters=1,
                files={"fp32": FILE},
                input=TensorSpec(name="frames", dtype="uint8", shape=("N", 1, "H", "W")),
                outputs=(TensorSpec(name="crack_probability", dtype="uint8", shape=("N", 1, "H", "W")),),
            )
        },
        settings=settings or SETTINGS,
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
    nodes = [
        helper.make_node("Cast", ["frames"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["white", "grey"], ["dark"]),
        helper.make_node("Cast", ["dark"], ["crack_probability"], to=TensorProto.UINT8),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", 1, "H", "W"])],
        [helper.make_tensor_value_info("crack_probability", TensorProto.UINT8, ["N", 1, "H", "W"])],
        [numpy_helper.from_array(np.array(255, np.float32), "white")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model
