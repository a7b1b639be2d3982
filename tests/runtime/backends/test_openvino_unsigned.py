from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import pytest

from runtime.backends.openvino_unsigned import hold_unsigned, is_never_negative

# Signed INT8 behind a ReLU, behind a concatenation of two, and before any ReLU.
GRAPH = """
<ir_version: 9, opset_import: ["" : 19]>
quantised (float[1, 2, 4, 4] grey) => (float[1, 2, 4, 4] bare, float[1, 2, 4, 4] low, float[1, 4, 2, 2] both)
<float step = {0.5}, int8 zero = {0}> {
    raw = QuantizeLinear (grey, step, zero)
    bare = DequantizeLinear (raw, step, zero)
    lit = Relu (grey)
    lit_steps = QuantizeLinear (lit, step, zero)
    low = DequantizeLinear (lit_steps, step, zero)
    small = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (lit)
    mean = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (lit)
    joined = Concat <axis = 1> (small, mean)
    joined_steps = QuantizeLinear (joined, step, zero)
    both = DequantizeLinear (joined_steps, step, zero)
}
"""


@pytest.fixture
def model(tmp_path: Path) -> ov.Model:
    import onnx

    onnx.save(onnx.parser.parse_model(GRAPH), tmp_path / "quantised.onnx")
    return ov.Core().read_model(tmp_path / "quantised.onnx")


def outputs(model: ov.Model, grey: np.ndarray) -> list[np.ndarray]:
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return [np.array(array) for array in compiled(grey).values()]


def test_only_what_is_never_negative_becomes_unsigned(model: ov.Model) -> None:
    assert hold_unsigned(model) == 2
    kinds = [node.get_element_type() for node in model.get_ordered_ops() if node.get_type_name() == "Convert"]
    assert kinds.count(ov.Type.u8) == 2
    assert hold_unsigned(model) == 0


def test_numbers_within_the_range_stay_the_same(model: ov.Model) -> None:
    grey = np.random.default_rng(1).uniform(-63.0, 63.0, (1, 2, 4, 4)).astype(np.float32)
    before = outputs(model.clone(), grey)
    hold_unsigned(model)
    for expected, found in zip(before, outputs(model, grey), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_beyond_the_range_less_is_clipped(model: ov.Model) -> None:
    grey = np.full((1, 2, 4, 4), 100.0, np.float32)
    clipped = outputs(model.clone(), grey)[1]
    hold_unsigned(model)
    assert clipped.max() == pytest.approx(63.5)
    assert outputs(model, grey)[1].max() == pytest.approx(100.0)


def test_a_tensor_is_judged_by_what_made_it(model: ov.Model) -> None:
    made = {node.get_type_name(): node for node in model.get_ordered_ops()}
    assert is_never_negative(made["Concat"])
    assert is_never_negative(made["MaxPool"])
    assert not is_never_negative(made["Parameter"])
