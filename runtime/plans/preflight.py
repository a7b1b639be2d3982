"""Before a plan is opened: is it the one that was built from this graph, for this machine, by this TensorRT?

A plan is code. It says nothing readable about itself, crashes or gives wrong figures where it does not belong, and runs
what somebody put into it. So nothing of it is read before its manifest fits, and only bytes whose digest stands in the
bundle's spec reach TensorRT.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from runtime.errors import BundleError, EngineError
from runtime.plans.flavours import FLAVOURS, FlavourName
from runtime.plans.manifest import FOLDER, PLAN_SUFFIX, SIDE_CAR_SUFFIX, EngineManifest, Gpu, read_manifest
from runtime.spec import SPEC_FILE, ModelSpec, Precision, read_spec

if TYPE_CHECKING:
    from runtime.spec import GraphSpec

DEEPEST = 3
"""Folders above a graph's file in which its bundle's spec is looked for."""


@dataclass(frozen=True, slots=True)
class Site:
    """The machine and the TensorRT that would run a plan.

    Attributes:
        flavour: Which TensorRT.
        version: Its full version.
        cuda: Its CUDA, where the installation says.
        gpu: The GPU.
    """

    flavour: FlavourName
    version: str
    cuda: str | None
    gpu: Gpu


@dataclass(frozen=True, slots=True)
class Need:
    """What an engine asks of a plan.

    Attributes:
        role: Of the graph.
        onnx_sha256: Of the graph's file.
        precision: Of that file.
        input_name: Of the graph's input.
        largest: Its largest shape; every batch from 1 up to its first number is run.
    """

    role: str
    onnx_sha256: str
    precision: Precision
    input_name: str
    largest: tuple[int, ...]

    @property
    def smallest(self) -> tuple[int, ...]:
        """The shape of a batch of one."""
        return (1, *self.largest[1:])


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan that fits, read and checked.

    Attributes:
        bundle: Its bundle's folder.
        manifest: What it is.
        sha256: Of its bytes.
        data: The bytes; what is opened is what was checked, whatever happens to the file.
    """

    bundle: Path
    manifest: EngineManifest
    sha256: str
    data: bytes


def faults(manifest: EngineManifest, need: Need, site: Site) -> list[str]:
    """Why a plan must not be opened; empty where it may.

    Args:
        manifest: Of the plan.
        need: What is asked of it.
        site: Where it would run.
    """
    return list(_faults(manifest, need, site))


def _faults(manifest: EngineManifest, need: Need, site: Site) -> Iterator[str]:
    pairs = (
        ("role", manifest.role, need.role),
        ("ONNX digest", manifest.onnx_sha256, need.onnx_sha256),
        ("TensorRT flavour", manifest.flavour, site.flavour),
        ("TensorRT version", manifest.version, site.version),
        ("CUDA", _word(manifest.cuda), _word(site.cuda)),
        ("precision", manifest.precision, need.precision),
        ("builder flags", ", ".join(manifest.flags) or "none", "none"),
    )
    for name, found, expected in pairs:
        if found != expected:
            yield f"{name}: found {found}, expected {expected}"
    if manifest.gpu is not None and manifest.gpu != site.gpu:
        yield f"GPU: found {_gpu(manifest.gpu)}, expected {_gpu(site.gpu)}"
    if manifest.gpu is None and site.gpu.capability not in manifest.targets:
        yield (
            f"compute capability: found {', '.join(manifest.targets)}, expected {site.gpu.capability} among them "
            f"({site.gpu.name})"
        )
    shapes = manifest.profile.get(need.input_name)
    if shapes is None:
        yield f"profile: found {', '.join(manifest.profile) or 'no input'}, expected {need.input_name}"
    elif not (_within(shapes.smallest, need.smallest) and _within(need.largest, shapes.largest)):
        yield (
            f"profile: found {_shape(shapes.smallest)} to {_shape(shapes.largest)}, expected {_shape(need.smallest)} "
            f"to {_shape(need.largest)} within"
        )


def build_command(bundle: Path, graph: GraphSpec, need: Need, site: Site) -> str:
    """What to run so that a plan fits."""
    batch = need.largest[0]
    parts = [f"ferrosight build {bundle} --backend {site.flavour}", f"--batch 1,{batch},{batch}"]
    if FLAVOURS[site.flavour].ahead_of_time:
        parts.insert(1, f"--target {site.gpu.capability}")
    for option, axis in (("--height", 2), ("--width", 3)):
        if isinstance(graph.input.shape[axis], str):
            size = need.largest[axis]
            parts.append(f"{option} {size},{size},{size}")
    return " ".join(parts)


def find_plan(owner: str, model: Path, graph: GraphSpec, size: tuple[int, int], batch: int, site: Site) -> Plan:
    """The plan of a graph that fits this machine, checked and ready to open.

    Of several that fit, the one that was built for the least largest shape is taken, since it is built closest to what
    is run; of equal ones, the first by name.

    Args:
        owner: Who asks, for the error's text.
        model: The graph's ONNX file, inside its bundle.
        graph: Its contract.
        size: Rows and columns of the frames.
        batch: The largest that is run.
        site: Where it would run.

    Raises:
        EngineError: None fits; says of each what differs, and the command that builds one.
        BundleError: The file lies in no bundle, or a plan that fits was altered.
    """
    bundle, spec, need = need_of(owner, model, graph, size, batch)
    fitting: list[EngineManifest] = []
    told: list[str] = []
    for manifest in _signed(bundle, spec):
        found = faults(manifest, need, site)
        if not found:
            fitting.append(manifest)
        elif manifest.role == need.role:
            told.append(f"{manifest.plan_file}: {'; '.join(found)}")
    told += [f"{name}: not in {SPEC_FILE}, so it is never opened" for name in _unsigned(bundle, spec)]
    if not fitting:
        raise EngineError(
            f"{owner}: found no plan for {_gpu(site.gpu)} with {site.flavour} {site.version}, expected one in "
            f"{bundle / FOLDER}. {' | '.join(told) or 'There is none.'} Run: {build_command(bundle, graph, need, site)}"
        )
    chosen = min(fitting, key=lambda each: (each.profile[need.input_name].largest, each.file_stem))
    return read_plan(owner, bundle, spec, chosen)


def need_of(
    owner: str, model: Path, graph: GraphSpec, size: tuple[int, int], batch: int
) -> tuple[Path, ModelSpec, Need]:
    """The bundle in which a graph's file lies, its spec, and what is asked of a plan of the graph.

    Raises:
        BundleError: The file lies in no bundle.
    """
    bundle = next((folder for folder in model.absolute().parents[:DEEPEST] if (folder / SPEC_FILE).is_file()), None)
    if bundle is None:
        raise BundleError(
            f"{owner}: found {model} outside a bundle, expected a graph's file in one: a plan is trusted because its "
            f"bundle's {SPEC_FILE} names it. Give a bundle."
        )
    spec = read_spec(bundle)
    file = model.absolute().relative_to(bundle).as_posix()
    for role, known in spec.graphs.items():
        for precision, name in known.files.items():
            if name == file:
                need = Need(role, spec.files[file], precision, graph.input.name, (batch, 1, *size))
                return bundle, spec, need
    raise BundleError(
        f"{owner}: found the file {file}, which {bundle / SPEC_FILE} does not name as a graph's. Give a graph's file."
    )


def own_need(spec: ModelSpec, manifest: EngineManifest) -> Need:
    """What its graph asks of a plan at the largest shape that the plan was built for.

    A plan of a graph or a file that the spec does not have is asked for a digest that nothing has.
    """
    graph = spec.graphs.get(manifest.role)
    if graph is None or manifest.precision not in graph.files:
        return Need(manifest.role, "0" * 64, manifest.precision, "", ())
    shapes = manifest.profile.get(graph.input.name)
    largest = () if shapes is None else shapes.largest
    digest = spec.files[graph.files[manifest.precision]]
    return Need(manifest.role, digest, manifest.precision, graph.input.name, largest)


def read_plans(bundle: Path, spec: ModelSpec) -> Mapping[str, EngineManifest]:
    """The manifests of a bundle's plans by the plan's path; those alone that the spec names with their digests.

    Raises:
        BundleError: A side-car is altered or not valid.
    """
    return MappingProxyType({manifest.plan_file: manifest for manifest in _signed(bundle, spec)})


def read_plan(owner: str, bundle: Path, spec: ModelSpec, manifest: EngineManifest) -> Plan:
    """A plan's bytes, once they are the ones that the spec names.

    Raises:
        BundleError: They are not.
    """
    expected = spec.files[manifest.plan_file]
    try:
        data = (bundle / manifest.plan_file).read_bytes()
    except OSError as error:
        raise BundleError(
            f"{owner}: {manifest.plan_file} cannot be read ({error.strerror}), expected the plan that {SPEC_FILE} "
            "names. Run 'ferrosight build' again."
        ) from error
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != expected:
        raise BundleError(
            f"{owner}: {manifest.plan_file} was altered: found SHA-256 {sha256[:12]}..., expected {expected[:12]}... "
            "It was not opened. Find out who changed it, then run 'ferrosight build --rebuild'."
        )
    return Plan(bundle, manifest, sha256, data)


def _signed(bundle: Path, spec: ModelSpec) -> Iterator[EngineManifest]:
    for name in sorted(spec.files):
        if not (name.startswith(f"{FOLDER}/") and name.endswith(SIDE_CAR_SUFFIX)):
            continue
        side_car = bundle / name
        manifest = read_manifest(side_car)
        if hashlib.sha256(side_car.read_bytes()).hexdigest() != spec.files[name] or manifest.side_car_file != name:
            raise BundleError(
                f"bundle {bundle}: {name} was altered: its digest or its name is not the one that was written. Remove "
                "it and its plan, and run 'ferrosight build' again."
            )
        if manifest.plan_file in spec.files:
            yield manifest


def _unsigned(bundle: Path, spec: ModelSpec) -> list[str]:
    found = sorted((bundle / FOLDER).glob(f"*{PLAN_SUFFIX}"))
    return [name for file in found if (name := f"{FOLDER}/{file.name}") not in spec.files]


def _within(low: Sequence[int], high: Sequence[int]) -> bool:
    return len(low) == len(high) and all(a <= b for a, b in zip(low, high, strict=True))


def _word(text: str | None) -> str:
    return "unknown" if text is None else text


def _gpu(gpu: Gpu) -> str:
    return f"{gpu.name} ({gpu.capability})"


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
