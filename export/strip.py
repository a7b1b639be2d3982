"""A strip bundle from its two runs: graphs, thresholds, parity, and the folder."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from export.bundle import Draft, write_bundle
from export.golden import FREE_SIZE_PX, synthetic_frames
from export.parity import BACKENDS, LIMITS, Candidate, Golden, measure
from export.strip_settings import Choices, Report, choose_settings
from runtime.bundle import Bundle, Parity
from runtime.errors import BundleError
from runtime.heads.strip import GATE, SEGMENTER, StripSettings
from runtime.spec import GraphSpec, Precision, Provenance, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from export.to_onnx import TrainedGraph

ROLES = (GATE, SEGMENTER)
EMULATED = "half-emulated"
"""How parity names the half graph with every half tensor rounded, as a GPU computes it."""


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


def export_strip(
    runs: Sequence[Path],
    out: Path,
    choices: Choices,
    report: Report = lambda *_: None,
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
) -> Bundle:
    """Assemble and write a strip bundle.

    Args:
        runs: Run folders of one gate and one segmenter, in any order.
        out: The bundle's folder.
        choices: See there.
        report: Told of each step.
        now: Wall clock.

    Raises:
        BundleError: The runs do not make a cascade, or parity fails.
        ConfigError: A run folder is not valid.
        DataError: The runs' validation data is missing or unreadable.
        EngineError: A backend is not installed.
    """
    trained = open_cascade(runs, choices.weights)
    size_px = choices.size_px or _common_size(trained)
    golden_frames = _golden_frames(trained[GATE], size_px, choices)
    settings = choose_settings(trained, choices, report)
    with tempfile.TemporaryDirectory(prefix="ferrosight-export-") as folder:
        graphs: dict[str, Graphs] = {}
        outputs: dict[str, Mapping[str, NDArray[Any]]] = {}
        for step, role in enumerate(ROLES):
            report("writing ONNX", step, len(ROLES))
            graphs[role], outputs[role] = write_graphs(trained[role], size_px, golden_frames, Path(folder))
        report("writing ONNX", len(ROLES), len(ROLES))
        golden = Golden(golden_frames, outputs)
        parity = measure_parity(graphs, golden, settings, report)
        draft = Draft(
            name=choices.name or out.resolve().name,
            task="strip",
            graphs={role: graphs[role].spec for role in ROLES},
            onnx={path.name: path for role in ROLES for path in graphs[role].files.values()},
            settings=settings.model_dump(mode="json"),
            provenance=_provenance(trained, graphs, choices, now()),
            golden=golden,
            parity=parity,
        )
        return write_bundle(draft, out, ship=choices.ship, replace=choices.replace, golden_frames=choices.golden_kept)


def open_cascade(runs: Sequence[Path], weights: Literal["best", "last"] = "best") -> dict[str, TrainedGraph]:
    """The trained gate and segmenter of the runs, by role.

    Raises:
        BundleError: Not one of each.
        ConfigError: A run folder is not valid.
    """
    from export.to_onnx import open_run

    opened = [open_run(run, weights) for run in runs]
    found = sorted(each.role for each in opened)
    if found != sorted(ROLES):
        raise BundleError(
            f"export: found runs of {', '.join(found) or 'nothing'}, expected one of each of {', '.join(ROLES)}. "
            "Give the folders of a 'train strip-gate' and a 'train strip-segmenter'."
        )
    return {each.role: each for each in opened}


def write_graphs(
    trained: TrainedGraph, size_px: tuple[int, int] | None, golden_frames: NDArray[np.uint8], folder: Path
) -> tuple[Graphs, dict[str, NDArray[Any]]]:
    """The ONNX files of one network in a folder, and its torch outputs on the golden frames.

    Raises:
        BundleError: The network cannot be exported.
    """
    import onnx_ir as ir

    from export.half import to_half
    from export.overflow import emulate_half, float_ranges, overflowing_nodes
    from export.to_onnx import graph_output, to_onnx, torch_outputs

    role = trained.role
    single = to_onnx(trained.network, role, size_px)
    kept_float = overflowing_nodes(single, float_ranges(single, golden_frames))
    half = to_half(single, kept_float)
    files: dict[Precision, Path] = {
        "fp32": folder / f"{role}.fp32.onnx",
        "fp16": folder / f"{role}.fp16.onnx",
    }
    emulated = folder / "emulated" / files["fp16"].name
    emulated.parent.mkdir(exist_ok=True)
    for model, path in ((single, files["fp32"]), (half, files["fp16"]), (emulate_half(half), emulated)):
        ir.save(model, path)
    size: tuple[int | str, int | str] = size_px or ("H", "W")
    spec = GraphSpec.model_validate(
        {
            "architecture": trained.architecture,
            "variant": trained.variant,
            "parameters": trained.parameters,
            "files": {precision: path.name for precision, path in files.items()},
            "input": TensorSpec(name="frames", dtype="uint8", shape=("N", 1, *size)),
            "outputs": (graph_output(role, len(trained.class_names), size),),
        }
    )
    return Graphs(spec, files, emulated, kept_float), torch_outputs(trained.network, role, golden_frames)


def measure_parity(
    graphs: Mapping[str, Graphs], golden: Golden, settings: StripSettings, report: Report = lambda *_: None
) -> Parity:
    """Every file of every graph on every backend, and the half files as a GPU computes them.

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
    steps = iter(range(len(candidates)))
    results = measure(
        candidates,
        golden,
        settings.model_dump(),
        report=lambda _: report("measuring parity", next(steps), len(candidates)),
    )
    report("measuring parity", len(candidates), len(candidates))
    return Parity(limits=dict(LIMITS), results=results)


def _common_size(trained: Mapping[str, TrainedGraph]) -> tuple[int, int] | None:
    sizes = {each.size_px for each in trained.values()}
    if len(sizes) > 1:
        raise BundleError(
            f"export: found runs on frames of {' and '.join(map(str, sizes))} px, expected one size. Give --size."
        )
    return sizes.pop()


def _golden_frames(gate: TrainedGraph, size_px: tuple[int, int] | None, choices: Choices) -> NDArray[np.uint8]:
    if not choices.golden_from_data:
        return synthetic_frames(choices.golden_frames, size_px or FREE_SIZE_PX)
    from export.to_onnx import validation_examples

    height_px, width_px = size_px or FREE_SIZE_PX
    found = [each.frame for each in validation_examples(gate, choices.cache, choices.golden_frames)]
    fitting = [frame[None] for frame in found if frame.shape == (height_px, width_px)]
    if not fitting:
        raise BundleError(
            f"export: found no validation frame of {height_px}x{width_px} px, expected some. Give --size, or leave out "
            "--golden-from-data."
        )
    return np.stack(fitting)


def _provenance(
    trained: Mapping[str, TrainedGraph], graphs: Mapping[str, Graphs], choices: Choices, now: datetime
) -> Provenance:
    commits = {each.git_commit for each in trained.values()}
    return Provenance(
        recipe={
            **{role: dict(each.recipe) for role, each in trained.items()},
            "export": {
                "min_recall": choices.min_recall,
                "pixel_thresholds": "tuned" if choices.tune else "plain",
                "min_sizes_px": "tuned" if choices.min_sizes_px is None else choices.min_sizes_px,
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
