"""Typed half precision: half weights and half arithmetic written into an ONNX graph.

A strongly typed TensorRT network computes in the types that the graph states, so what is half is decided here and
nowhere else. FP32 stay: what lies between the logits and an output (sigmoid and quantisation, which half would round
to another level), arithmetic on shapes, and the nodes that the caller names because they overflow.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

import numpy as np

from runtime.errors import BundleError

if TYPE_CHECKING:
    import onnx_ir as ir

TAIL_OPS = frozenset({"ArgMax", "Cast", "Clip", "Div", "Mul", "Round", "Sigmoid", "Softmax", "Sub"})
"""Cheap arithmetic that stays FP32 where only such arithmetic follows up to an output."""

MOVES = frozenset({"Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})
"""Operations that only move numbers: exact in half, FP32 only between operations of the tail."""

FLOAT_INPUTS: dict[str, frozenset[int]] = {"Resize": frozenset({2}), "Upsample": frozenset({1})}
"""Inputs that ONNX fixes to FP32 whatever the data is: the scales."""

_SHAPE_OPS = frozenset({"Shape", "Size"})


def to_half(model: ir.Model, keep_float: Collection[str] = ()) -> ir.Model:
    """A copy of an FP32 graph in half precision; its inputs and outputs keep their types.

    Args:
        model: FP32 graph without subgraphs, batch norms already folded.
        keep_float: Names of nodes that stay FP32, see `export.overflow`.

    Raises:
        BundleError: A name in `keep_float` does not exist, the graph has a subgraph, or the result is not a valid
            typed graph.
    """
    import onnx
    import onnx_ir as ir
    from onnx_ir.passes import common as passes

    half_model = ir.from_proto(ir.to_proto(model))
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(half_model)
    graph = half_model.graph
    names = {node.name for node in graph}
    if unknown := sorted(set(keep_float) - names):
        raise BundleError(
            f"half precision: found no node {unknown[0]!r} to keep in FP32, expected one of the graph's "
            f"{len(names)} nodes. Name nodes of the FP32 graph that is converted."
        )
    for node in graph:
        if any(attribute.type in _graph_attributes() for attribute in node.attributes.values()):
            raise BundleError(
                f"half precision: found node {node.name!r} ({node.op_type}) with a subgraph, expected a plain "
                "graph. Export the network without control flow."
            )
    kept = {node for node in graph if node.name in keep_float} | tail(graph) | shape_arithmetic(graph)
    _Retyper(graph, kept).run()
    passes.TopologicalSortPass()(half_model)
    passes.RemoveUnusedNodesPass()(half_model)
    try:
        onnx.checker.check_model(ir.to_proto(half_model), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BundleError(
            f"half precision: the graph is not typed right: {error}. Keep the node in FP32 by its name."
        ) from error
    return half_model


def tail(graph: ir.Graph) -> set[ir.Node]:
    """The arithmetic from which only cheap operations lead to an output, and what moves numbers in between."""
    found: set[ir.Node] = set()
    pending = [output.producer() for output in graph.outputs]
    while pending:
        node = pending.pop()
        if node is None or node in found or node.op_type not in TAIL_OPS | MOVES:
            continue
        if {use.node for value in node.outputs for use in value.uses()} - found:
            continue  # it feeds the body too; its last user in the tail leads here again
        found.add(node)
        pending += [value.producer() for value in node.inputs if value is not None]
    while leading := {node for node in found if node.op_type in MOVES and not _sources(node) & found}:
        found -= leading
    return found


def shape_arithmetic(graph: ir.Graph) -> set[ir.Node]:
    """The nodes that compute with sizes only: a width of 2,049 is no half number."""
    found: set[ir.Node] = set()
    for node in graph:
        sources = [value for value in node.inputs if value is not None and not value.is_initializer()]
        from_sizes = bool(sources) and all(value.producer() in found for value in sources)
        if node.op_type in _SHAPE_OPS or from_sizes:
            found.add(node)
    return found


def half_array(array: np.ndarray) -> np.ndarray:
    """The nearest half numbers, but never infinite, and never zero where the number was not.

    A small constant may be all that keeps a division from zero.
    """
    kinds = np.finfo(np.float16)
    half = np.clip(array, kinds.min, kinds.max).astype(np.float16)
    lost = (half == 0) & (array != 0)
    return np.where(lost, np.copysign(kinds.smallest_subnormal, array).astype(np.float16), half)


class _Retyper:
    """One walk over a graph that gives each float value the type of the node that makes it."""

    def __init__(self, graph: ir.Graph, kept: Collection[ir.Node]) -> None:
        import onnx_ir as ir

        self._graph, self._kept, self._ir = graph, kept, ir
        self._half, self._float = ir.DataType.FLOAT16, ir.DataType.FLOAT
        self._casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}

    def run(self) -> None:
        for node in list(self._graph):
            wanted = self._float if node in self._kept else self._half
            fixed = FLOAT_INPUTS.get(node.op_type, frozenset())
            for place, value in enumerate(node.inputs):
                if value is None or value.dtype not in (self._half, self._float):
                    continue
                if node.op_type not in _SHAPE_OPS:  # a shape is the same in every type
                    node.replace_input_with(place, self._typed(value, self._float if place in fixed else wanted))
            if wanted == self._half:
                self._retype_attributes(node)
            for output in node.outputs:
                if output.dtype == self._float:
                    output.dtype = wanted
        for place, output in enumerate(list(self._graph.outputs)):
            if output.dtype == self._half:
                self._give_out_as_float(place, output)

    def _typed(self, value: ir.Value, wanted: ir.DataType) -> ir.Value:
        if value.dtype == wanted:
            return value
        if (value, wanted) not in self._casts:
            make: Callable[[ir.Value, ir.DataType], ir.Value] = (
                self._typed_initialiser if value.is_initializer() else self._cast
            )
            self._casts[value, wanted] = make(value, wanted)
        return self._casts[value, wanted]

    def _typed_initialiser(self, value: ir.Value, wanted: ir.DataType) -> ir.Value:
        if value.const_value is None:
            raise BundleError(
                f"half precision: found initialiser {value.name!r} without data, expected its weights in the graph. "
                "Export without external data."
            )
        name = f"{value.name}_half"
        tensor = self._ir.tensor(half_array(value.const_value.numpy()), name=name)
        typed = self._ir.Value(name=name, type=self._ir.TensorType(wanted), shape=value.shape, const_value=tensor)
        self._graph.register_initializer(typed)
        return typed

    def _cast(self, value: ir.Value, wanted: ir.DataType) -> ir.Value:
        name = f"{value.name}_{'half' if wanted == self._half else 'float'}"
        typed = self._ir.Value(name=name, type=self._ir.TensorType(wanted), shape=value.shape)
        node = self._ir.node("Cast", [value], attributes={"to": wanted}, outputs=[typed], name=f"cast_{name}")
        self._graph.append(node)  # sorted into place afterwards
        return typed

    def _retype_attributes(self, node: ir.Node) -> None:
        ir = self._ir
        for name, attribute in list(node.attributes.items()):
            if name in ("to", "dtype") and attribute.value == int(self._float):
                node.attributes[name] = ir.AttrInt64(name, int(self._half))
            elif attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype == self._float:
                node.attributes[name] = ir.AttrTensor(name, ir.tensor(half_array(attribute.as_tensor().numpy())))

    def _give_out_as_float(self, place: int, output: ir.Value) -> None:
        name, shape = output.name, output.shape
        output.name = f"{name}_half"
        typed = self._cast(output, self._float)
        typed.name, typed.shape = name, shape
        self._graph.outputs[place] = typed


def _sources(node: ir.Node) -> set[ir.Node]:
    producers = (value.producer() for value in node.inputs if value is not None)
    return {producer for producer in producers if producer is not None}


def _graph_attributes() -> Iterable[ir.AttributeType]:
    import onnx_ir as ir

    return (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
