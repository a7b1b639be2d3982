from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from export.half import half_array, to_half
from export.overflow import emulate_half, float_ranges, overflowing_nodes
from export.tasks.strip_graphs import ENDS
from export.to_onnx import to_onnx
from runtime.errors import BundleError
from tests.export.graphs import TinyGate, TinySegmenter, noise, parse, run, seeded

HALF, SINGLE = ir.DataType.FLOAT16, ir.DataType.FLOAT

# 255 * 400 overflows half between the two convolutions, and nowhere else.
OVERFLOWING = """
<ir_version: 8, opset_import: ["" : 13]>
loud (uint8[N, 1, 4, 4] frames) => (float[N, 1, 4, 4] probability)
<float[1, 1, 1, 1] up = {400.0}, float[1, 1, 1, 1] down = {0.0000001}, float[1] offset = {-0.005}> {
    grey = Cast <to = 1> (frames)
    loud = Conv (grey, up)
    still_loud = Relu (loud)
    quiet = Conv (still_loud, down, offset)
    louder = Mul (quiet, quiet)
    probability = Sigmoid (louder)
}
"""


@pytest.fixture(scope="module", params=["gate", "segmenter"])
def pair(request: pytest.FixtureRequest) -> tuple[ir.Model, ir.Model]:
    network = seeded({"gate": TinyGate, "segmenter": TinySegmenter}[request.param]())
    single = to_onnx(network, request.param, ENDS[request.param], (40, 56))
    return single, to_half(single)


def test_weights_and_arithmetic_are_half(pair: tuple[ir.Model, ir.Model]) -> None:
    single, half = pair
    onnx.checker.check_model(ir.to_proto(half), full_check=True)
    body = [node for node in half.graph if node.op_type in ("Conv", "Gemm", "MatMul", "Relu", "Add", "Concat")]
    assert body
    for node in body:
        kinds = {value.dtype for value in (*node.inputs, *node.outputs) if value is not None}
        assert kinds == {HALF}, node.name
    left = [
        each.const_value.size for each in half.graph.initializers.values() if each.dtype == SINGLE and each.const_value
    ]
    assert sum(left) <= 16  # a resize's scales and the quantisation's 255
    assert ir.to_proto(half).ByteSize() < ir.to_proto(single).ByteSize()


def test_inputs_and_outputs_keep_their_types(pair: tuple[ir.Model, ir.Model]) -> None:
    for ours, theirs in zip(pair, reversed(pair), strict=True):
        for side in ("inputs", "outputs"):
            assert [(each.name, each.dtype, each.shape) for each in getattr(ours.graph, side)] == [
                (each.name, each.dtype, each.shape) for each in getattr(theirs.graph, side)
            ]


def test_the_input_is_cast_to_half_at_once_and_the_sigmoid_stays_single(pair: tuple[ir.Model, ir.Model]) -> None:
    _, half = pair
    first = half.graph.inputs[0].uses()
    assert [use.node.outputs[0].dtype for use in first if use.node.op_type == "Cast"] == [HALF]
    last = [node for node in half.graph if node.op_type == "Sigmoid"][-1]
    assert last.outputs[0].dtype == SINGLE


def test_half_says_nearly_what_single_says(pair: tuple[ir.Model, ir.Model]) -> None:
    frames = noise(4, 40, 56)
    (single,), (half,), (emulated,) = (run(model, frames=frames) for model in (*pair, emulate_half(pair[1])))
    whole = 255.0 if single.dtype == np.uint8 else 1.0
    for other in (half, emulated):
        assert np.abs(single.astype(np.float64) - other).max() / whole < 0.02


def test_an_overflow_is_found_and_kept_single() -> None:
    model = parse(OVERFLOWING)
    frames = np.full((1, 1, 4, 4), 255, np.uint8)
    ranges = float_ranges(model, frames)
    assert ranges["loud"] == pytest.approx(102_000)
    assert overflowing_nodes(model, ranges) == ("Conv_1", "Relu_2", "Conv_3")
    (truth,) = run(model, frames=frames)
    (lost,) = run(emulate_half(to_half(model)), frames=frames)
    assert not np.allclose(lost, truth, atol=1e-3)
    safe = to_half(model, overflowing_nodes(model, ranges))
    (kept,) = run(emulate_half(safe), frames=frames)
    np.testing.assert_allclose(kept, truth, atol=1e-3)
    between = next(value for node in safe.graph for value in node.outputs if value.name == "loud")
    assert between.dtype == SINGLE


def test_quiet_frames_need_no_single_layers() -> None:
    model = parse(OVERFLOWING)
    assert overflowing_nodes(model, float_ranges(model, np.full((1, 1, 4, 4), 40, np.uint8))) == ()


def test_arithmetic_on_sizes_stays_exact() -> None:
    # 2049 is no half number: a width computed in half would be 2048.
    model = parse(
        """
        <ir_version: 8, opset_import: ["" : 13]>
        sizes (uint8[N, 1, 2, W] frames) => (float[N, 1, 2, W] scaled)
        <float two = {2.0}, int64[2] first = {1, 1}, int64[1] begin = {3}, int64[1] end = {4}, int64[1] two_rows = {2},
         float[1] one = {1.0}> {
            grey = Cast <to = 1> (frames)
            shape = Shape (grey)
            width = Slice (shape, begin, end)
            real = Cast <to = 1> (width)
            twice = Mul (real, two)
            again = Div (twice, two)
            whole = Cast <to = 7> (again)
            batch = Slice (shape, zero, onward)
            target = Concat <axis = 0> (batch, one_channel, two_rows, whole)
            flat = Reshape (grey, target)
            scaled = Mul (flat, one)
        }
    """.replace("float two", "int64[1] zero = {0}, int64[1] onward = {1}, int64[1] one_channel = {1}, float two")
    )
    frames = noise(1, 2, 2049)
    (found,) = run(to_half(model), frames=frames)
    np.testing.assert_array_equal(found, frames.astype(np.float32))


def test_a_float_output_of_the_body_is_cast_back() -> None:
    model = parse("""
        <ir_version: 8, opset_import: ["" : 13]>
        bare (uint8[N, 1, 4, 4] frames) => (float[N, 1, 4, 4] activation)
        <float[1, 1, 1, 1] weight = {0.5}> {
            grey = Cast <to = 1> (frames)
            activation = Conv (grey, weight)
        }
    """)
    half = to_half(model)
    assert half.graph.outputs[0].dtype == SINGLE
    assert [node.outputs[0].dtype for node in half.graph if node.op_type == "Conv"] == [HALF]
    frames = noise(2, 4, 4)
    np.testing.assert_array_equal(run(half, frames=frames)[0], frames * np.float32(0.5))


def test_a_constant_of_both_types_is_kept_in_both() -> None:
    model = parse("""
        <ir_version: 8, opset_import: ["" : 13]>
        shared (uint8[N, 1, 4, 4] frames) => (uint8[N, 1, 4, 4] level)
        <float[1, 1, 1, 1] weight = {0.01}, float full = {255.0}> {
            grey = Cast <to = 1> (frames)
            small = Div (grey, full)
            logit = Conv (small, weight)
            probability = Sigmoid (logit)
            scaled = Mul (probability, full)
            rounded = Round (scaled)
            level = Cast <to = 2> (rounded)
        }
    """)
    frames = noise(2, 4, 4)
    np.testing.assert_array_equal(run(to_half(model), frames=frames)[0], run(model, frames=frames)[0])


def test_a_name_that_does_not_exist_is_refused() -> None:
    with pytest.raises(BundleError, match="found no node 'Conv_9' to keep in FP32"):
        to_half(parse(OVERFLOWING), ["Conv_9"])


@given(arrays.arrays(np.float32, 20, elements=st.floats(-1e9, 1e9, width=32)))
def test_half_numbers_are_finite_in_order_and_zero_only_where_they_were(values: np.ndarray) -> None:
    ordered = np.sort(values)
    half = half_array(ordered)
    assert half.dtype == np.float16
    assert np.isfinite(half).all()
    assert (np.diff(half.astype(np.float32)) >= 0).all()
    np.testing.assert_array_equal(half == 0, ordered == 0)
