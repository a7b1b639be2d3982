"""Parity of plans on the GPU that will run them: measured in the task's units, kept beside each plan's manifest.

The half graph's parity was measured on CPUs when the bundle was written. A GPU's kernels round otherwise, and another
GPU's otherwise again; so a plan serves nowhere before its golden frames were run there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from export.parity import Candidate, Comparison, compare, comparison_of, worst
from export.tasks import TASKS, export_task
from export.tasks.base import ExportTask, Output
from runtime.backends.tensorrt import Device, open_device, open_graph
from runtime.bundle import GOLDEN_FILE, Bundle, open_bundle
from runtime.cuda import DEFAULT_API, CudaApi
from runtime.engine import EngineSettings
from runtime.errors import BundleError, EngineError
from runtime.golden.frames import Golden, outputs_of, read_golden
from runtime.plans.flavours import FlavourName
from runtime.plans.in_bundle import Plan, read_plan, read_plans
from runtime.plans.manifest import EngineManifest, profile_of
from runtime.plans.parity import PlanParity, record_file
from runtime.plans.preflight import Site, faults, own_need
from runtime.spec import ModelSpec, TensorSpec

OpenDevice = Callable[[FlavourName, EngineSettings], Device]


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found of one plan.

    Attributes:
        plan_file: Its path in the bundle.
        record: What was measured and kept.
    """

    plan_file: str
    record: PlanParity

    @property
    def holds(self) -> bool:
        """Whether the plan may serve."""
        return all(result.holds for result in self.record.results)


def prove_plans(
    path: Path,
    flavour: FlavourName,
    *,
    device: OpenDevice = open_device,
    comparisons: Mapping[str, Comparison] | None = None,
    cuda_api: CudaApi = DEFAULT_API,
    report: Callable[[str, int, int], None] = lambda *_: None,
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
) -> tuple[Proof, ...]:
    """Run the golden frames through every plan of a bundle that fits this machine, compare, and keep the results.

    Each profile has kernels of its own. So the frames are run in every batch that a plan is tuned for, again and again
    until the batch is full, and the worst of each figure counts. A result that does not hold is kept too: it says why
    the plan does not serve.

    Args:
        path: The bundle.
        flavour: Which TensorRT.
        device: Opens the library and the GPU.
        comparisons: What is compared, by role; None takes the task's.
        cuda_api: By what the GPU is driven.
        report: Told of each plan.
        now: Wall time.

    Raises:
        BundleError: The bundle is not sound, has no golden frames, or its folder cannot be written.
        EngineError: There is no GPU or no TensorRT, no plan fits this machine, or one cannot be opened.
    """
    bundle = open_bundle(path)
    golden = read_golden(bundle)
    known = comparisons_of(bundle.spec) if comparisons is None else comparisons
    site, driver_cuda = _site(device, flavour, cuda_api)
    fitting = [
        each for each in read_plans(path, bundle.spec).values() if not faults(each, own_need(bundle.spec, each), site)
    ]
    if not fitting:
        raise EngineError(
            f"parity: found no plan in {path} for {site.gpu.name} ({site.gpu.capability}) with {flavour} "
            f"{site.version}, expected at least one. Run: ferrosight build {path} --backend {flavour}"
        )
    proofs: list[Proof] = []
    for number, manifest in enumerate(fitting):
        report(f"{manifest.role}: {manifest.file_stem}", number, len(fitting))
        comparison_of(manifest.role, known)
        plan = read_plan(f"parity of {manifest.role}", path, bundle.spec, manifest)
        candidate = _candidate(bundle, manifest)
        copies = _outputs(device, flavour, plan, candidate, golden, cuda_api)
        results = worst(
            result for found in copies for result in compare(candidate, found, golden, bundle.spec.settings, known)
        )
        record = PlanParity(
            plan_sha256=plan.sha256,
            golden_sha256=bundle.spec.files[GOLDEN_FILE],
            gpu=site.gpu,
            version=site.version,
            driver_cuda=driver_cuda,
            measured_at=now().isoformat(timespec="seconds"),
            frames=len(golden.frames),
            results=results,
        )
        _keep(path / record_file(manifest, site.gpu), record)
        proofs.append(Proof(manifest.plan_file, record))
    return tuple(proofs)


def comparisons_of(spec: ModelSpec) -> Mapping[str, Comparison]:
    """What parity compares in a bundle, by role.

    Raises:
        BundleError: There is no such task, or no such graphs of it.
    """
    return {role: end.comparison for role, end in task_of(spec).graphs.items()}


def task_of(spec: ModelSpec) -> ExportTask:
    """The task of a bundle, as the export knows it.

    Args:
        spec: The bundle's. Where a task has several kinds of graphs, such as grain, their outputs tell them apart.

    Raises:
        BundleError: There is no such task, or no such graphs of it.
    """
    given = _outputs_by_role({role: graph.outputs for role, graph in spec.graphs.items()})
    tasks = [found for found in map(export_task, TASKS) if found.name == spec.task]
    for task in tasks:
        if _outputs_by_role({role: end.outputs for role, end in task.graphs.items()}) == given:
            return task
    known = sorted({found.name for found in map(export_task, TASKS)})
    raise BundleError(
        f"parity: found a bundle of the task {spec.task!r} that gives {given}, expected one of {', '.join(known)} with "
        "the outputs of its graphs. Use the ferrosight that exported it."
    )


def _outputs_by_role(graphs: Mapping[str, Sequence[TensorSpec | Output]]) -> dict[str, list[str]]:
    return {role: [output.name for output in outputs] for role, outputs in graphs.items()}


def _site(device: OpenDevice, flavour: FlavourName, cuda_api: CudaApi) -> tuple[Site, str]:
    opened = device(flavour, EngineSettings(max_batch=1, cuda_api=cuda_api))
    with opened.cuda as cuda:
        return opened.site, cuda.gpu.driver_cuda


def _candidate(bundle: Bundle, manifest: EngineManifest) -> Candidate:
    return Candidate(
        role=manifest.role,
        graph=bundle.spec.graphs[manifest.role],
        precision=manifest.precision,
        backend=manifest.flavour,
        engine=manifest.flavour,
        file=bundle.model_file(manifest.role, manifest.precision),
    )


def _outputs(
    device: OpenDevice, flavour: FlavourName, plan: Plan, candidate: Candidate, golden: Golden, cuda_api: CudaApi
) -> Iterator[dict[str, np.ndarray]]:
    """The outputs for the golden frames, once for each time that they went through, in each batch that is tuned for."""
    height_px, width_px = golden.frames.shape[2:]
    ranges = plan.manifest.ranges(candidate.graph.input.name)
    largest = max(each.largest[0] for each in ranges)
    if profile_of(ranges, (1, 1, height_px, width_px)) is None:
        raise EngineError(
            f"parity of {candidate.role}: found a plan for {ranges[0].smallest} to {ranges[0].largest}, expected the "
            f"golden frames of {height_px}x{width_px} within it. Build it with a range that has their size, by "
            "--height and --width."
        )
    settings = EngineSettings(largest, slots=1, height_px=height_px, width_px=width_px, cuda_api=cuda_api)
    opened = device(flavour, settings)
    count = len(golden.frames)
    with open_graph(opened, candidate.file, candidate.graph, settings, choose=lambda *_: plan) as engine:
        for batch in (each.usual[0] for each in ranges):
            times = -(-batch // count)
            found = outputs_of(engine, np.concatenate([golden.frames] * times), batch)
            for first in range(0, times * count, count):
                yield {name: array[first : first + count] for name, array in found.items()}


def _keep(path: Path, record: PlanParity) -> None:
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=".parity-", delete=False
        ) as file:
            file.write(record.model_dump_json(indent=2) + "\n")
        temporary = Path(file.name)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise BundleError(
            f"bundle {path.parent.parent}: {error.strerror or error}, expected a folder that can be written. Copy the "
            "bundle to such a place."
        ) from error
