from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from torch import nn

from export.half import to_half
from export.tasks.base import GraphEnd, Output
from export.tasks.strip_graphs import ENDS
from export.to_onnx import output_specs, to_onnx, torch_outputs
from runtime.errors import BundleError
from tests.export.graphs import GateOutput, TinyGate, TinySegmenter, noise, run, seeded

NETWORKS: dict[str, nn.Module] = {"gate": seeded(TinyGate()), "segmenter": seeded(TinySegmenter())}


@pytest.fixture(scope="module", params=["gate", "segmenter"])
def fixed(request: pytest.FixtureRequest) -> tuple[str, ir.Model]:
    return request.param, to_onnx(NETWORKS[request.param], request.param, ENDS[request.param], (40, 56))


def test_the_graph_keeps_its_contract(fixed: tuple[str, ir.Model]) -> None:
    role, model = fixed
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    (given,), (result,) = model.graph.inputs, model.graph.outputs
    assert (given.name, given.dtype, str(given.shape)) == ("frames", ir.DataType.UINT8, "[N,1,40,56]")
    (wanted,) = output_specs(model, ENDS[role])
    assert result.name == wanted.name
    assert wanted.shape == {"gate": ("N",), "segmenter": ("N", 3, 40, 56)}[role]
    assert result.dtype == {"uint8": ir.DataType.UINT8, "float32": ir.DataType.FLOAT}[wanted.dtype]
    assert str(result.shape) == f"[{','.join(map(str, wanted.shape))}]"
    assert not any(node.op_type == "BatchNormalization" for node in model.graph)


def test_the_file_tells_nothing_of_the_machine_that_wrote_it(fixed: tuple[str, ir.Model]) -> None:
    text = ir.to_proto(fixed[1]).SerializeToString()
    assert str(Path(__file__).parents[2]).encode() not in text
    assert b".py" not in text


@pytest.mark.parametrize("count", [1, 3, 5])
def test_any_batch_gives_what_torch_gives(fixed: tuple[str, ir.Model], count: int) -> None:
    role, model = fixed
    frames = noise(count, 40, 56)
    (found,) = run(model, frames=frames)
    _same(found, torch_outputs(NETWORKS[role], ENDS[role], frames)[model.graph.outputs[0].name or ""])


def test_free_sizes_are_free_and_half_too() -> None:
    model = to_onnx(NETWORKS["segmenter"], "segmenter", ENDS["segmenter"], None)
    half = to_half(model)
    assert str(model.graph.inputs[0].shape) == "[N,1,H,W]"
    assert str(model.graph.outputs[0].shape) == "[N,3,H,W]"
    for size in ((40, 56), (33, 51)):
        frames = noise(2, *size)
        wanted = torch_outputs(NETWORKS["segmenter"], ENDS["segmenter"], frames)["class_probability"]
        (found,), (rough,) = run(model, frames=frames), run(half, frames=frames)
        _same(found, wanted)
        assert np.abs(rough.astype(int) - wanted).max() <= 3


@pytest.mark.parametrize(
    ("output", "finish", "found"),
    [
        (Output("p", "uint8", ("N",)), lambda each: (each.logit.float(),), "FLOAT of 1 axes"),
        (Output("p", "float32", ("N", "K")), lambda each: (each.logit.float(),), "FLOAT of 1 axes"),
        (Output("p", "float32", ("N",)), lambda each: (each.logit.mean()[None],), "the size 1 fixed for N"),
    ],
)
def test_a_graph_that_is_not_what_its_end_says_is_refused(output: Output, finish: Any, found: str) -> None:
    end = GraphEnd((output,), finish, ENDS["gate"].comparison)
    with pytest.raises(BundleError, match=f"output 'p' of the gate has {found}, expected {output.dtype}"):
        to_onnx(NETWORKS["gate"], "gate", end, (40, 56))


def test_a_branch_on_pixels_is_refused() -> None:
    class Moody(TinyGate):
        def forward(self, frames: object) -> GateOutput:
            output = super().forward(frames)  # type: ignore[arg-type]
            return GateOutput(output.logit * 2.0) if bool(output.logit.sum() > 0) else output

    with pytest.raises(BundleError, match="the gate cannot be written as ONNX"):
        to_onnx(Moody().eval(), "gate", ENDS["gate"], (40, 56))


def _same(found: NDArray[Any], wanted: NDArray[Any]) -> None:
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    if found.dtype == np.uint8:  # sums in another order may round to the next level
        assert np.abs(found.astype(int) - wanted.astype(int)).max() <= 1
    else:
        np.testing.assert_allclose(found, wanted, atol=1e-5)
