"""What tests on a real GPU share: whether there is one, and plans that are built for it on the way."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from export.plan_builder import build_plan
from runtime.backends.contract import frame_size
from runtime.backends.slots import SlottedEngine
from runtime.backends.tensorrt import open_device, open_graph
from runtime.cuda import CUDA_APIS, open_cuda
from runtime.engine import EngineSettings
from runtime.errors import EngineError
from runtime.plans.flavours import FLAVOURS, FlavourName
from runtime.plans.manifest import FOLDER, EngineManifest, ShapeRange
from runtime.plans.preflight import find_plan
from runtime.spec import GraphSpec, read_spec
from tests.software_plans import make_bundle, sign


@functools.cache
def no_gpu() -> str:
    """Why no test can use a GPU here; empty where one can."""
    try:
        open_cuda().close()
    except EngineError as error:
        return f"no NVIDIA GPU: {str(error)[:60]}..."
    return ""


needs_gpu = [pytest.mark.gpu, pytest.mark.skipif(bool(no_gpu()), reason=no_gpu() or "there is a GPU")]
"""The marks of a test on a GPU: named for `-m gpu`, and skipped with the reason where there is none."""


def open_on_gpu(flavour: FlavourName, model: Path, graph: GraphSpec, settings: EngineSettings) -> SlottedEngine:
    """Build a plan for this GPU and open it; its parity nobody asks for."""
    pytest.importorskip(FLAVOURS[flavour].module)
    device = open_device(flavour, settings)
    bundle = make_bundle(model, graph)
    ((precision, file),) = graph.files.items()
    size, batch = frame_size("test", graph, settings), settings.max_batch
    ahead = FLAVOURS[flavour].ahead_of_time
    manifest = EngineManifest(
        role="model",
        onnx_sha256=read_spec(bundle).files[file],
        flavour=flavour,
        version=device.site.version,
        cuda=device.site.cuda,
        targets=(device.site.gpu.capability,) if ahead else (),
        gpu=None if ahead else device.site.gpu,
        precision=precision,
        profile={graph.input.name: ShapeRange(smallest=(1, 1, *size), usual=(1, 1, *size), largest=(batch, 1, *size))},
    )
    plan = build_plan(device.trt, model, graph, manifest, lambda *_: None)
    (bundle / FOLDER).mkdir(exist_ok=True)
    (bundle / manifest.plan_file).write_bytes(plan)
    (bundle / manifest.side_car_file).write_text(manifest.to_json(), encoding="utf-8")
    sign(bundle, manifest.plan_file, manifest.side_car_file)
    return open_graph(device, model, graph, settings, choose=find_plan)


def installed_apis() -> list[str]:
    """The CUDA implementations whose library is there."""
    return [name for name, entry in CUDA_APIS.items() if entry.installed]
