"""Tiny graphs for the contract that every backend must keep: half floats inside, one that fails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from runtime.spec import GraphSpec, Precision, TensorSpec

HEIGHT, WIDTH = 6, 8
BLUR = (np.arange(1, 10) / 45.0 / 255.0).astype(np.float32).reshape(1, 1, 3, 3)
"""The weights of `write_blur`."""


def write_pair(path: Path, *, dynamic_size: bool = False) -> GraphSpec:
    """`mean_grey` (N,) float32 and `inverted` (N, 1, H, W) uint8, in half floats inside."""
    size: tuple[int | str, int | str] = ("H", "W") if dynamic_size else (HEIGHT, WIDTH)
    nodes = [
        helper.make_node("Cast", ["frames"], ["grey"], to=TensorProto.FLOAT16),
        helper.make_node("ReduceMean", ["grey", "axes"], ["mean"], keepdims=0),
        helper.make_node("Cast", ["mean"], ["mean_grey"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["full", "grey"], ["rest"]),
        helper.make_node("Cast", ["rest"], ["inverted"], to=TensorProto.UINT8),
    ]
    constants = {"axes": np.array([1, 2, 3], np.int64), "full": np.array(255, np.float16)}
    outputs = (
        TensorSpec(name="mean_grey", dtype="float32", shape=("N",)),
        TensorSpec(name="inverted", dtype="uint8", shape=("N", 1, *size)),
    )
    return _write(path, nodes, constants, size, outputs, "fp16")


def write_brittle(path: Path) -> GraphSpec:
    """A graph that runs on black frames and fails on any other: it reshapes to as many columns as the
    brightest pixel has levels, where 0 means 'as it is'.
    """
    nodes = [
        helper.make_node("Flatten", ["frames"], ["rows"], axis=1),
        helper.make_node("Cast", ["rows"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["grey", "all"], ["brightest"], keepdims=1),
        helper.make_node("Reshape", ["brightest", "one"], ["level"]),
        helper.make_node("Cast", ["level"], ["columns"], to=TensorProto.INT64),
        helper.make_node("Mul", ["keep_rows", "columns"], ["shape"]),
        helper.make_node("Reshape", ["grey", "shape"], ["reshaped"]),
        helper.make_node("ReduceMean", ["reshaped", "across"], ["mean_grey"], keepdims=0),
    ]
    constants = {
        "all": np.array([0, 1], np.int64),
        "one": np.array([1], np.int64),
        "keep_rows": np.array([0, 1], np.int64),
        "across": np.array([1], np.int64),
    }
    outputs = (TensorSpec(name="mean_grey", dtype="float32", shape=("N",)),)
    return _write(path, nodes, constants, (HEIGHT, WIDTH), outputs, "fp32")


def write_shrinking(path: Path) -> GraphSpec:
    """`activation` (N, h, w) float32: a size that only the graph knows (half of the frame's)."""
    nodes = [
        helper.make_node("Cast", ["frames"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("AveragePool", ["grey"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Squeeze", ["pooled", "channel"], ["activation"]),
    ]
    constants = {"channel": np.array([1], np.int64)}
    outputs = (TensorSpec(name="activation", dtype="float32", shape=("N", "h", "w")),)
    return _write(path, nodes, constants, (HEIGHT, WIDTH), outputs, "fp32")


def write_blur(path: Path, precision: Precision) -> GraphSpec:
    """`activation` (N, 1, h, w) float32: a weighted mean of 3x3 pixels, 0..1, by a convolution."""
    kind = np.float16 if precision == "fp16" else np.float32
    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    nodes = [
        helper.make_node("Cast", ["frames"], ["grey"], to=dtype),
        helper.make_node("Conv", ["grey", "weights"], ["blurred"]),
        helper.make_node("Cast", ["blurred"], ["activation"], to=TensorProto.FLOAT),
    ]
    outputs = (TensorSpec(name="activation", dtype="float32", shape=("N", 1, "h", "w")),)
    return _write(path, nodes, {"weights": BLUR.astype(kind)}, (HEIGHT, WIDTH), outputs, precision)


def some_frames(count: int, seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """(count, 1, height, width) uint8, random."""
    return np.random.default_rng(seed).integers(0, 256, (count, 1, height, width), dtype=np.uint8)


def _write(
    path: Path,
    nodes: list[onnx.NodeProto],
    constants: dict[str, NDArray[np.generic]],
    size: tuple[int | str, int | str],
    outputs: tuple[TensorSpec, ...],
    precision: Precision,
) -> GraphSpec:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", 1, *size])],
        [
            helper.make_tensor_value_info(
                output.name, helper.np_dtype_to_tensor_dtype(np.dtype(output.dtype)), list(output.shape)
            )
            for output in outputs
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return GraphSpec(
        architecture="tiny",
        variant="compact",
        parameters=1,
        files={precision: path.name},
        input=TensorSpec(name="frames", dtype="uint8", shape=("N", 1, *size)),
        outputs=outputs,
    )
