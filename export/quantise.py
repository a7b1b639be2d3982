"""From a half bundle to its INT8 or FP8 bundle: ranges, layers, parity, gain, and the folder.

The reference is what the trained network gave where the bundle's golden frames say it, and on further frames what the
bundle's own graph gives in FP32. A graph that does not become faster, or that loses too much, stays as it was. Of FP8
the gain is not asked: no CPU computes in it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from export.bundle import Draft, write_bundle
from export.calibration import CalibrationFrames, frame_size_px
from export.eight_bits import KINDS, EightBits
from export.gain import gain
from export.layer_choice import choose_layers
from export.parity import Candidate, measure, run, worst
from runtime.bundle import Bundle, Parity, ParityResult
from runtime.errors import BundleError
from runtime.golden.frames import Golden, read_golden
from runtime.spec import GraphSpec, Precision

if TYPE_CHECKING:
    import onnx_ir as ir

    from export.tasks.base import ExportTask, Report

Gain = Callable[..., float]
"""As `export.gain.gain`."""


@dataclass(frozen=True, slots=True)
class QuantiseChoices:
    """What a person may decide.

    Attributes:
        precision: Which type of eight bits.
        name: Of the new bundle; None takes its folder's.
        graphs: Roles to quantise; empty takes all.
        keep: Layers that are never quantised.
        parity_frames: Frames, beside the golden ones, on which parity is measured.
        least_gain: How many times faster a graph must become on this CPU; 0 does not ask, and of FP8 nobody can.
        threads: CPU threads of an engine; None leaves it to the backend.
        replace: Write over a bundle that is there.
    """

    precision: Literal["int8", "fp8"] = "int8"
    name: str | None = None
    graphs: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    parity_frames: int = 16
    least_gain: float = 1.1
    threads: int | None = None
    replace: bool = False

    @property
    def kind(self) -> EightBits:
        """The type."""
        return KINDS[self.precision]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one graph.

    Attributes:
        role: Whose.
        quantised: Layers in eight bits; empty where the graph stays as it was.
        left_half: Convolutions that are not.
        gain: How many times faster it runs; None where it was not measured.
        no_gain: Why it was not; empty where it was.
        why_not: Why the graph stays as it was; empty where it does not.
        file: The quantised file; None where there is none.
        results: Its parity.
    """

    role: str
    quantised: tuple[str, ...]
    left_half: tuple[str, ...]
    gain: float | None
    no_gain: str
    why_not: str
    file: Path | None
    results: tuple[ParityResult, ...]

    def facts(self) -> dict[str, Any]:
        """What the bundle says about it."""
        return {
            "quantised": list(self.quantised),
            "left_half": list(self.left_half),
            **({"gain_not_measured": self.no_gain} if self.gain is None else {"gain": round(self.gain, 2)}),
            "why_not": self.why_not or None,
        }


def quantise_bundle(
    source: Bundle,
    task: ExportTask,
    calibration: CalibrationFrames,
    out: Path,
    choices: QuantiseChoices,
    report: Report = lambda *_: None,
    *,
    gain_of: Gain = gain,
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
) -> Bundle:
    """Quantise a bundle's graphs and write what came of it.

    Args:
        source: The bundle, opened.
        task: Of the bundle.
        calibration: Frames on which the tensors' ranges are seen.
        out: Folder of the new bundle.
        choices: See there.
        report: Told of each step.
        gain_of: Times two files.
        now: Wall clock.

    Raises:
        BundleError: A role or layer does not exist, the bundle is quantised already, no graph wins, or parity fails.
        EngineError: A backend is not installed, or cannot run a graph.
    """
    _check(source, choices)
    golden = read_golden(source)
    own_size = golden.frames.shape[2:]
    size_px = frame_size_px(list(source.spec.graphs.values()), (own_size[0], own_size[1]))
    further = task.golden(choices.parity_frames, size_px)
    with tempfile.TemporaryDirectory(prefix="ferrosight-quantise-") as folder:
        outcomes: dict[str, Outcome] = {}
        for role in choices.graphs or source.spec.graphs:
            graph = _Graph(source, task, role, calibration, choices, Path(folder), report)
            sets = [golden, Golden(further, {role: run(graph.reference(), further, choices.threads)})]
            outcomes[role] = graph.quantise(sets, gain_of)
        if not any(each.file for each in outcomes.values()):
            reasons = "; ".join(f"{role}: {each.why_not}" for role, each in outcomes.items())
            raise BundleError(
                f"quantise: found nothing to gain ({reasons}), expected one graph that wins. Use the bundle as it is."
            )
        record = {
            "precision": choices.precision,
            "source": {"name": source.spec.name, "digest": source.digest},
            "calibration": {
                "data": calibration.source, "frames": len(calibration.frames), "sha256": calibration.digest
            },
            "graphs": {role: outcome.facts() for role, outcome in outcomes.items()},
        }  # fmt: skip
        draft = _draft(source, task, outcomes, record, golden, choices, out, now())
        return write_bundle(draft, out, replace=choices.replace)


@dataclass(frozen=True, slots=True)
class _Graph:
    """One graph of a bundle on its way to eight bits."""

    source: Bundle
    task: ExportTask
    role: str
    calibration: CalibrationFrames
    choices: QuantiseChoices
    folder: Path
    report: Report

    @property
    def spec(self) -> GraphSpec:
        return self.source.spec.graphs[self.role]

    @property
    def kind(self) -> EightBits:
        return self.choices.kind

    @property
    def new_spec(self) -> GraphSpec:
        precision = self.kind.precision
        return self.spec.model_copy(update={"files": {precision: f"{self.role}.{precision}.onnx"}})

    def reference(self) -> Candidate:
        """The graph as it is, on the backend that computes half files in FP32."""
        precision = self.source.precision_of(self.role)
        file = self.source.model_file(self.role, precision)
        return Candidate(self.role, self.spec, precision, "onnxruntime", "onnxruntime", file)

    def quantise(self, sets: Sequence[Golden], gain_of: Gain) -> Outcome:
        from export.overflow import float_ranges
        from export.pairs import layers_of

        single = self._single()
        every, suited = layers_of(single), layers_of(single, self.kind)
        self.report(f"{self.role}: seeing ranges", 0, 1)
        ranges = float_ranges(single, self.calibration.frames)
        self.report(f"{self.role}: seeing ranges", 1, 1)
        found: dict[frozenset[str], tuple[ParityResult, ...]] = {}

        def probe(layers: Collection[str]) -> tuple[ParityResult, ...]:
            found[frozenset(layers)] = self._parity(self._write(single, ranges, layers), sets)
            return found[frozenset(layers)]

        chosen = choose_layers(
            [layer for layer in suited if layer not in self.choices.keep],
            probe,
            lambda done, total: self.report(f"{self.role}: harm of each layer", done, total),
        )
        left = tuple(layer for layer in every if layer not in chosen)
        if not chosen:
            why = " within the limits of parity" if suited else f": none suits {self.kind.title}"
            return self._as_it_was(left, None, f"no layer can be quantised{why}")
        file, results = self._write(single, ranges, chosen), found[frozenset(chosen)]
        times = self._gain(file, sets[-1], gain_of)
        if times is not None and times < self.choices.least_gain:
            why = f"{times:.2f} times as fast, expected {self.choices.least_gain:g}"
            return self._as_it_was(every, times, why)
        return Outcome(self.role, chosen, left, times, self._no_gain, "", file, results)

    def _single(self) -> ir.Model:
        import onnx_ir as ir

        from export.pairs import OPSET
        from export.widen import raise_opset, to_single

        return raise_opset(to_single(ir.load(self.reference().file)), OPSET)

    def _write(self, single: ir.Model, ranges: Mapping[str, float], layers: Collection[str]) -> Path:
        """The quantised file; the rest of the graph is half, but for what overflows or stood behind the logits."""
        import onnx_ir as ir

        from export.half import to_half
        from export.overflow import overflowing_nodes
        from export.pairs import quantise

        path = self.folder / self.new_spec.files[self.kind.precision]
        ir.save(to_half(quantise(single, ranges, layers, self.kind), overflowing_nodes(single, ranges)), path)
        return path

    def _parity(self, file: Path, sets: Sequence[Golden]) -> tuple[ParityResult, ...]:
        candidates = [
            Candidate(self.role, self.new_spec, self.kind.precision, backend, backend, file)
            for backend in self.kind.backends
        ]
        comparisons = {role: end.comparison for role, end in self.task.graphs.items()}
        settings, threads = self.source.spec.settings, self.choices.threads
        return worst(
            result for golden in sets for result in measure(candidates, golden, settings, comparisons, threads=threads)
        )

    @property
    def _no_gain(self) -> str:
        return self.kind.why_no_gain or ("" if self.choices.least_gain else "nobody asked for it")

    def _gain(self, file: Path, golden: Golden, gain_of: Gain) -> float | None:
        if self._no_gain:
            return None
        self.report(f"{self.role}: timing", 0, 1)
        before, after = (self.spec, self.reference().file), (self.new_spec, file)
        times = gain_of(before, after, golden.frames, threads=self.choices.threads)
        self.report(f"{self.role}: timing", 1, 1)
        return times

    def _as_it_was(self, left: tuple[str, ...], times: float | None, why: str) -> Outcome:
        return Outcome(self.role, (), left, times, "it was not quantised", why, None, ())


def _check(source: Bundle, choices: QuantiseChoices) -> None:
    from export.pairs import layers_of

    for role in choices.graphs:
        source.precision_of(role)  # names the roles where it is none of them
    files = {each for graph in source.spec.graphs.values() for each in graph.files}
    if found := " and ".join(KINDS[each].title for each in KINDS if each in files):
        raise BundleError(
            f"quantise: found {source.path} with {found} files, expected a bundle of half ones. Give the one that it "
            "was made of."
        )
    if not choices.keep:
        return
    import onnx_ir as ir

    layers = {layer for role in source.spec.graphs for layer in layers_of(ir.load(source.model_file(role)))}
    if unknown := sorted(set(choices.keep) - layers):
        raise BundleError(
            f"quantise: found no layer {unknown[0]!r} to keep, expected some of {', '.join(sorted(layers))}."
        )


def _draft(
    source: Bundle,
    task: ExportTask,
    outcomes: Mapping[str, Outcome],
    record: Mapping[str, Any],
    golden: Golden,
    choices: QuantiseChoices,
    out: Path,
    now: datetime,
) -> Draft:
    graphs: dict[str, GraphSpec] = {}
    onnx: dict[str, Path] = {}
    results: list[ParityResult] = []
    for role, graph in source.spec.graphs.items():
        outcome = outcomes.get(role)
        if outcome is not None and outcome.file is not None:
            files: dict[Precision, str] = {choices.precision: outcome.file.name}
            onnx[outcome.file.name] = outcome.file
            results += outcome.results
        else:
            files = graph.files
            onnx |= {file: source.path / file for file in files.values()}
            results += [each for each in source.parity.results if each.graph == role]
        graphs[role] = graph.model_copy(update={"files": files})
    limits = {
        figure: limit
        for end in task.graphs.values()
        for figure, limit in end.comparison.limits_of(choices.precision).items()
    }
    return Draft(
        name=choices.name or out.resolve().name,
        task=source.spec.task,
        graphs=graphs,
        onnx=onnx,
        settings=source.spec.settings,
        provenance=source.spec.provenance.model_copy(
            update={
                "recipe": {**source.spec.provenance.recipe, "quantise": record},
                "data": {**source.spec.provenance.data, "calibration": record["calibration"]["sha256"]},
                "created_at": now.isoformat(timespec="seconds"),
            }
        ),
        golden=golden,
        parity=Parity(limits=limits, results=tuple(results)),
    )
