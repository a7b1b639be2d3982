"""A bundle from trained runs: graphs, settings, parity, provenance, and the folder; the same for every task."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export.bundle import Draft, write_bundle
from export.parity import BACKENDS, Candidate, measure, worst
from export.tasks import export_task, trained_tasks
from export.tasks.base import Choices, ExportTask, GraphEnd, Report
from runtime.bundle import Bundle, Parity
from runtime.errors import BundleError
from runtime.golden.frames import Golden
from runtime.spec import GraphSpec, Precision, Provenance, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from export.trained import TrainedGraph

EMULATED = "half-emulated"
"""How parity names the half graph with every half tensor rounded, as a GPU computes it."""

_ODD_LESS_PX = (5, 13)  # from the golden size to one that divides by nothing
_ODD_FRAMES = 2


@dataclass(frozen=True, slots=True)
class Graphs:
    """The ONNX files of one role.

    Attributes:
        spec: Its contract.
        files: The files by precision.
        emulated: The half file as a GPU would compute it.
        kept_float: Nodes that stay FP32 because they overflow.
    """

    spec: GraphSpec
    files: Mapping[Precision, Path]
    emulated: Path
    kept_float: tuple[str, ...]


def open_runs(runs: Sequence[Path], choices: Choices) -> tuple[ExportTask, Mapping[str, TrainedGraph]]:
    """The task that runs make up together, and their networks by role.

    Raises:
        BundleError: The runs are of several tasks, or not one of each of a task's roles.
        ConfigError: A run folder is not valid.
    """
    from export.trained import open_run

    opened = [open_run(run, choices.weights) for run in runs]
    tasks = {export_task(each.task).name: export_task(each.task) for each in opened}
    if len(tasks) != 1:
        raise BundleError(
            f"export: found runs of {' and '.join(sorted(tasks)) or 'no task'}, expected runs of one task. "
            "Export each task by itself."
        )
    (task,) = tasks.values()
    if sorted(each.role for each in opened) != sorted(task.graphs):
        wanted = " and one of ".join(f"'train {name}'" for name in trained_tasks(task))
        raise BundleError(
            f"export: found runs of {', '.join(sorted(each.role for each in opened))}, expected one of each of "
            f"{', '.join(task.graphs)}. Give the folder of one of {wanted}."
        )
    by_role = {each.role: each for each in opened}
    return task, {role: by_role[role] for role in task.graphs}


def assemble(
    task: ExportTask,
    trained: Mapping[str, TrainedGraph],
    out: Path,
    choices: Choices,
    own: Mapping[str, Any] | None = None,
    report: Report = lambda *_: None,
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
) -> Bundle:
    """Assemble and write a bundle.

    Args:
        task: Of the bundle.
        trained: Its networks by role.
        out: The bundle's folder.
        choices: See there.
        own: The task's own choices, as `--set` gives them.
        report: Told of each step.
        now: Wall clock.

    Raises:
        BundleError: The networks do not make a bundle, or parity fails.
        ConfigError: The task has no such choice.
        DataError: The runs' validation data is missing or unreadable.
        EngineError: A backend is not installed.
    """
    from train.recipe import check

    task_choices = check(task.choices, own or {}, f"export of {task.name}: --set")
    size_px = choices.size_px or _size(task, trained)
    frames = golden_frames(task, trained, size_px, choices)
    settings = task.settings(trained, task_choices, choices, report)
    with tempfile.TemporaryDirectory(prefix="ferrosight-export-") as folder:
        graphs: dict[str, Graphs] = {}
        for step, (role, end) in enumerate(task.graphs.items()):
            report("writing ONNX", step, len(task.graphs))
            graphs[role] = write_graphs(trained[role], _with_arithmetic(end, choices), size_px, frames[0], Path(folder))
        report("writing ONNX", len(task.graphs), len(task.graphs))
        golden = [_golden(task, trained, each) for each in frames]
        parity = measure_parity(task, graphs, golden, settings.model_dump(), report)
        draft = Draft(
            name=choices.name or out.resolve().name,
            task=task.name,
            graphs={role: each.spec for role, each in graphs.items()},
            onnx={path.name: path for each in graphs.values() for path in each.files.values()},
            settings=settings.model_dump(mode="json"),
            provenance=_provenance(trained, graphs, choices, task_choices.model_dump(mode="json"), now()),
            golden=golden[0],
            parity=parity,
        )
        return write_bundle(draft, out, ship=choices.ship, replace=choices.replace, golden_frames=choices.golden_kept)


def golden_frames(
    task: ExportTask, trained: Mapping[str, TrainedGraph], size_px: tuple[int, int] | None, choices: Choices
) -> tuple[NDArray[np.uint8], ...]:
    """The frames on which parity is measured: one stack, and one of an odd size where the graph leaves its size free.

    Raises:
        BundleError: Frames of the data are asked for, and none is large enough.
        DataError: The data is missing or unreadable.
    """
    height_px, width_px = size_px or task.golden_size_px
    if choices.golden_from_data:
        first = _frames_of_data(next(iter(trained.values())), (height_px, width_px), choices)
    else:
        first = task.golden(choices.golden_frames, (height_px, width_px))
    if size_px is not None:
        return (first,)
    odd = np.ascontiguousarray(first[:_ODD_FRAMES, :, : height_px - _ODD_LESS_PX[0], : width_px - _ODD_LESS_PX[1]])
    return first, odd


def _with_arithmetic(end: GraphEnd, choices: Choices) -> GraphEnd:
    """The end of a graph, with the arithmetic that a person asked for."""
    return end if choices.arithmetic is None else replace(end, arithmetic=choices.arithmetic)


def write_graphs(
    trained: TrainedGraph,
    end: GraphEnd,
    size_px: tuple[int, int] | None,
    frames: NDArray[np.uint8],
    folder: Path,
) -> Graphs:
    """The ONNX files of one network in a folder.

    Args:
        trained: The network.
        end: What follows it in the graph.
        size_px: Height and width of its frames; None leaves them free.
        frames: (n, 1, H, W) uint8, on which layers that overflow in half are found.
        folder: Where the files go.

    Raises:
        BundleError: The network cannot be exported.
    """
    import onnx_ir as ir

    from export.half import to_half
    from export.overflow import emulate_half, float_ranges, overflowing_nodes
    from export.to_onnx import output_specs, to_onnx

    role = trained.role
    single = to_onnx(trained.network, role, end, size_px)
    kept_float = overflowing_nodes(single, float_ranges(single, frames))
    half = to_half(single, kept_float)
    files: dict[Precision, Path] = {
        "fp32": folder / f"{role}.fp32.onnx",
        "fp16": folder / f"{role}.fp16.onnx",
    }
    emulated = folder / "emulated" / files["fp16"].name
    emulated.parent.mkdir(exist_ok=True)
    for model, path in ((single, files["fp32"]), (half, files["fp16"]), (emulate_half(half), emulated)):
        ir.save(model, path)
    spec = GraphSpec(
        architecture=trained.architecture,
        variant=trained.variant,
        parameters=trained.parameters,
        files={precision: path.name for precision, path in files.items()},
        arithmetic=end.arithmetic,
        input=TensorSpec(name="frames", dtype="uint8", shape=("N", 1, *(size_px or ("H", "W")))),
        outputs=output_specs(single, end),
    )
    return Graphs(spec, files, emulated, kept_float)


def measure_parity(
    task: ExportTask,
    graphs: Mapping[str, Graphs],
    golden: Sequence[Golden],
    settings: Mapping[str, Any],
    report: Report = lambda *_: None,
) -> Parity:
    """Every file of every graph on every backend, and the half files as a GPU computes them; the worst of all frames.

    Raises:
        EngineError: A backend is not installed, or cannot run a graph.
    """
    candidates = [
        Candidate(role, each.spec, precision, backend, backend, path)
        for role, each in graphs.items()
        for precision, path in each.files.items()
        for backend in BACKENDS
    ]
    candidates += [
        Candidate(role, each.spec, "fp16", EMULATED, "onnxruntime", each.emulated) for role, each in graphs.items()
    ]
    total = len(candidates) * len(golden)
    steps = iter(range(total))
    comparisons = {role: end.comparison for role, end in task.graphs.items()}
    results = [
        result
        for each in golden
        for result in measure(
            candidates, each, settings, comparisons, report=lambda _: report("measuring parity", next(steps), total)
        )
    ]
    report("measuring parity", total, total)
    limits = {figure: limit for each in comparisons.values() for figure, limit in each.limits.items()}
    return Parity(limits=limits, results=worst(results))


def _size(task: ExportTask, trained: Mapping[str, TrainedGraph]) -> tuple[int, int] | None:
    if task.free_size:
        return None
    sizes = {each.data_size_px for each in trained.values()}
    if len(sizes) > 1:
        raise BundleError(
            f"export: found runs on frames of {' and '.join(map(str, sizes))} px, expected one size. Give --size."
        )
    return sizes.pop()


def _frames_of_data(trained: TrainedGraph, size_px: tuple[int, int], choices: Choices) -> NDArray[np.uint8]:
    """Validation frames, cut to the size asked for."""
    from export.trained import validation_samples

    height_px, width_px = size_px
    found = [np.asarray(each.pixels) for each in validation_samples(trained, choices.cache, choices.golden_frames)]
    cut = [pixels[None, :height_px, :width_px] for pixels in found]
    fitting = [pixels for pixels in cut if pixels.shape == (1, height_px, width_px)]
    if not fitting:
        raise BundleError(
            f"export: found no validation frame of {height_px}x{width_px} px or more, expected some. Give --size, or "
            "leave out --golden-from-data."
        )
    return np.stack(fitting)


def _golden(task: ExportTask, trained: Mapping[str, TrainedGraph], frames: NDArray[np.uint8]) -> Golden:
    from export.to_onnx import torch_outputs

    return Golden(
        frames, {role: torch_outputs(trained[role].network, end, frames) for role, end in task.graphs.items()}
    )


def _provenance(
    trained: Mapping[str, TrainedGraph],
    graphs: Mapping[str, Graphs],
    choices: Choices,
    own: Mapping[str, Any],
    now: datetime,
) -> Provenance:
    commits = {each.git_commit for each in trained.values()}
    return Provenance(
        recipe={
            **{role: dict(each.recipe) for role, each in trained.items()},
            "export": {
                **own,
                "weights": choices.weights,
                "validation_frames": choices.validation_frames,
                "parity_frames": choices.golden_frames,
                "fp32_nodes": {role: list(each.kept_float) for role, each in graphs.items()},
            },
        },
        data={role: each.data_digest for role, each in trained.items()},
        git_commit=commits.pop()
        if len(commits) == 1
        else ", ".join(f"{role}: {each.git_commit}" for role, each in trained.items()),
        created_at=now.isoformat(timespec="seconds"),
        metrics={f"{role}.{figure}": value for role, each in trained.items() for figure, value in each.metrics.items()},
    )
