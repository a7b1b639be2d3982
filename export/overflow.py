"""Which layers overflow in half: the largest value of every tensor, and half arithmetic emulated on a CPU.

No CPU backend computes in half: OpenVINO widens to bf16 or FP32, ONNX Runtime to FP32. So an overflow that a GPU
would meet is looked for here: first by the range of every tensor of the FP32 graph, then by running the half graph
with every half tensor rounded to half.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from runtime.errors import BundleError

if TYPE_CHECKING:
    import onnx_ir as ir

HALF_MAX = 65504.0
HEADROOM = 4.0
"""How much larger than on the frames seen a tensor may become on others before half overflows."""


def float_ranges(model: ir.Model, frames: Iterable[NDArray[np.uint8]]) -> dict[str, float]:
    """The largest absolute value of every float tensor of an FP32 graph, by the tensor's name.

    Args:
        model: FP32 graph with the input `frames`.
        frames: (1, H, W) uint8 each, run one at a time.
    """
    import onnx_ir as ir
    import onnxruntime

    probe = ir.from_proto(ir.to_proto(model))
    graph = probe.graph
    watched = [value for node in graph for value in node.outputs if value.dtype == ir.DataType.FLOAT and value.uses()]
    del graph.outputs[:]
    for number, value in enumerate(watched):
        size, largest = (
            ir.Value(name=f"range_{step}_{number}", type=ir.TensorType(ir.DataType.FLOAT)) for step in ("abs", "max")
        )
        largest.shape = ir.Shape([])
        graph.append(ir.node("Abs", [value], outputs=[size], name=f"{size.name}_node"))
        graph.append(ir.node("ReduceMax", [size], {"keepdims": 0}, outputs=[largest], name=f"{largest.name}_node"))
        graph.outputs.append(largest)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        ir.to_proto(probe).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    ranges = {str(value.name): float(np.abs(weights).max()) for value, weights in _float_weights(graph)}
    seen = np.zeros(len(watched))
    for frame in frames:
        seen = np.maximum(seen, np.asarray(session.run(None, {"frames": frame[None]}), np.float64))
    return ranges | {str(value.name): float(top) for value, top in zip(watched, seen, strict=True)}


def overflowing_nodes(
    model: ir.Model, ranges: Mapping[str, float], limit: float = HALF_MAX / HEADROOM
) -> tuple[str, ...]:
    """The nodes that take or give a tensor beyond `limit` (or a NaN), in the graph's order: these stay FP32.

    Raises:
        BundleError: Such a node has no name.
    """
    found: list[str] = []
    for node in model.graph:
        tensors = [value for value in (*node.inputs, *node.outputs) if value is not None]
        if all(ranges.get(str(value.name), 0.0) <= limit for value in tensors):
            continue
        if not node.name:
            raise BundleError(
                f"half precision: a {node.op_type} overflows and has no name, expected a name for every node. "
                "Name the nodes of the graph."
            )
        found.append(node.name)
    return tuple(found)


def emulate_half(model: ir.Model) -> ir.Model:
    """A copy of a half graph that computes in FP32 and rounds every half tensor to half, overflow included.

    This is what a GPU's half arithmetic gives, with its FP32 accumulators, up to the order of the sums.
    """
    import onnx_ir as ir
    from onnx_ir.passes import common as passes

    emulated = ir.from_proto(ir.to_proto(model))
    graph = emulated.graph
    half, single = ir.DataType.FLOAT16, ir.DataType.FLOAT
    for value in list(graph.initializers.values()):
        if value.dtype == half and value.const_value is not None:
            value.const_value = ir.tensor(value.const_value.numpy().astype(np.float32), name=value.name)
            value.dtype = single
    for node in list(graph):
        for attribute in list(node.attributes.values()):
            if attribute.name in ("to", "dtype") and attribute.value == int(half):
                node.attributes[attribute.name] = ir.AttrInt64(attribute.name, int(single))
            elif attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype == half:
                wide = ir.tensor(attribute.as_tensor().numpy().astype(np.float32))
                node.attributes[attribute.name] = ir.AttrTensor(attribute.name, wide)
        for value in node.outputs:
            if value.dtype != half:
                continue
            value.dtype = single
            uses = list(value.uses())
            rounded, widened = (
                ir.Value(name=f"{value.name}_{step}", type=ir.TensorType(kind), shape=value.shape)
                for step, kind in (("rounded", half), ("widened", single))
            )
            for source, result, kind in ((value, rounded, half), (rounded, widened, single)):
                graph.append(ir.node("Cast", [source], {"to": kind}, outputs=[result], name=f"cast_{result.name}"))
            for user, place in uses:
                user.replace_input_with(place, widened)
    passes.TopologicalSortPass()(emulated)
    return emulated


def _float_weights(graph: ir.Graph) -> list[tuple[ir.Value, NDArray[np.float32]]]:
    import onnx_ir as ir

    return [
        (value, np.asarray(value.const_value.numpy(), np.float32))
        for value in graph.initializers.values()
        if value.dtype == ir.DataType.FLOAT and value.const_value is not None and value.const_value.size
    ]
