"""Explicit quantisation: a pair of QuantizeLinear and DequantizeLinear around what a convolution reads.

One INT8 file serves a strongly typed TensorRT network, which takes symmetric scales with a zero point of 0 and nothing
else, and OpenVINO, which computes such a convolution in VNNI. An FP8 file has the same pairs of another type, for GPUs
that compute in it. What the two types are is said in `export.eight_bits`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.errors import BundleError

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

    from export.eight_bits import EightBits

OPSET = 19
"""The first in which a scale, and what it scales, may be half, and in which there is FP8."""

_WEIGHT = 1  # where a convolution has its weights


def layers_of(model: ir.Model, kind: EightBits | None = None) -> tuple[str, ...]:
    """The names of the layers that can be quantised, in the graph's order: convolutions of constant weights.

    Args:
        model: The graph.
        kind: Only those that suit this type; None takes all.

    Raises:
        BundleError: Such a layer has no name.
    """
    convolutions = ((node, _weights_of(node)) for node in model.graph if node.op_type == "Conv")
    found = [node for node, weights in convolutions if weights is not None and _suits(node, weights[1], kind)]
    if any(not node.name for node in found):
        raise BundleError(
            "quantise: found a Conv without a name, expected a name for every node. Export the bundle again."
        )
    return tuple(str(node.name) for node in found)


def quantise(model: ir.Model, ranges: Mapping[str, float], layers: Collection[str], kind: EightBits) -> ir.Model:
    """A copy of an FP32 graph in which some convolutions read eight bits; everything else is as it was.

    Args:
        model: FP32 graph of opset `OPSET`, batch norms already folded.
        ranges: The largest absolute value of every float tensor, by its name (`export.overflow.float_ranges`).
        layers: Names of the convolutions, of `layers_of` for the type.
        kind: The type of eight bits.

    Raises:
        BundleError: A name is not one of `layers_of`, or the range of an input is not known.
    """
    import onnx_ir as ir
    from onnx_ir.passes import common as passes

    quantised = ir.from_proto(ir.to_proto(model))
    graph = quantised.graph
    suited = layers_of(quantised, kind)
    if unknown := sorted(set(layers) - set(suited)):
        raise BundleError(
            f"quantise: found no convolution {unknown[0]!r} for {kind.title}, expected some of {', '.join(suited)}. "
            "Name layers of the graph."
        )
    pairs: dict[ir.Value, ir.Value] = {}
    for node in list(graph):
        weights = _weights_of(node) if node.name in layers else None
        if weights is None or (source := node.inputs[0]) is None:
            continue
        if source not in pairs:
            pairs[source] = _activation(graph, source, ranges, kind)
        node.replace_input_with(0, pairs[source])
        node.replace_input_with(_WEIGHT, _stepped_weights(graph, *weights, kind))
    passes.TopologicalSortPass()(quantised)
    passes.RemoveUnusedNodesPass()(quantised)
    return quantised


def _activation(graph: ir.Graph, source: ir.Value, ranges: Mapping[str, float], kind: EightBits) -> ir.Value:
    """The value as it comes out of the pair."""
    import onnx_ir as ir

    if source.name is None or source.name not in ranges:
        raise BundleError(
            f"quantise: found no range of the tensor {source.name!r}, expected one for each input of a layer. "
            "Calibrate the graph that is quantised."
        )
    scale = _constant(graph, f"{source.name}_scale", kind.scale_of(ranges[source.name]))
    zero = _constant(graph, f"{source.name}_zero", np.zeros((), kind.dtype))
    name = f"{source.name}_{kind.precision}"
    steps = ir.Value(name=name, type=ir.TensorType(ir.DataType[kind.onnx_type]), shape=source.shape)
    graph.append(ir.node("QuantizeLinear", [source, scale, zero], outputs=[steps], name=f"quantise_{source.name}"))
    return _dequantised(graph, steps, [steps, scale, zero], source.name, {})


def _stepped_weights(graph: ir.Graph, weight: ir.Value, array: NDArray[np.floating], kind: EightBits) -> ir.Value:
    """The weights as they come out of eight bits."""
    steps, scale = kind.steps_of(array)
    inputs = [
        _constant(graph, f"{weight.name}_{kind.precision}", steps),
        _constant(graph, f"{weight.name}_scale", scale),
        _constant(graph, f"{weight.name}_zero", np.zeros(len(scale), kind.dtype)),
    ]
    return _dequantised(graph, weight, inputs, str(weight.name), {"axis": 0})


def _dequantised(
    graph: ir.Graph, like: ir.Value, inputs: list[ir.Value], name: str, attributes: Mapping[str, Any]
) -> ir.Value:
    import onnx_ir as ir

    result = ir.Value(name=f"{name}_dequantised", type=ir.TensorType(ir.DataType.FLOAT), shape=like.shape)
    graph.append(ir.node("DequantizeLinear", inputs, attributes, outputs=[result], name=f"dequantise_{name}"))
    return result


def _constant(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    import onnx_ir as ir

    tensor = ir.tensor(np.asarray(array), name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
    graph.register_initializer(value)
    return value


def _weights_of(node: ir.Node) -> tuple[ir.Value, NDArray[np.floating]] | None:
    """The constant weights of a node, as a value and as an array; None where they are computed."""
    value = node.inputs[_WEIGHT] if len(node.inputs) > _WEIGHT else None
    if value is None or not value.is_initializer() or value.const_value is None:
        return None
    return value, value.const_value.numpy()


def _suits(node: ir.Node, weights: NDArray[np.floating], kind: EightBits | None) -> bool:
    group = node.attributes.get("group")
    return kind is None or kind.suits(weights.shape, 1 if group is None else group.as_int())
