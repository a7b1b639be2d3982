"""A tiny boundary bundle for tests: a real graph, built with onnx alone, in which dark is boundary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtime.bundle import GOLDEN_FILE, PARITY_FILE, Parity, ParityResult, digest_of
from runtime.spec import SPEC_FILE, GraphSpec, ModelSpec, Provenance, TensorSpec

SETTINGS: dict[str, Any] = {"certain": 0.5, "faint": 0.3, "min_length_px": 10, "min_grain_px": 12}
FILE = "model.fp32.onnx"


def make_boundary_bundle(folder: Path, *, settings: dict[str, Any] | None = None) -> Path:
    """Write a valid boundary bundle that takes pictures of any size, and give its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(_model(), folder / FILE)
    frames = np.random.default_rng(1).integers(0, 256, (2, 1, 20, 30), dtype=np.uint8)
    golden: dict[str, Any] = {"frames": frames, "model.boundary_probability": 255 - frames}
    np.savez(folder / GOLDEN_FILE, **golden)
    result = ParityResult(
        graph="model", precision="fp32", backend="openvino", figure="line_loss", value=0.0, limit=0.005, passed=True
    )
    parity = Parity(limits={"line_loss": 0.005}, results=(result,))
    (folder / PARITY_FILE).write_text(parity.model_dump_json(indent=2) + "\n", encoding="utf-8")
    spec = ModelSpec(
        name="tiny-boundary",
        task="boundary",
        graphs={
            "model": GraphSpec(
                architecture="tiny-boundary",
                variant="compact",
                parameters=1,
                files={"fp32": FILE},
                input=TensorSpec(name="frames", dtype="uint8", shape=("N", 1, "H", "W")),
                outputs=(TensorSpec(name="boundary_probability", dtype="uint8", shape=("N", 1, "H", "W")),),
            )
        },
        settings=SETTINGS if settings is None else settings,
        provenance=Provenance(
            recipe={"model": {}},
            data={"model": "0" * 64},
            git_commit="0" * 40,
            created_at="2024-01-01T00:00:00Z",
            metrics={"boundary_f1": 1.0},
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
        helper.make_node("Cast", ["dark"], ["boundary_probability"], to=TensorProto.UINT8),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", 1, "H", "W"])],
        [helper.make_tensor_value_info("boundary_probability", TensorProto.UINT8, ["N", 1, "H", "W"])],
        [numpy_helper.from_array(np.array(255.0, np.float32), "white")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model
