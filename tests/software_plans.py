"""Bundles with plans of the software TensorRT, and the device that opens them."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

import onnx

from export.bundle import write_spec
from runtime.backends.contract import frame_size
from runtime.backends.slots import SlottedEngine
from runtime.backends.tensorrt import Device, open_graph
from runtime.bundle import digest_of
from runtime.engine import EngineSettings
from runtime.plans.flavours import FlavourName
from runtime.plans.manifest import FOLDER, EngineManifest, Gpu, Profile, ShapeRange
from runtime.plans.preflight import Site, find_plan
from runtime.spec import SPEC_FILE, GraphSpec, ModelSpec, Provenance, read_spec
from tests.software_cuda import SOFTWARE_GPU, SoftwareCuda
from tests.software_tensorrt import SoftwareTensorRt, software_plan

VERSION = "1.7.1.116"
GPU = Gpu(name=SOFTWARE_GPU.name, capability=SOFTWARE_GPU.capability)


def software_site(flavour: FlavourName = "tensorrt_rtx") -> Site:
    """The machine of which the software CUDA is the GPU."""
    return Site(flavour, VERSION, "13", GPU)


def software_device(
    flavour: FlavourName = "tensorrt_rtx", order: random.Random | None = None, *, can_capture: bool = True
) -> Device:
    """A fresh GPU with its TensorRT."""
    cuda = SoftwareCuda(order, can_capture=can_capture)
    return Device(flavour, SoftwareTensorRt(cuda, VERSION), cuda, software_site(flavour))


def manifest_of(
    role: str,
    file: Path,
    graph: GraphSpec,
    size: tuple[int, int],
    batch: int | tuple[int, ...],
    flavour: FlavourName = "tensorrt_rtx",
) -> EngineManifest:
    """What a build for the software GPU would write, tuned for one batch or for several."""
    precision = next(name for name, known in graph.files.items() if Path(known).name == file.name)
    ahead = flavour == "tensorrt_rtx"
    return EngineManifest(
        role=role,
        onnx_sha256=digest_of(file),
        flavour=flavour,
        version=VERSION,
        cuda="13",
        targets=(GPU.capability,) if ahead else (),
        gpu=None if ahead else GPU,
        precision=precision,
        profiles=profiles_of(graph.input.name, size, (batch,) if isinstance(batch, int) else batch),
    )


def profiles_of(name: str, size: tuple[int, int], batches: tuple[int, ...]) -> tuple[Profile, ...]:
    """A profile for each batch, which begins above the one before."""
    return tuple(
        {name: ShapeRange(smallest=(low + 1, 1, *size), usual=(high, 1, *size), largest=(high, 1, *size))}
        for low, high in zip((0, *batches), batches, strict=False)
    )


def add_plan(bundle: Path, manifest: EngineManifest, file: Path, **facts: Any) -> Path:
    """Put a software plan and its side-car into a bundle, and their digests into the spec; gives the plan's path."""
    name = _input_name(file)
    profiles = [
        {name: [shapes.smallest, shapes.usual, shapes.largest]}
        for profile in manifest.profiles
        for shapes in profile.values()
    ]
    (bundle / FOLDER).mkdir(exist_ok=True)
    plan = bundle / manifest.plan_file
    plan.write_bytes(software_plan(file.read_bytes(), profiles, **facts))
    (bundle / manifest.side_car_file).write_text(manifest.to_json(), encoding="utf-8")
    sign(bundle, manifest.plan_file, manifest.side_car_file)
    return plan


def sign(bundle: Path, *names: str) -> None:
    """Put the digests of files into the spec."""
    spec = read_spec(bundle)
    write_spec(bundle, spec.model_copy(update={"files": {**spec.files, **{n: digest_of(bundle / n) for n in names}}}))


def make_bundle(model: Path, graph: GraphSpec) -> Path:
    """A spec around one graph's file, in its folder: as much of a bundle as a plan needs."""
    if not (model.parent / SPEC_FILE).exists():
        digest = hashlib.sha256(model.read_bytes()).hexdigest()
        spec = ModelSpec(
            schema="ferrosight.bundle/1",
            name="tiny",
            task="none",
            graphs={"model": graph},
            settings={},
            provenance=Provenance(recipe={}, data={}, git_commit="0" * 40, created_at="2024-01-01", metrics={}),
            files=dict.fromkeys(graph.files.values(), digest),
        )
        write_spec(model.parent, spec)
    return model.parent


def open_software(
    flavour: FlavourName, model: Path, graph: GraphSpec, settings: EngineSettings, device: Device | None = None
) -> SlottedEngine:
    """Open a graph on the software GPU, whose parity nobody asks for; its plan is made on the way."""
    try:
        size, batch = frame_size("software", graph, settings), settings.max_batch
        bundle = make_bundle(model, graph)
        add_plan(bundle, manifest_of("model", model, graph, size, batch, flavour), model)
    except (StopIteration, RuntimeError):
        pass  # the backend has to say what is wrong
    chosen = device or software_device(flavour)
    return open_graph(chosen, model, graph, settings, choose=find_plan)


def _input_name(file: Path) -> str:
    try:
        return onnx.load(file).graph.input[0].name
    except Exception:  # noqa: BLE001  no graph at all: the plan will not open
        return "frames"
