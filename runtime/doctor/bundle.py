"""The doctor's look at bundles and their plans, and at what each station of a line would open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runtime.backends import BACKENDS
from runtime.bundle import GOLDEN_FILE, Bundle, open_bundle
from runtime.config import StationConfig
from runtime.cuda import CUDA_APIS
from runtime.doctor.report import Asked, Finding, State, Surroundings
from runtime.errors import BundleError, EngineError
from runtime.plans.flavours import FLAVOURS, cuda_of
from runtime.plans.in_bundle import read_plans, unreadable_plans, unsigned_plans
from runtime.plans.manifest import FOLDER, EngineManifest, Gpu
from runtime.plans.parity import read_record, require_parity, why_not
from runtime.plans.preflight import Site, faults, find_plan, own_need

AREA = "Bundle"


@dataclass(frozen=True, slots=True)
class Look:
    """A bundle as the checks see it.

    Attributes:
        bundle: It.
        gpu: Of this machine, if there is one.
        sites: What would run its plans here, by flavour.
        flavours: Backends asked for that run plans.
    """

    bundle: Bundle
    gpu: Gpu | None
    sites: dict[str, Site]
    flavours: tuple[str, ...]


def check_bundles(around: Surroundings, asked: Asked) -> Iterator[Finding]:
    """Each bundle's files and parity, and of each plan whether it may serve here."""
    stations = asked.line.stations if asked.line is not None else ()
    paths = {path.resolve(): path for path in (*(station.bundle for station in stations), *asked.bundles)}
    if not paths:
        return
    gpu = _gpu(around)
    sites = {} if gpu is None else _sites(around, gpu)
    flavours = tuple(sorted(name for name in asked.backends if name in BACKENDS and BACKENDS[name].on_gpu))
    for path in paths.values():
        try:
            bundle = open_bundle(path)
        except BundleError as error:
            yield Finding(AREA, str(path), "problem", str(error), "Copy it again, or export it again.")
            continue
        found = f"{bundle.spec.task}, {bundle.digest[:12]}, {len(bundle.spec.files)} files as named, parity holds"
        yield Finding(AREA, str(path), "ok", found)
        look = Look(bundle, gpu, sites, flavours)
        yield from _check_plans(look)
        for station in stations:
            if station.bundle.resolve() == path.resolve() and station.backend in sites:
                yield from _check_station(look, station)


def _check_plans(look: Look) -> Iterator[Finding]:
    path, spec = look.bundle.path, look.bundle.spec
    try:
        manifests = read_plans(path, spec)
    except BundleError as error:
        yield Finding(AREA, f"{path}/{FOLDER}", "problem", str(error), "ferrosight build")
        return
    for fault in unreadable_plans(path, spec):
        yield Finding(AREA, f"{path}/{FOLDER}", "note", fault)
    for name in unsigned_plans(path, spec):
        yield Finding(
            AREA, Path(name).name, "problem", "a plan that spec.json does not name: it is never opened",
            "Remove it, and find out where it came from.",
        )  # fmt: skip
    serving: set[tuple[str, str]] = set()
    for manifest in manifests.values():
        finding = _check_plan(look, manifest)
        if finding.state == "ok":
            serving.add((manifest.flavour, manifest.role))
        yield finding
    for flavour in look.flavours:
        for role in spec.graphs:
            if (flavour, role) not in serving:
                named = f"{path} --backend {flavour}"
                command = f"ferrosight build {named}, then ferrosight parity {named}"
                yield Finding(AREA, f"{role} on {flavour}", "problem", "no plan may serve here", command)


def _check_plan(look: Look, manifest: EngineManifest) -> Finding:
    path = look.bundle.path
    batches = [next(iter(profile.values())) for profile in manifest.profiles]
    made = ", ".join(manifest.targets) or (manifest.gpu.name if manifest.gpu else "")
    found = (
        f"for {made} with {manifest.flavour} {manifest.version}, batches of {batches[0].smallest[0]} to "
        f"{batches[-1].largest[0]}, tuned for {', '.join(str(each.usual[0]) for each in batches)}"
    )
    site = look.sites.get(manifest.flavour)
    if site is None or look.gpu is None:
        where = "no GPU here" if look.gpu is None else f"{manifest.flavour} is not installed"
        return Finding(AREA, manifest.file_stem, "note", f"{found}; {where}")
    wrong = faults(manifest, own_need(look.bundle.spec, manifest), site)
    if wrong:
        return Finding(AREA, manifest.file_stem, "note", f"{found}; does not fit: {'; '.join(wrong)}")
    try:
        record = read_record(path, manifest, site.gpu)
    except BundleError as error:
        return Finding(AREA, manifest.file_stem, "problem", str(error), "ferrosight parity")
    golden = look.bundle.spec.files.get(GOLDEN_FILE)
    fault = why_not(record, look.bundle.spec.files[manifest.plan_file], golden, site)
    if fault is not None or record is None:
        state: State = "problem" if manifest.flavour in look.flavours else "note"
        command = f"ferrosight parity {path} --backend {manifest.flavour}"
        return Finding(AREA, manifest.file_stem, state, f"{found}; {fault}", command)
    return Finding(AREA, manifest.file_stem, "ok", f"{found}; parity measured here at {record.measured_at}")


def _check_station(look: Look, station: StationConfig) -> Iterator[Finding]:
    """Whether a plan may serve a station with its batch and precision; a size that its camera decides is not asked."""
    site = look.sites[station.backend]
    batch = 1 if station.camera is None else station.batch
    for role, graph in look.bundle.spec.graphs.items():
        what = f"{role} of {station.name}"
        rows, columns = graph.input.shape[2:]
        if isinstance(rows, str) or isinstance(columns, str):
            continue
        try:
            file = look.bundle.model_file(role, station.precision)
            plan = find_plan(what, file, graph, (rows, columns), batch, site)
            require_parity(what, plan, site)
        except (BundleError, EngineError) as error:
            found, _, command = str(error).partition(" Run: ")
            yield Finding(AREA, what, "problem", found.removeprefix(f"{what}: "), command)
            continue
        yield Finding(AREA, what, "ok", f"batches up to {batch} by {plan.manifest.plan_file}")


def _gpu(around: Surroundings) -> Gpu | None:
    for api, entry in CUDA_APIS.items():
        if around.find(entry.library):
            try:
                with around.open_cuda(api) as cuda:
                    return Gpu(name=cuda.gpu.name, capability=cuda.gpu.capability)
            except EngineError:
                continue
    return None


def _sites(around: Surroundings, gpu: Gpu) -> dict[str, Site]:
    sites: dict[str, Site] = {}
    for name, flavour in FLAVOURS.items():
        version = around.version(flavour.module) if around.find(flavour.module) else None
        if version is not None:
            sites[name] = Site(name, version, cuda_of(name), gpu)
    return sites
