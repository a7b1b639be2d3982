"""A typed half graph back in FP32: what a bundle ships can be calibrated, changed and made half again.

The weights stay the half numbers that they are; only the type of the arithmetic is another one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from runtime.errors import BundleError

if TYPE_CHECKING:
    import onnx_ir as ir


def to_single(model: ir.Model) -> ir.Model:
    """A copy of a graph with FP32 in the place of half; casts that then change nothing are gone."""
    import onnx_ir as ir
    from onnx_ir.passes import common as passes

    single = ir.from_proto(ir.to_proto(model))
    graph = single.graph
    half, wide = ir.DataType.FLOAT16, ir.DataType.FLOAT
    for value in graph.initializers.values():
        if value.dtype == half and value.const_value is not None:
            value.const_value = ir.tensor(value.const_value.numpy().astype(np.float32), name=value.name)
            value.dtype = wide
    for node in list(graph):
        for name, attribute in list(node.attributes.items()):
            if name in ("to", "dtype") and attribute.value == int(half):
                node.attributes[name] = ir.AttrInt64(name, int(wide))
            elif attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype == half:
                node.attributes[name] = ir.AttrTensor(name, ir.tensor(attribute.as_tensor().numpy().astype(np.float32)))
        for value in node.outputs:
            if value.dtype == half:
                value.dtype = wide
        source, result = node.inputs[0] if node.op_type == "Cast" else None, node.outputs[0]
        if source is not None and source.dtype == result.dtype and not result.is_graph_output():
            ir.convenience.replace_all_uses_with(result, source)
            graph.remove(node, safe=True)
    passes.RemoveUnusedNodesPass()(single)
    return single


def raise_opset(model: ir.Model, opset: int) -> ir.Model:
    """A copy of a graph in a later opset, by ONNX's own converter.

    Raises:
        BundleError: The graph has an operation that cannot be taken there.
    """
    import onnx
    import onnx_ir as ir

    try:
        raised = onnx.version_converter.convert_version(ir.to_proto(model), opset)
        return ir.from_proto(onnx.shape_inference.infer_shapes(raised, strict_mode=True, data_prop=True))
    except (RuntimeError, onnx.version_converter.ConvertError, onnx.shape_inference.InferenceError) as error:
        raise BundleError(
            f"export: the graph cannot be taken to opset {opset}: {error}. Use operations that this opset has."
        ) from error
