"""A tiny strip bundle for tests: real graphs, built with onnx alone, that answer to pixels.

Brightness says what a pixel is. Steel is below 150 grey levels; a defect of class c has the brightness
`CLASS_GREY[c - 1]`. The segmenter gives 255 within 5 levels of that and falls to 0 at 10. The gate looks at
the brightest pixel: 0.5 at 165 levels, above 0.97 for every class, below 0.03 for steel up to 150.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from runtime.bundle import GOLDEN_FILE, PARITY_FILE, Parity, ParityResult, digest_of
from runtime.spec import SPEC_FILE, GraphSpec, ModelSpec, Precision, Provenance, TensorSpec

CLASS_GREY = (180, 200, 220, 240)
CLASS_NAMES = ("pitting", "inclusion", "scratches", "patch")
STEEL_GREY = 120

_HALF: dict[Precision, bool] = {"fp32": False, "fp16": True, "int8": True, "fp8": True}
"""Without convolutions there is nothing to quantise: such a file is the half one."""


def plain_frames(count: int, height: int = 64, width: int = 256, seed: int = 0) -> NDArray[np.uint8]:
    """(count, 1, height, width) uint8 frames of clean steel, from 110 to 130 levels."""
    rng = np.random.default_rng(seed)
    return rng.integers(STEEL_GREY - 10, STEEL_GREY + 11, (count, 1, height, width), dtype=np.uint8)


def make_strip_bundle(
    folder: Path,
    height: int = 64,
    width: int = 256,
    *,
    dynamic_size: bool = False,
    precisions: tuple[Precision, ...] = ("fp16",),
    settings: dict[str, Any] | None = None,
    name: str = "tiny-strip",
) -> Path:
    """Write a valid strip bundle and give its folder.

    Args:
        folder: Made if it does not exist.
        height: Rows of the golden frames, and of the graphs unless `dynamic_size`.
        width: Columns likewise.
        dynamic_size: Leave the graphs' height and width free.
        precisions: Which ONNX files to write.
        settings: Keys of the head's settings that differ from the plain ones.
        name: The bundle's name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    size: tuple[int | str, int | str] = ("H", "W") if dynamic_size else (height, width)
    graphs: dict[str, GraphSpec] = {}
    files: list[str] = []
    for role, build, output in (
        ("gate", gate_model, TensorSpec(name="defect_probability", dtype="float32", shape=("N",))),
        (
            "segmenter",
            segmenter_model,
            TensorSpec(name="class_probability", dtype="uint8", shape=("N", 4, *size)),
        ),
    ):
        names: dict[Precision, str] = {precision: f"{role}.{precision}.onnx" for precision in precisions}
        for precision, file in names.items():
            onnx.save(build(size, half=_HALF[precision]), folder / file)
            files.append(file)
        graphs[role] = GraphSpec(
            architecture=f"tiny-{role}",
            variant="compact",
            parameters=4,
            files=names,
            input=TensorSpec(name="frames", dtype="uint8", shape=("N", 1, *size)),
            outputs=(output,),
        )
    frames = plain_frames(3, height, width, seed=7)
    for row, grey in enumerate(CLASS_GREY):
        frames[1, 0, 2 + 5 * row : 5 + 5 * row, 4 : 4 + 3 * (row + 1)] = grey
    np.savez(
        folder / GOLDEN_FILE,
        **{
            "frames": frames,
            "gate.defect_probability": gate_reference(frames),
            "segmenter.class_probability": segmenter_reference(frames),
        },
    )
    results = tuple(
        ParityResult(
            graph=role,
            precision=precision,
            backend="openvino",
            figure=figure,
            value=0.0,
            limit=limit,
            passed=True,
        )
        for role, limits in PARITY_LIMITS.items()
        for figure, limit in limits.items()
        for precision in precisions
    )
    parity = Parity(limits={**PARITY_LIMITS["gate"], **PARITY_LIMITS["segmenter"]}, results=results)
    (folder / PARITY_FILE).write_text(parity.model_dump_json(indent=2) + "\n", encoding="utf-8")
    spec = ModelSpec(
        name=name,
        task="strip",
        graphs=graphs,
        settings={**PLAIN_SETTINGS, **(settings or {})},
        provenance=Provenance(
            recipe={"gate": {}, "segmenter": {}},
            data={"gate": "0" * 64, "segmenter": "0" * 64},
            git_commit="0" * 40,
            created_at="2024-01-01T00:00:00Z",
            metrics={"dice": 1.0},
        ),
        files={file: digest_of(folder / file) for file in [*files, GOLDEN_FILE, PARITY_FILE]},
        schema="ferrosight.bundle/1",
    )
    (folder / SPEC_FILE).write_text(spec.to_json(), encoding="utf-8")
    return folder


PARITY_LIMITS: dict[str, dict[str, float]] = {
    "gate": {"gate_flips": 0.0, "probability_max_abs": 0.03},
    "segmenter": {"dice_loss": 0.002, "level_mean_abs": 0.25, "level_max_abs": 64.0},
}
"""What the bundle's parity says that it was held to."""

PLAIN_SETTINGS: dict[str, Any] = {
    "class_names": CLASS_NAMES,
    "gate_mode": "hard",
    "gate_threshold": 0.5,
    "pixel_thresholds": (0.5, 0.5, 0.5, 0.5),
    "min_size_px": (1, 1, 1, 1),
    "min_size_rule": "component",
}


def seal(folder: Path, **changes: Any) -> Path:
    """Write `spec.json` again with fresh digests and some of its keys changed, so that it is valid again."""
    text = json.loads((folder / SPEC_FILE).read_text(encoding="utf-8"))
    text |= changes
    text["files"] = {name: digest_of(folder / name) for name in text["files"] if (folder / name).is_file()}
    (folder / SPEC_FILE).write_text(json.dumps(text), encoding="utf-8")
    return folder


def gate_reference(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the gate must give: (N,) float32."""
    brightest = frames.reshape(len(frames), -1).max(axis=1).astype(np.float32)
    return (1.0 / (1.0 + np.exp(-(brightest - 165.0) * 0.25))).astype(np.float32)


def segmenter_reference(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What the segmenter must give: (N, 4, H, W) uint8."""
    distance = np.abs(frames.astype(np.int16) - np.array(CLASS_GREY, np.int16).reshape(1, 4, 1, 1))
    return np.clip((10 - distance) * 51, 0, 255).astype(np.uint8)


def gate_model(size: tuple[int | str, int | str], *, half: bool) -> onnx.ModelProto:
    """sigmoid((brightest pixel - 165) / 4), typed half or single."""
    kind = np.float16 if half else np.float32
    nodes = [
        helper.make_node("Cast", ["frames"], ["grey"], to=helper.np_dtype_to_tensor_dtype(np.dtype(kind))),
        helper.make_node("ReduceMax", ["grey", "axes"], ["brightest"], keepdims=0),
        helper.make_node("Sub", ["brightest", "middle"], ["above"]),
        helper.make_node("Mul", ["above", "slope"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["probability"]),
        helper.make_node("Cast", ["probability"], ["defect_probability"], to=TensorProto.FLOAT),
    ]
    constants = {
        "axes": np.array([1, 2, 3], np.int64),
        "middle": np.array(165.0, kind),
        "slope": np.array(0.25, kind),
    }
    return _model(nodes, constants, size, ("defect_probability", TensorProto.FLOAT, ["N"]))


def segmenter_model(size: tuple[int | str, int | str], *, half: bool) -> onnx.ModelProto:
    """clip((10 - |grey - class grey|) * 51, 0, 255); whole numbers, so that half and single agree exactly."""
    kind = np.float16 if half else np.float32
    nodes = [
        helper.make_node("Cast", ["frames"], ["grey"], to=helper.np_dtype_to_tensor_dtype(np.dtype(kind))),
        helper.make_node("Sub", ["grey", "centres"], ["offset"]),
        helper.make_node("Abs", ["offset"], ["distance"]),
        helper.make_node("Sub", ["reach", "distance"], ["closeness"]),
        helper.make_node("Mul", ["closeness", "steps"], ["scaled"]),
        helper.make_node("Clip", ["scaled", "none", "full"], ["clipped"]),
        helper.make_node("Cast", ["clipped"], ["class_probability"], to=TensorProto.UINT8),
    ]
    constants = {
        "centres": np.array(CLASS_GREY, kind).reshape(1, 4, 1, 1),
        "reach": np.array(10.0, kind),
        "steps": np.array(51.0, kind),
        "none": np.array(0.0, kind),
        "full": np.array(255.0, kind),
    }
    return _model(nodes, constants, size, ("class_probability", TensorProto.UINT8, ["N", 4, *size]))


def _model(
    nodes: list[onnx.NodeProto],
    constants: dict[str, NDArray[Any]],
    size: tuple[int | str, int | str],
    output: tuple[str, Literal[1, 2] | int, list[int | str]],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", 1, *size])],
        [helper.make_tensor_value_info(*output)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model
