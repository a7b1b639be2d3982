"""Explicit INT8: a pair of QuantizeLinear and DequantizeLinear around what a convolution reads, written into the graph.

One file serves a strongly typed TensorRT network, which takes symmetric scales with a zero point of 0 and nothing else,
and OpenVINO, which computes such a convolution in VNNI. Weights have a scale for each output channel, activations one
for the whole tensor. Scales are half numbers, because the rest of the graph will be: what the weights were divided by
is then exactly what they are multiplied by again. See `docs/decisions/0011-int8.md`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.errors import BundleError

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

OPSET = 19
"""The first in which a scale, and what it scales, may be half."""
LEVELS = 127
"""Steps on either side of zero; -128 stays unused, so that a weight and its negative are equally exact."""
LEAST_SCALE = 2.0**-14
"""The smallest half number that keeps all its digits."""

_WEIGHT = 1  # where a convolution has its weights


def layers_of(model: ir.Model) -> tuple[str, ...]:
    """The names of the layers that can be quantised, in the graph's order: convolutions of constant weights.

    Raises:
        BundleError: Such a layer has no name.
    """
    found = [node for node in model.graph if node.op_type == "Conv" and _weights_of(node)]
    if any(not node.name for node in found):
        raise BundleError("int8: found a Conv without a name, expected a name for every node. Export the bundle again.")
    return tuple(str(node.name) for node in found)


def quantise(model: ir.Model, ranges: Mapping[str, float], layers: Collection[str]) -> ir.Model:
    """A copy of an FP32 graph in which some convolutions read INT8; everything else is as it was.

    Args:
        model: FP32 graph of opset `OPSET`, batch norms already folded.
        ranges: The largest absolute value of every float tensor, by its name (`export.overflow.float_ranges`).
        layers: Names of the convolutions, of `layers_of`.

    Raises:
        BundleError: A name is not one of `layers_of`, or the range of an input is not known.
    """
    import onnx_ir as ir
    from onnx_ir.passes import common as passes

    quantised = ir.from_proto(ir.to_proto(model))
    graph = quantised.graph
    if unknown := sorted(set(layers) - set(layers_of(quantised))):
        raise BundleError(
            f"int8: found no convolution {unknown[0]!r}, expected some of {', '.join(layers_of(quantised))}. "
            "Name layers of the graph."
        )
    pairs: dict[ir.Value, ir.Value] = {}
    for node in list(graph):
        weights = _weights_of(node) if node.name in layers else None
        if weights is None or (source := node.inputs[0]) is None:
            continue
        if source not in pairs:
            pairs[source] = _activation(graph, source, ranges)
        node.replace_input_with(0, pairs[source])
        node.replace_input_with(_WEIGHT, _int8_weights(graph, *weights))
    passes.TopologicalSortPass()(quantised)
    passes.RemoveUnusedNodesPass()(quantised)
    return quantised


def scale_of(largest: NDArray[np.floating] | float) -> NDArray[np.float32]:
    """The scale of values up to `largest`: a half number, never so small that half loses its digits.

    >>> float(scale_of(127.0)), float(scale_of(0.0)) == LEAST_SCALE
    (1.0, True)
    """
    return np.maximum(np.asarray(largest, np.float64) / LEVELS, LEAST_SCALE).astype(np.float16).astype(np.float32)


def int8_weights(weights: NDArray[np.floating]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Weights (O, ...) as INT8 of the same shape, -127..127, and the scale (O,) of each output channel."""
    scale = scale_of(np.abs(weights).max(axis=tuple(range(1, weights.ndim)), initial=0.0))
    steps = np.rint(weights / scale.reshape(-1, *(1,) * (weights.ndim - 1)))
    return np.clip(steps, -LEVELS, LEVELS).astype(np.int8), scale


def _activation(graph: ir.Graph, source: ir.Value, ranges: Mapping[str, float]) -> ir.Value:
    """The value as it comes out of the pair."""
    import onnx_ir as ir

    if source.name is None or source.name not in ranges:
        raise BundleError(
            f"int8: found no range of the tensor {source.name!r}, expected one for each input of a layer. "
            "Calibrate the graph that is quantised."
        )
    scale = _constant(graph, f"{source.name}_scale", scale_of(ranges[source.name]))
    zero = _constant(graph, f"{source.name}_zero", np.array(0, np.int8))
    steps = ir.Value(name=f"{source.name}_int8", type=ir.TensorType(ir.DataType.INT8), shape=source.shape)
    graph.append(ir.node("QuantizeLinear", [source, scale, zero], outputs=[steps], name=f"quantise_{source.name}"))
    return _dequantised(graph, steps, [steps, scale, zero], source.name, {})


def _int8_weights(graph: ir.Graph, weight: ir.Value, array: NDArray[np.floating]) -> ir.Value:
    """The weights as they come out of INT8."""
    steps, scale = int8_weights(array)
    inputs = [
        _constant(graph, f"{weight.name}_int8", steps),
        _constant(graph, f"{weight.name}_scale", scale),
        _constant(graph, f"{weight.name}_zero", np.zeros(len(scale), np.int8)),
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
