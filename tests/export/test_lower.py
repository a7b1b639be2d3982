from __future__ import annotations

import numpy as np
import pytest

from export.lower import OPSET, lower_opset
from runtime.errors import BundleError
from tests.export.graphs import noise, parse, run

NEWER = """
<ir_version: 9, opset_import: ["" : 18]>
newer (uint8[N, 1, 4, 6] frames) => (float[N, 1, 8, 12] large, float[N, 1] mean, float[N, 24] flat)
<int64[4] shape = {1, 1, 8, 12}, int64[2] axes = {2, 3}, int64[2] tail = {8, 12}, int64[1] cells = {24}> {
    grey = Cast <to = 1> (frames)
    head = Shape <start = 0, end = 2> (grey)
    sizes = Concat <axis = 0> (head, tail)
    large = Resize <mode = "nearest", nearest_mode = "floor", coordinate_transformation_mode = "asymmetric",
                    antialias = 0, keep_aspect_ratio_policy = "stretch"> (grey, , , sizes)
    mean = ReduceMean <keepdims = 0, noop_with_empty_axes = 0> (grey, axes)
    batch = Shape <start = 0, end = 1> (grey)
    rows = Concat <axis = 0> (batch, cells)
    flat = Reshape <allowzero = 1> (grey, rows)
}
"""


def test_the_lowered_graph_says_the_same() -> None:
    model = parse(NEWER)
    lowered = lower_opset(model)
    assert lowered.graph.opset_imports == {"": OPSET}
    frames = noise(3, 4, 6)
    for ours, theirs in zip(run(lowered, frames=frames), run(model, frames=frames), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_whole_factors_need_no_arithmetic_on_shapes() -> None:
    lowered = lower_opset(parse(NEWER))
    (resize,) = (node for node in lowered.graph if node.op_type == "Resize")
    scales = resize.inputs[2]
    assert scales is not None
    assert scales.const_value is not None
    assert scales.const_value.numpy().tolist() == [1.0, 1.0, 2.0, 2.0]
    assert [node.op_type for node in lowered.graph].count("Shape") == 1  # the batch of the reshape alone


def test_the_given_graph_is_left_alone() -> None:
    model = parse(NEWER)
    lower_opset(model)
    assert model.graph.opset_imports == {"": 18}


def test_an_operation_that_is_too_new_is_named() -> None:
    model = parse("""
        <ir_version: 9, opset_import: ["" : 18]>
        swish (float[N, 4] x) => (float[N, 4] y) { y = HardSwish (x) }
    """)
    with pytest.raises(BundleError, match=r"found the operation HardSwish, expected those of opset 13"):
        lower_opset(model)


def test_a_setting_that_is_too_new_is_named() -> None:
    model = parse("""
        <ir_version: 9, opset_import: ["" : 18]>
        smooth (float[1, 1, 4, 4] x) => (float[1, 1, 2, 2] y) <int64[4] sizes = {1, 1, 2, 2}> {
            y = Resize <mode = "linear", antialias = 1> (x, , , sizes)
        }
    """)
    with pytest.raises(BundleError, match=r"does not fit opset 13.*antialias"):
        lower_opset(model)
