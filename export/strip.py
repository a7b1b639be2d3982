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
from export.tune import MIN_SIZES_PX, PIXEL_THRESHOLDS, ClassChoice, ClassTuner, MinSizeRule, choose_gate_threshold
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

Report = Callable[[str, int, int], None]
"""Told what is being done, how many of its steps are done, and how many there are."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What a person may decide about an export.

    Attributes:
        name: Of the bundle; None takes its folder's.
        size_px: Height and width of the frames; None takes those of the runs' data.
        min_recall: Share of defective validation frames that the gate must let through.
        gate_threshold: Instead of the one that `min_recall` gives.
        gate_mode: `hard` or `soft`.
        min_size_rule: `component` or `class_total`.
        tune: Choose pixel thresholds on validation frames, otherwise 0.5.
        min_sizes_px: Minimum size of each class; `gate` takes the least truth that the gate was taught to call a
            defect; None chooses on validation frames.
        validation_frames: At most so many of each run's validation frames.
        golden_frames: How many frames parity is measured on.
        golden_kept: How many of them `golden.npz` keeps; None keeps all.
        golden_from_data: Take them from the gate's validation data instead of synthetic strip.
        ship: Leave out the FP32 files.
        replace: Write over a bundle that is there.
        cache: Where rendered strips are kept.
    """

    name: str | None = None
    size_px: tuple[int, int] | None = None
    min_recall: float = 0.99
    gate_threshold: float | None = None
    gate_mode: str = "hard"
    min_size_rule: MinSizeRule = "component"
    tune: bool = True
    min_sizes_px: tuple[int, ...] | Literal["gate"] | None = None
    validation_frames: int = 320
    golden_frames: int = 16
    golden_kept: int | None = 3
    golden_from_data: bool = False
    ship: bool = False
    replace: bool = False
    cache: Path = Path("runs/cache")


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
    trained = open_cascade(runs)
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


def open_cascade(runs: Sequence[Path]) -> dict[str, TrainedGraph]:
    """The trained gate and segmenter of the runs, by role.

    Raises:
        BundleError: Not one of each.
        ConfigError: A run folder is not valid.
    """
    from export.to_onnx import open_run

    opened = [open_run(run) for run in runs]
    found = sorted(each.role for each in opened)
    if found != sorted(ROLES):
        raise BundleError(
            f"export: found runs of {', '.join(found) or 'nothing'}, expected one of each of {', '.join(ROLES)}. "
            "Give the folders of a 'train strip-gate' and a 'train strip-segmenter'."
        )
    return {each.role: each for each in opened}


def choose_settings(trained: Mapping[str, TrainedGraph], choices: Choices, report: Report) -> StripSettings:
    """The head's settings, from each run's own validation frames.

    Raises:
        BundleError: The validation frames do not tell defective from clean.
        DataError: They are missing or unreadable.
    """
    names = trained[SEGMENTER].class_names
    sizes = _size_candidates(trained, choices)
    threshold = choices.gate_threshold
    if threshold is None:
        threshold = _gate_threshold(trained[GATE], choices, report)
    picked = tuple(ClassChoice(0.5, each[0], float("nan")) for each in sizes)
    if choices.tune or choices.min_sizes_px is None:
        thresholds = PIXEL_THRESHOLDS if choices.tune else (0.5,)
        tuner = ClassTuner(choices.min_size_rule, sizes, thresholds)
        picked = _class_choices(trained, threshold, tuner, choices, report)
    return StripSettings.model_validate(
        {
            "class_names": names,
            "gate_mode": choices.gate_mode,
            "gate_threshold": round(threshold, 4),
            "pixel_thresholds": [each.pixel_threshold for each in picked],
            "min_size_px": [each.min_size_px for each in picked],
            "min_size_rule": choices.min_size_rule,
        }
    )


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


def _size_candidates(trained: Mapping[str, TrainedGraph], choices: Choices) -> tuple[Sequence[int], ...]:
    """The minimum sizes to choose from, a row for each class.

    Raises:
        BundleError: Not one size for each class.
    """
    classes = len(trained[SEGMENTER].class_names)
    given = choices.min_sizes_px
    if given is None:
        return (MIN_SIZES_PX,) * classes
    sizes = trained[GATE].least_truth_px if given == "gate" else given
    if len(sizes) == 1:
        sizes *= classes
    if len(sizes) != classes:
        raise BundleError(
            f"export: found {len(sizes)} minimum sizes for the classes {', '.join(trained[SEGMENTER].class_names)}, "
            "expected one, or one for each. Set --min-sizes."
        )
    return tuple((size,) for size in sizes)


def _gate_threshold(gate: TrainedGraph, choices: Choices, report: Report) -> float:
    from export.to_onnx import torch_outputs, validation_examples

    probability: list[float] = []
    defective: list[bool] = []
    for step, example in enumerate(validation_examples(gate, choices.cache, choices.validation_frames)):
        report("choosing the gate's threshold", step, choices.validation_frames)
        true_px = np.count_nonzero(example.truth, axis=(1, 2))
        enough = bool((true_px >= gate.least_truth_px).any())
        if true_px.any() and not enough:
            continue
        defective.append(enough)
        outputs = torch_outputs(gate.network, GATE, example.frame[None, None])
        probability.append(float(outputs["defect_probability"][0]))
    report("choosing the gate's threshold", choices.validation_frames, choices.validation_frames)
    return choose_gate_threshold(np.array(probability), np.array(defective, np.bool_), choices.min_recall)


def _class_choices(
    trained: Mapping[str, TrainedGraph], threshold: float, tuner: ClassTuner, choices: Choices, report: Report
) -> tuple[ClassChoice, ...]:
    from export.to_onnx import torch_outputs, validation_examples

    segmenter = trained[SEGMENTER]
    for step, example in enumerate(validation_examples(segmenter, choices.cache, choices.validation_frames)):
        report("choosing thresholds and sizes", step, choices.validation_frames)
        frame = example.frame[None, None]
        passed = torch_outputs(trained[GATE].network, GATE, frame)["defect_probability"][0] >= threshold
        found = torch_outputs(segmenter.network, SEGMENTER, frame)["class_probability"][0] if passed else None
        tuner.add(found, example.truth)
    report("choosing thresholds and sizes", choices.validation_frames, choices.validation_frames)
    return tuner.choose()


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
