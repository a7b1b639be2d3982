"""What tests on a real GPU share: whether there is one, and plans that are built for it on the way."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from export.plan_builder import build_plan
from runtime.backends.contract import frame_size
from runtime.backends.slots import SlottedEngine
from runtime.backends.tensorrt import open_device, open_graph
from runtime.cuda import CUDA_APIS, CudaApi, open_cuda
from runtime.engine import EngineSettings
from runtime.errors import EngineError
from runtime.plans.flavours import FLAVOURS, FlavourName
from runtime.plans.manifest import FOLDER, EngineManifest
from runtime.plans.preflight import find_plan
from runtime.spec import GraphSpec, read_spec
from tests.software_driver.library import DEVICE_NAME
from tests.software_plans import make_bundle, profiles_of, sign


@functools.cache
def device_name() -> str | EngineError:
    """What the first device of this process's driver calls itself, or why there is none."""
    try:
        with open_cuda() as cuda:
            return cuda.gpu.name
    except EngineError as error:
        return error


def no_driver() -> str:
    """Why CUDA cannot be called here; empty where a driver answers, be it the software one."""
    found = device_name()
    return f"no NVIDIA GPU: {str(found)[:60]}..." if isinstance(found, EngineError) else ""


def on_software_driver() -> bool:
    """Whether this process was started with the software driver in the place of NVIDIA's."""
    return device_name() == DEVICE_NAME


def no_gpu() -> str:
    """Why no test can use a GPU here; empty where one can."""
    return f"no NVIDIA GPU: this is the {DEVICE_NAME}" if on_software_driver() else no_driver()


needs_gpu = [pytest.mark.gpu, pytest.mark.skipif(bool(no_gpu()), reason=no_gpu() or "there is a GPU")]
"""The marks of a test on a GPU: named for `-m gpu`, and skipped with the reason where there is none."""

needs_driver = [pytest.mark.gpu, pytest.mark.skipif(bool(no_driver()), reason=no_driver() or "there is a driver")]
"""The same for a test that asks no more of a GPU than the software driver gives."""


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
        profiles=profiles_of(graph.input.name, size, tuple(sorted({1, batch}))),
    )
    plan = build_plan(device.trt, model, graph, manifest, lambda *_: None)
    (bundle / FOLDER).mkdir(exist_ok=True)
    (bundle / manifest.plan_file).write_bytes(plan)
    (bundle / manifest.side_car_file).write_text(manifest.to_json(), encoding="utf-8")
    sign(bundle, manifest.plan_file, manifest.side_car_file)
    return open_graph(device, model, graph, settings, choose=find_plan)


def installed_apis() -> list[CudaApi]:
    """The CUDA implementations whose library is there."""
    return [name for name, entry in CUDA_APIS.items() if entry.installed]
