from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from export.eight_bits import FP8, INT8, LEAST_SCALE, EightBits
from export.half import to_half
from export.overflow import float_ranges
from export.pairs import OPSET, layers_of, quantise
from export.tasks.strip_graphs import ENDS
from export.to_onnx import output_specs, to_onnx
from export.widen import raise_opset, to_single
from runtime.backends import open_engine
from runtime.engine import EngineSettings
from runtime.errors import BundleError
from runtime.golden.frames import outputs_of
from runtime.spec import GraphSpec, TensorSpec
from tests.export.graphs import TinyGate, TinySegmenter, noise, run, seeded

FRAMES = noise(4, 40, 56)


NARROW, WIDE = (6, 8), (16, 32)
"""Channels: FP8 is for multiples of 16 alone."""
CASES = [
    pytest.param(role, kind, channels, id=f"{role}-{kind.precision}")
    for kind, channels in ((INT8, NARROW), (FP8, WIDE))
    for role in ("gate", "segmenter")
]
every_case = pytest.mark.parametrize(("role", "kind", "channels"), CASES)


@cache
def exported(role: str, channels: tuple[int, int]) -> ir.Model:
    network = TinyGate(*channels) if role == "gate" else TinySegmenter(3, *channels)
    return raise_opset(to_onnx(seeded(network), role, ENDS[role], (40, 56)), OPSET)


@pytest.fixture(scope="module")
def single() -> ir.Model:
    return exported("segmenter", NARROW)


@every_case
def test_every_layer_that_suits_reads_symmetric_steps(role: str, kind: EightBits, channels: tuple[int, int]) -> None:
    single = exported(role, channels)
    layers = layers_of(single, kind)
    assert layers
    quantised = quantise(single, float_ranges(single, FRAMES), layers, kind)
    onnx.checker.check_model(ir.to_proto(quantised), full_check=True)
    for node in quantised.graph:
        if node.name in layers:
            assert [value.producer().op_type for value in node.inputs[:2]] == ["DequantizeLinear"] * 2
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale, zero = (value.const_value.numpy() for value in node.inputs[1:])
            assert zero.dtype == kind.dtype
            assert not zero.astype(np.float32).any()
            assert (scale == scale.astype(np.float16)).all()
            assert (scale >= LEAST_SCALE).all()


def test_fp8_takes_only_what_a_gpu_has_kernels_for() -> None:
    single = exported("segmenter", WIDE)
    assert len(layers_of(single)) == len(layers_of(single, INT8)) == 3
    suited = layers_of(single, FP8)  # neither the first, from one channel, nor the last, to three
    assert suited == layers_of(single)[1:2]
    with pytest.raises(BundleError, match=r"found no convolution .* for FP8, expected some of"):
        quantise(single, float_ranges(single, FRAMES), layers_of(single), FP8)
    assert FP8.suits((64, 32, 5, 5), groups=1)
    assert not FP8.suits((64, 32, 7, 7), groups=1)
    assert not FP8.suits((64, 1, 3, 3), groups=64)
    assert not FP8.suits((64, 40, 3, 3), groups=1)


def test_a_tensor_that_two_layers_read_is_quantised_once(single: ir.Model) -> None:
    quantised = quantise(single, float_ranges(single, FRAMES), layers_of(single), INT8)
    sources = [node.inputs[0].name for node in quantised.graph if node.op_type == "QuantizeLinear"]
    assert len(sources) == len(set(sources))


@every_case
def test_eight_bits_say_nearly_what_single_says(role: str, kind: EightBits, channels: tuple[int, int]) -> None:
    single = exported(role, channels)
    quantised = quantise(single, float_ranges(single, FRAMES), layers_of(single, kind), kind)
    (expected,), (found,) = (run(model, frames=FRAMES) for model in (single, quantised))
    whole = 255.0 if expected.dtype == np.uint8 else 1.0
    difference = np.abs(expected.astype(np.float64) - found) / whole
    assert difference.max() > 0  # it is quantised indeed
    assert difference.mean() < 0.02


@every_case
def test_the_rest_becomes_half_and_the_scales_with_it(role: str, kind: EightBits, channels: tuple[int, int]) -> None:
    single = exported(role, channels)
    half = to_half(quantise(single, float_ranges(single, FRAMES), layers_of(single, kind), kind))
    pairs = [node for node in half.graph if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert {node.inputs[1].dtype for node in pairs} == {ir.DataType.FLOAT16}
    steps = ir.DataType[kind.onnx_type]
    assert sum(v.const_value.nbytes for v in half.graph.initializers.values() if v.dtype == steps) > 0


def test_onnxruntime_computes_fp8_as_it_is_written(tmp_path: Path) -> None:
    """One of its rewrites takes away the ReLU in front of a quantiser, and FP8 does not clip at zero."""
    single = exported("gate", WIDE)
    quantised = quantise(single, float_ranges(single, FRAMES), layers_of(single, FP8), FP8)
    ir.save(quantised, tmp_path / "gate.fp8.onnx")
    spec = GraphSpec(
        architecture="tiny-gate",
        variant="compact",
        parameters=1,
        files={"fp8": "gate.fp8.onnx"},
        input=TensorSpec(name="frames", dtype="uint8", shape=("N", 1, 40, 56)),
        outputs=output_specs(quantised, ENDS["gate"]),
    )
    settings = EngineSettings(max_batch=4, threads=1)
    with open_engine("onnxruntime", tmp_path / "gate.fp8.onnx", spec, settings) as engine:
        (found,) = outputs_of(engine, FRAMES).values()
    (expected,) = run(quantised, frames=FRAMES)
    assert np.abs(found - expected).max() < 1e-3


def test_no_layer_leaves_the_graph_as_it_is(single: ir.Model) -> None:
    same = quantise(single, {}, (), INT8)
    assert [node.op_type for node in same.graph] == [node.op_type for node in single.graph]


def test_unknown_layers_and_ranges_are_refused(single: ir.Model) -> None:
    with pytest.raises(BundleError, match="found no convolution 'no_such'"):
        quantise(single, {}, ["no_such"], INT8)
    with pytest.raises(BundleError, match="found no range of the tensor"):
        quantise(single, {}, layers_of(single), INT8)


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
    steps, scale = INT8.steps_of(weights)
    back = steps * scale.reshape(-1, *(1,) * (weights.ndim - 1)).astype(np.float64)
    # a scale that half has rounded down costs the largest weight a little more
    assert (np.abs(back - weights) <= 0.57 * scale.reshape(-1, *(1,) * (weights.ndim - 1))).all()
    assert steps.min(initial=0) >= -127


@given(
    arrays.arrays(
        np.float32, arrays.array_shapes(min_dims=2, max_dims=4, max_side=4), elements=st.floats(-6e4, 6e4, width=32)
    )
)
def test_an_fp8_weight_keeps_three_digits_of_its_own_and_is_never_lost(weights: NDArray[np.float32]) -> None:
    steps, scale = FP8.steps_of(weights)
    scales = scale.reshape(-1, *(1,) * (weights.ndim - 1)).astype(np.float64)
    back = steps.astype(np.float64) * scales
    assert np.isfinite(back).all()
    # a sixteenth of its size, half the smallest step of all, and what a scale that half has rounded down cuts off
    assert (np.abs(back - weights) <= np.abs(weights) / 16 * 1.01 + scales * 2.0**-10).all()
