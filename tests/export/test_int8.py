from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from export.half import to_half
from export.int8 import LEAST_SCALE, OPSET, int8_weights, layers_of, quantise
from export.overflow import float_ranges
from export.tasks.strip_graphs import ENDS
from export.to_onnx import to_onnx
from export.widen import raise_opset, to_single
from runtime.errors import BundleError
from tests.export.graphs import TinyGate, TinySegmenter, noise, run, seeded

FRAMES = noise(4, 40, 56)


@pytest.fixture(scope="module", params=["gate", "segmenter"])
def single(request: pytest.FixtureRequest) -> ir.Model:
    network = seeded({"gate": TinyGate, "segmenter": TinySegmenter}[request.param]())
    return raise_opset(to_onnx(network, request.param, ENDS[request.param], (40, 56)), OPSET)


def test_every_layer_reads_symmetric_int8(single: ir.Model) -> None:
    layers = layers_of(single)
    assert layers
    quantised = quantise(single, float_ranges(single, FRAMES), layers)
    onnx.checker.check_model(ir.to_proto(quantised), full_check=True)
    for node in quantised.graph:
        if node.name in layers:
            assert [value.producer().op_type for value in node.inputs[:2]] == ["DequantizeLinear"] * 2
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale, zero = (value.const_value.numpy() for value in node.inputs[1:])
            assert zero.dtype == np.int8
            assert not zero.any()
            assert (scale == scale.astype(np.float16)).all()
            assert (scale >= LEAST_SCALE).all()


def test_a_tensor_that_two_layers_read_is_quantised_once(single: ir.Model) -> None:
    quantised = quantise(single, float_ranges(single, FRAMES), layers_of(single))
    sources = [node.inputs[0].name for node in quantised.graph if node.op_type == "QuantizeLinear"]
    assert len(sources) == len(set(sources))


def test_int8_says_nearly_what_single_says(single: ir.Model) -> None:
    quantised = quantise(single, float_ranges(single, FRAMES), layers_of(single))
    (expected,), (found,) = (run(model, frames=FRAMES) for model in (single, quantised))
    whole = 255.0 if expected.dtype == np.uint8 else 1.0
    difference = np.abs(expected.astype(np.float64) - found) / whole
    assert difference.max() > 0  # it is quantised indeed
    assert difference.mean() < 0.02


def test_the_rest_becomes_half_and_the_scales_with_it(single: ir.Model) -> None:
    half = to_half(quantise(single, float_ranges(single, FRAMES), layers_of(single)))
    pairs = [node for node in half.graph if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert {node.inputs[1].dtype for node in pairs} == {ir.DataType.FLOAT16}
    weights = sum(v.const_value.nbytes for v in half.graph.initializers.values() if v.dtype == ir.DataType.INT8)
    assert weights > 0


def test_no_layer_leaves_the_graph_as_it_is(single: ir.Model) -> None:
    same = quantise(single, {}, ())
    assert [node.op_type for node in same.graph] == [node.op_type for node in single.graph]


def test_unknown_layers_and_ranges_are_refused(single: ir.Model) -> None:
    with pytest.raises(BundleError, match="found no convolution 'no_such'"):
        quantise(single, {}, ["no_such"])
    with pytest.raises(BundleError, match="found no range of the tensor"):
        quantise(single, {}, layers_of(single))


def test_a_half_file_widens_to_the_same_numbers(single: ir.Model) -> None:
    half = to_half(single)
    wide = to_single(half)
    assert not [value for value in wide.graph.initializers.values() if value.dtype == ir.DataType.FLOAT16]
    assert len(list(wide.graph)) <= len(list(half.graph))
    (expected,), (found,) = (run(model, frames=FRAMES) for model in (half, wide))
    whole = 255.0 if expected.dtype == np.uint8 else 1.0
    assert np.abs(expected.astype(np.float64) - found).max() / whole < 0.01


@given(
    arrays.arrays(
        np.float32, arrays.array_shapes(min_dims=2, max_dims=4, max_side=4), elements=st.floats(-60, 60, width=32)
    )
)
def test_a_weight_is_at_most_half_a_step_away(weights: NDArray[np.float32]) -> None:
    steps, scale = int8_weights(weights)
    back = steps * scale.reshape(-1, *(1,) * (weights.ndim - 1)).astype(np.float64)
    # a scale that half has rounded down costs the largest weight a little more
    assert (np.abs(back - weights) <= 0.57 * scale.reshape(-1, *(1,) * (weights.ndim - 1))).all()
    assert steps.min(initial=0) >= -127
