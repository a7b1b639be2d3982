"""Before a plan is opened: is it the one that was built from this graph, for this machine, by this TensorRT?

A plan is code. It says nothing readable about itself, crashes or gives wrong figures where it does not belong, and runs
what somebody put into it. So nothing of it is read before its manifest fits, and only bytes whose digest stands in the
bundle's spec reach TensorRT.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.bundle import PREFERRED
from runtime.errors import BundleError, EngineError
from runtime.plans.chips import least_capability
from runtime.plans.flavours import FLAVOURS, FlavourName
from runtime.plans.in_bundle import Plan, read_plan, read_plans, unreadable_plans, unsigned_plans
from runtime.plans.manifest import FOLDER, EngineManifest, Gpu, ShapeRange, profile_of
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

    def shape(self, batch: int) -> tuple[int, ...]:
        """Of a batch."""
        return (batch, *self.largest[1:])


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
    ranges = manifest.ranges(need.input_name)
    if not ranges:
        yield f"profile: found {', '.join(manifest.profiles[0])}, expected {need.input_name}"
        return
    shapes = map(need.shape, range(1, need.largest[0] + 1))
    bare = next((shape for shape in shapes if profile_of(ranges, shape) is None), None)
    if bare is not None:
        yield (
            f"profile: found {' and '.join(map(_range, ranges))}, expected {_shape(need.shape(1))} to "
            f"{_shape(need.largest)} within; none holds {_shape(bare)}"
        )


def build_command(bundle: Path, graph: GraphSpec, need: Need, site: Site) -> str:
    """What to run so that a plan fits."""
    batches = ",".join(map(str, sorted({1, need.largest[0]})))
    parts = [f"ferrosight build {bundle} --backend {site.flavour}", f"--batch {batches}"]
    if FLAVOURS[site.flavour].ahead_of_time:
        parts.insert(1, f"--target {site.gpu.capability}")
    for option, axis in (("--height", 2), ("--width", 3)):
        if isinstance(graph.input.shape[axis], str):
            size = need.largest[axis]
            parts.append(f"{option} {size},{size},{size}")
    if need.precision != next(each for each in PREFERRED if each in graph.files):
        parts.append(f"--precision {need.precision}")
    return " ".join(parts)


def find_plan(owner: str, model: Path, graph: GraphSpec, size: tuple[int, int], batch: int, site: Site) -> Plan:
    """The plan of a graph that fits this machine, checked and ready to open.

    Of several that fit, the one is taken whose profile for the largest batch ends closest to it; of equal ones that
    with more profiles, since it is tuned for smaller batches too, then the first by name.

    Args:
        owner: Who asks, for the error's text.
        model: The graph's ONNX file, inside its bundle.
        graph: Its contract.
        size: Rows and columns of the frames.
        batch: The largest that is run.
        site: Where it would run.

    Raises:
        EngineError: None fits, and says of each what differs, and the command that builds one; or the GPU does not
            compute in the graph's precision.
        BundleError: The file lies in no bundle, or a plan that fits was altered.
    """
    bundle, spec, need = need_of(owner, model, graph, size, batch)
    if (least := least_capability(need.precision, site.gpu.capability)) is not None:
        raise EngineError(
            f"{owner}: found {_gpu(site.gpu)}, expected compute capability {least} and up for {need.precision}. Serve "
            "the half bundle that this one was made of, or quantise that in int8."
        )
    fitting: list[EngineManifest] = []
    told: list[str] = []
    for manifest in read_plans(bundle, spec).values():
        found = faults(manifest, need, site)
        if not found:
            fitting.append(manifest)
        elif manifest.role == need.role:
            told.append(f"{manifest.plan_file}: {'; '.join(found)}")
    told += unreadable_plans(bundle, spec)
    told += [f"{name}: not in {SPEC_FILE}, so it is never opened" for name in unsigned_plans(bundle, spec)]
    if not fitting:
        raise EngineError(
            f"{owner}: found no plan for {_gpu(site.gpu)} with {site.flavour} {site.version}, expected one in "
            f"{bundle / FOLDER}. {' | '.join(told) or 'There is none.'} Run: {build_command(bundle, graph, need, site)}"
        )
    return read_plan(owner, bundle, spec, min(fitting, key=lambda each: _distance(each, need)))


def _distance(manifest: EngineManifest, need: Need) -> tuple[tuple[int, ...], int, str]:
    ranges = manifest.ranges(need.input_name)
    nearest = min(each.largest for each in ranges if each.holds(need.largest))
    return nearest, -len(ranges), manifest.file_stem


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
    largest = max((each.largest for each in manifest.ranges(graph.input.name)), default=())
    digest = spec.files[graph.files[manifest.precision]]
    return Need(manifest.role, digest, manifest.precision, graph.input.name, largest)


def _word(text: str | None) -> str:
    return "unknown" if text is None else text


def _gpu(gpu: Gpu) -> str:
    return f"{gpu.name} ({gpu.capability})"


def _range(shapes: ShapeRange) -> str:
    return f"{_shape(shapes.smallest)} to {_shape(shapes.largest)}"


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
