"""Every paper's network, and the compact ones, from torch to a TensorRT plan, with no GPU and random weights.

The graphs leave batch, height and width free. Those of `-m large` differ from the others in size, or
in a layer; the largest takes 6 GB.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from export.bundle import Draft, write_bundle
from export.to_tensorrt import Sizes, build_plans
from runtime.bundle import Parity, ParityResult, open_bundle
from runtime.golden.frames import Golden
from runtime.spec import GraphSpec, Provenance, TensorSpec
from tests.export.graphs import noise, run

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed", exc_type=ImportError)


class Case(NamedTuple):
    task: str
    architecture: str
    outputs: int


# Smallest, usual and largest height, then width, in px: what the papers' pictures have.
SIZES = {
    "fracture": ((262, 463, 676), (611, 626, 810)),
    "crack": ((256, 512, 1024), (320, 640, 1280)),
    "phase": ((224, 224, 448), (224, 224, 448)),
    "grain": ((224, 224, 960), (224, 224, 1280)),
    "grain-classes": ((224, 224, 960), (224, 224, 1280)),
}
CASES = [
    Case("fracture", "vr-vgg19", 1),
    Case("fracture", "vgg8-cells", 1),
    Case("crack", "unet", 1),
    Case("crack", "unet-folded", 1),
    Case("phase", "deeplab-mobilenetv2", 2),
    Case("phase", "unet-narrow", 2),
    Case("grain", "resnet18-fc", 1),
    Case("grain", "resnet12-cells", 1),
]
LARGE = [
    Case("fracture", "vr-vgg11", 1),
    Case("fracture", "vr-vgg13", 1),
    Case("fracture", "vr-vgg16", 1),
    Case("fracture", "vr-densenet121", 1),
    Case("fracture", "vr-densenet161", 1),
    Case("fracture", "vr-resnet18", 1),
    Case("fracture", "vr-resnet34", 1),
    Case("fracture", "vu-vgg19", 1),
    Case("phase", "unet", 2),
    Case("phase", "segnet", 2),
    Case("phase", "deeplab-resnet18", 2),
    Case("phase", "deeplab-resnet50", 2),
    Case("grain", "alexnet-fc", 1),
    Case("grain-classes", "resnet18-ext", 11),
    Case("grain-classes", "alexnet-ext", 11),
    Case("grain-classes", "resnet12-cells", 11),
]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "case",
    [
        *(pytest.param(case, marks=pytest.mark.slow) for case in CASES),
        *(pytest.param(case, marks=(pytest.mark.slow, pytest.mark.large)) for case in LARGE),
    ],
    ids=lambda case: "-".join(map(str, case)),
)
def test_a_network_becomes_a_plan_for_any_size(case: Case, tmp_path: Path) -> None:
    import onnx_ir as ir
    import torch

    from export.half import to_half
    from export.tasks import export_task
    from export.to_onnx import output_specs, to_onnx, torch_outputs
    from train.models import build, count_parameters, find_blueprint, job_of

    torch.manual_seed(0)
    job = job_of(case.task)
    network = build(job, case.architecture, classes=case.outputs).eval()
    end = export_task(case.task).graphs["model"]
    single = to_onnx(network, "model", end, None)
    half = to_half(single)

    # A size that is neither the exporter's example nor divides by anything.
    frames = noise(1, 161, 203)
    torchs = torch_outputs(network, end, frames)
    for found, wanted in zip(run(single, frames=frames), torchs.values(), strict=True):
        assert found.shape == wanted.shape
        assert found.dtype == wanted.dtype
        apart = np.abs(found.astype(float) - wanted.astype(float))
        assert (apart > 1e-3 * max(1.0, float(np.abs(wanted).max()))).mean() < 0.001

    ir.save(half, tmp_path / "model.fp16.onnx")
    graph = GraphSpec(
        architecture=case.architecture,
        variant=find_blueprint(job, case.architecture).variant,
        parameters=count_parameters(network),
        files={"fp16": "model.fp16.onnx"},
        input=TensorSpec(name="frames", dtype="uint8", shape=("N", 1, "H", "W")),
        outputs=output_specs(single, end),
    )
    del network, single, half
    bundle = write_bundle(_draft(case, graph, frames, tmp_path / "model.fp16.onnx"), tmp_path / "bundle")
    heights, widths = SIZES[case.task]
    (plan,) = build_plans(bundle.path, Sizes((1, 4), heights, widths), targets=("8.9",))
    assert plan.manifest.precision == "fp16"
    assert plan.manifest.ranges("frames")[-1].largest == (4, 1, heights[-1], widths[-1])
    assert plan.size_bytes > graph.parameters * 2 * 0.9


MODELS = Path(__file__).parents[2] / "models"
SHIPPED = sorted(spec.parent.name for spec in MODELS.glob("*/spec.json"))


def test_the_bundles_that_ship_are_found() -> None:
    assert {"crack", "fracture", "grain", "phase", "strip"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_bundle_becomes_a_plan_of_each_graph(name: str, tmp_path: Path) -> None:
    """For any size where the graph leaves it free."""
    shutil.copytree(MODELS / name, tmp_path / name, ignore=shutil.ignore_patterns("engines"))
    heights, widths = SIZES.get(name, (None, None))
    plans = build_plans(tmp_path / name, Sizes((1, 4), heights, widths), targets=("8.9",))
    graphs = open_bundle(tmp_path / name).spec.graphs
    assert [plan.manifest.role for plan in plans] == list(graphs)
    for plan in plans:
        shape = graphs[plan.manifest.role].input.shape
        size = tuple(free[-1] if free else fixed for free, fixed in zip((heights, widths), shape[2:], strict=True))
        assert plan.manifest.ranges("frames")[-1].largest == (4, 1, *size)


def _draft(case: Case, graph: GraphSpec, frames: np.ndarray, file: Path) -> Draft:
    # Parity is another test's business: these weights were never trained.
    passed = ParityResult(graph="model", precision="fp16", backend="none", figure="none", value=0, limit=0, passed=True)
    return Draft(
        name="paper",
        task=case.task,
        graphs={"model": graph},
        onnx={"model.fp16.onnx": file},
        settings={},
        provenance=Provenance(recipe={}, data={}, git_commit="none", created_at="2024-01-01T00:00:00Z", metrics={}),
        golden=Golden(frames, {}),
        parity=Parity(limits={"none": 0}, results=(passed,)),
    )
