"""A bundle of one tiny graph for tests: what tasks' tiny bundles have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from runtime.bundle import GOLDEN_FILE, PARITY_FILE, Parity, ParityResult, digest_of
from runtime.spec import SPEC_FILE, GraphSpec, ModelSpec, Provenance, TensorSpec

FILE = "model.fp32.onnx"
SizePx = tuple[int | str, int | str]
ANY_SIZE: SizePx = ("H", "W")
_TYPES = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}


def write_tiny_bundle(
    folder: Path,
    model: onnx.ModelProto,
    *,
    task: str,
    outputs: Sequence[TensorSpec],
    golden: Mapping[str, NDArray[Any]],
    limits: Mapping[str, float],
    settings: Mapping[str, Any],
    metrics: Mapping[str, float],
    name: str | None = None,
    size_px: SizePx = ANY_SIZE,
) -> Path:
    """Write a valid bundle of one graph in FP32, and give its folder.

    Args:
        folder: Made if it does not exist.
        model: The graph, as `tiny_model` makes it.
        task: Of the bundle.
        outputs: Of the graph.
        golden: `frames`, (n, 1, H, W) uint8, and each output by its name.
        limits: Of the figures of parity; each was found to be 0.
        settings: The head's.
        metrics: Of the training that there was not.
        name: Of the bundle; None takes the task's.
        size_px: Rows and columns of its pictures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / FILE)
    arrays = {key if key == "frames" else f"model.{key}": array for key, array in golden.items()}
    np.savez(folder / GOLDEN_FILE, **arrays)  # pyright: ignore[reportArgumentType]
    results = tuple(
        ParityResult(
            graph="model", precision="fp32", backend="openvino", figure=figure, value=0.0, limit=limit, passed=True
        )
        for figure, limit in limits.items()
    )
    parity = Parity(limits=dict(limits), results=results)
    (folder / PARITY_FILE).write_text(parity.model_dump_json(indent=2) + "\n", encoding="utf-8")
    graph = GraphSpec(
        architecture=f"tiny-{task}",
        variant="compact",
        parameters=1,
        files={"fp32": FILE},
        input=TensorSpec(name="frames", dtype="uint8", shape=("N", 1, *size_px)),
        outputs=tuple(outputs),
    )
    spec = ModelSpec(
        name=name or f"tiny-{task}",
        task=task,
        graphs={"model": graph},
        settings=dict(settings),
        provenance=Provenance(
            recipe={"model": {}},
            data={"model": "0" * 64},
            git_commit="0" * 40,
            created_at="2024-01-01T00:00:00Z",
            metrics=dict(metrics),
        ),
        files={file: digest_of(folder / file) for file in (FILE, GOLDEN_FILE, PARITY_FILE)},
        schema="ferrosight.bundle/1",
    )
    (folder / SPEC_FILE).write_text(spec.to_json(), encoding="utf-8")
    return folder


def tiny_model(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, NDArray[Any]],
    outputs: Sequence[TensorSpec],
    size_px: SizePx = ANY_SIZE,
) -> onnx.ModelProto:
    """A graph from `frames` (N, 1, rows, columns) uint8 to the outputs, checked."""
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", 1, *size_px])],
        [helper.make_tensor_value_info(each.name, _TYPES[each.dtype], list(each.shape)) for each in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def darkness(output: TensorSpec) -> onnx.ModelProto:
    """A graph whose one output is 255 minus the grey level: what is dark is what the task looks for."""
    nodes = [
        helper.make_node("Cast", ["frames"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["white", "grey"], ["dark"]),
        helper.make_node("Cast", ["dark"], [output.name], to=TensorProto.UINT8),
    ]
    return tiny_model(nodes, {"white": np.array(255.0, np.float32)}, (output,))
