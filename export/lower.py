"""The same graph in ONNX opset 13, which every runtime reads and ONNX Runtime runs at full speed in half.

From opset 14 on ONNX defines ReLU as a function. ONNX Runtime has no half ReLU on x86, so it puts the function's body
in its place before it widens the graph, and can no longer fuse convolution and ReLU: 10 to 20 % slower. See
`docs/decisions/0001-half-precision.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from runtime.errors import BundleError

if TYPE_CHECKING:
    import onnx_ir as ir

OPSET = 13


def lower_opset(model: ir.Model) -> ir.Model:
    """A copy of a graph in opset 13.

    Raises:
        BundleError: The graph uses what opset 13 does not have.
    """
    import onnx
    import onnx_ir as ir
    from onnx_ir.passes import common as passes

    lowered = ir.from_proto(ir.to_proto(model))
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(lowered)
    for node in list(lowered.graph):
        if node.op_type in _LOWER:
            _LOWER[node.op_type](lowered.graph, node)
        _check_exists(node)
    lowered.graph.opset_imports[""] = OPSET
    for tidy in (
        passes.TopologicalSortPass(),
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedOpsetsPass(),
    ):
        tidy(lowered)
    try:
        onnx.checker.check_model(ir.to_proto(lowered), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BundleError(
            f"export: the graph does not fit opset {OPSET}: {error}. Use operations that this opset has."
        ) from error
    return lowered


def _check_exists(node: ir.Node) -> None:
    import onnx

    if node.domain not in ("", "ai.onnx"):
        raise BundleError(
            f"export: found the operation {node.domain}.{node.op_type}, expected operations of plain ONNX only. "
            "Use a network without custom operations."
        )
    try:
        onnx.defs.get_schema(node.op_type, OPSET, "")
    except onnx.defs.SchemaError as error:
        raise BundleError(
            f"export: found the operation {node.op_type}, expected those of opset {OPSET} only (see export/lower.py "
            "for why). Use a network of older operations, such as ReLU or SiLU for HardSwish."
        ) from error


def _reduce(_: ir.Graph, node: ir.Node) -> None:
    """Axes were an attribute."""
    import onnx_ir as ir

    if len(node.inputs) > 1 and (axes := node.inputs[1]) is not None:
        if axes.const_value is None:
            raise BundleError(
                f"export: found axes of {node.name} that are computed, expected constant ones. Reduce over fixed axes."
            )
        node.attributes["axes"] = ir.AttrInt64s("axes", axes.const_value.numpy().tolist())
        node.replace_input_with(1, None)
        node.resize_inputs(1)
    node.attributes.pop("noop_with_empty_axes", None)


def _reshape(_: ir.Graph, node: ir.Node) -> None:
    """A zero always meant "as it was"; sizes that are computed come from frames and are never zero."""
    shape = node.inputs[1]
    allow_zero = node.attributes.pop("allowzero", None)
    constant = None if shape is None or shape.const_value is None else shape.const_value.numpy()
    if allow_zero is not None and allow_zero.as_int() and constant is not None and 0 in constant:
        raise BundleError(f"export: found {node.name} with an empty result, expected sizes of at least 1.")


def _shape(graph: ir.Graph, node: ir.Node) -> None:
    """A part of a shape was cut out by a node of its own."""
    import onnx_ir as ir

    start, end = (node.attributes.pop(name, None) for name in ("start", "end"))
    first = 0 if start is None else start.as_int()
    last = np.iinfo(np.int64).max if end is None else end.as_int()
    part = node.outputs[0]
    if start is None and end is None:
        return
    whole = ir.Value(name=f"{part.name}_whole", type=ir.TensorType(ir.DataType.INT64))
    bounds: list[ir.Value] = []
    for name, bound in (("first", first), ("last", last)):
        tensor = ir.tensor(np.array([bound], np.int64), name=f"{part.name}_{name}")
        value = ir.Value(name=tensor.name, type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([1]))
        value.const_value = tensor
        graph.register_initializer(value)
        bounds.append(value)
    cut = ir.Value(name=f"{part.name}_part", type=part.type, shape=part.shape)
    ir.convenience.replace_all_uses_with(part, cut)
    part.name, cut.name, part.shape = whole.name, part.name, None
    graph.append(ir.node("Slice", [part, *bounds], outputs=[cut], name=f"{node.name}_slice"))


def _resize(graph: ir.Graph, node: ir.Node) -> None:
    """Whole factors as scales: no shape arithmetic in the graph, and ONNX Runtime has a fast kernel for them."""
    import onnx_ir as ir

    for name, default in (("antialias", 0), ("keep_aspect_ratio_policy", "stretch")):
        if name in node.attributes and node.attributes[name].value == default:
            node.attributes.pop(name)  # what opset 13 does anyway; the checker refuses another value
    source, result = node.inputs[0], node.outputs[0]
    if source is None or len(node.inputs) < 4 or source.shape is None or result.shape is None:
        return
    sizes = list(zip(source.shape, result.shape, strict=True))[2:]
    factors = [new / old for old, new in sizes if isinstance(old, int) and isinstance(new, int)]
    if len(factors) != len(sizes) or any(factor != int(factor) for factor in factors):
        return
    name = f"{node.name}_scales"
    scales = ir.tensor(np.array([1.0, 1.0, *factors], np.float32), name=name)
    value = ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([2 + len(factors)]))
    value.const_value = scales
    graph.register_initializer(value)
    for place, replacement in ((1, None), (2, value), (3, None)):
        node.replace_input_with(place, replacement)
    node.resize_inputs(3)


_LOWER: Mapping[str, Callable[[ir.Graph, ir.Node], None]] = MappingProxyType(
    {
        "ReduceMax": _reduce,
        "ReduceMean": _reduce,
        "ReduceMin": _reduce,
        "Reshape": _reshape,
        "Resize": _resize,
        "Shape": _shape,
    }
)
