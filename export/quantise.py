"""From a bundle to its INT8 bundle: ranges, layers, parity, gain, and the folder.

The reference is what the trained network gave where the bundle's golden frames say it, and on further frames what the
bundle's own graph gives in FP32. A graph that does not become faster, or that loses too much, stays as it was.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.bundle import Draft, write_bundle
from export.calibration import CalibrationFrames, frame_size_px
from export.gain import gain
from export.layer_choice import choose_layers
from export.parity import BACKENDS, Candidate, measure, run, worst
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
        name: Of the new bundle; None takes its folder's.
        graphs: Roles to quantise; empty takes all.
        keep: Layers that are never quantised.
        parity_frames: Frames, beside the golden ones, on which parity is measured.
        least_gain: How many times faster a graph must become on this CPU; 0 does not ask.
        threads: CPU threads of an engine; None leaves it to the backend.
        replace: Write over a bundle that is there.
    """

    name: str | None = None
    graphs: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    parity_frames: int = 16
    least_gain: float = 1.1
    threads: int | None = None
    replace: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one graph.

    Attributes:
        role: Whose.
        quantised: Layers in INT8; empty where the graph stays as it was.
        left_half: Layers that could have been, and are not.
        gain: How many times faster it runs; None where nobody asked.
        why_not: Why the graph stays as it was; empty where it does not.
        file: The INT8 file; None where there is none.
        results: Its parity.
    """

    role: str
    quantised: tuple[str, ...]
    left_half: tuple[str, ...]
    gain: float | None
    why_not: str
    file: Path | None
    results: tuple[ParityResult, ...]

    def facts(self) -> dict[str, Any]:
        """What the bundle says about it."""
        return {
            "quantised": list(self.quantised),
            "left_half": list(self.left_half),
            "gain": None if self.gain is None else round(self.gain, 2),
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
        BundleError: A role or layer does not exist, the bundle is INT8 already, no graph wins, or parity fails.
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
        draft = _draft(source, task, outcomes, calibration, golden, choices.name or out.resolve().name, now())
        return write_bundle(draft, out, replace=choices.replace)


@dataclass(frozen=True, slots=True)
class _Graph:
    """One graph of a bundle on its way to INT8."""

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
    def int8_spec(self) -> GraphSpec:
        return self.spec.model_copy(update={"files": {"int8": f"{self.role}.int8.onnx"}})

    def reference(self) -> Candidate:
        """The graph as it is, on the backend that computes half files in FP32."""
        precision = self.source.precision_of(self.role)
        file = self.source.model_file(self.role, precision)
        return Candidate(self.role, self.spec, precision, "onnxruntime", "onnxruntime", file)

    def quantise(self, sets: Sequence[Golden], gain_of: Gain) -> Outcome:
        from export.int8 import layers_of
        from export.overflow import float_ranges

        single = self._single()
        self.report(f"{self.role}: seeing ranges", 0, 1)
        ranges = float_ranges(single, self.calibration.frames)
        self.report(f"{self.role}: seeing ranges", 1, 1)
        found: dict[frozenset[str], tuple[ParityResult, ...]] = {}

        def probe(layers: Collection[str]) -> tuple[ParityResult, ...]:
            found[frozenset(layers)] = self._parity(self._write(single, ranges, layers), sets)
            return found[frozenset(layers)]

        every = layers_of(single)
        chosen = choose_layers(
            [layer for layer in every if layer not in self.choices.keep],
            probe,
            lambda done, total: self.report(f"{self.role}: harm of each layer", done, total),
        )
        left = tuple(layer for layer in every if layer not in chosen)
        if not chosen:
            return self._as_it_was(left, None, "no layer can be quantised within the limits of parity")
        file, results = self._write(single, ranges, chosen), found[frozenset(chosen)]
        times = self._gain(file, sets[-1], gain_of)
        if times is not None and times < self.choices.least_gain:
            why = f"{times:.2f} times as fast, expected {self.choices.least_gain:g}"
            return self._as_it_was(every, times, why)
        return Outcome(self.role, chosen, left, times, "", file, results)

    def _single(self) -> ir.Model:
        import onnx_ir as ir

        from export.int8 import OPSET
        from export.widen import raise_opset, to_single

        return raise_opset(to_single(ir.load(self.reference().file)), OPSET)

    def _write(self, single: ir.Model, ranges: Mapping[str, float], layers: Collection[str]) -> Path:
        """The INT8 file; the rest of the graph is half, but for what overflows or stood behind the logits."""
        import onnx_ir as ir

        from export.half import to_half
        from export.int8 import quantise
        from export.overflow import overflowing_nodes

        path = self.folder / self.int8_spec.files["int8"]
        ir.save(to_half(quantise(single, ranges, layers), overflowing_nodes(single, ranges)), path)
        return path

    def _parity(self, file: Path, sets: Sequence[Golden]) -> tuple[ParityResult, ...]:
        candidates = [Candidate(self.role, self.int8_spec, "int8", backend, backend, file) for backend in BACKENDS]
        comparisons = {role: end.comparison for role, end in self.task.graphs.items()}
        settings, threads = self.source.spec.settings, self.choices.threads
        return worst(
            result for golden in sets for result in measure(candidates, golden, settings, comparisons, threads=threads)
        )

    def _gain(self, file: Path, golden: Golden, gain_of: Gain) -> float | None:
        if not self.choices.least_gain:
            return None
        self.report(f"{self.role}: timing", 0, 1)
        before, after = (self.spec, self.reference().file), (self.int8_spec, file)
        times = gain_of(before, after, golden.frames, threads=self.choices.threads)
        self.report(f"{self.role}: timing", 1, 1)
        return times

    def _as_it_was(self, left: tuple[str, ...], times: float | None, why: str) -> Outcome:
        return Outcome(self.role, (), left, times, why, None, ())


def _check(source: Bundle, choices: QuantiseChoices) -> None:
    from export.int8 import layers_of

    for role in choices.graphs:
        source.precision_of(role)  # names the roles where it is none of them
    if any("int8" in graph.files for graph in source.spec.graphs.values()):
        raise BundleError(f"quantise: found {source.path} with INT8 files, expected a bundle of half ones.")
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
    calibration: CalibrationFrames,
    golden: Golden,
    name: str,
    now: datetime,
) -> Draft:
    graphs: dict[str, GraphSpec] = {}
    onnx: dict[str, Path] = {}
    results: list[ParityResult] = []
    for role, graph in source.spec.graphs.items():
        outcome = outcomes.get(role)
        if outcome is not None and outcome.file is not None:
            files: dict[Precision, str] = {"int8": outcome.file.name}
            onnx[outcome.file.name] = outcome.file
            results += outcome.results
        else:
            files = graph.files
            onnx |= {file: source.path / file for file in files.values()}
            results += [each for each in source.parity.results if each.graph == role]
        graphs[role] = graph.model_copy(update={"files": files})
    record = {
        "source": {"name": source.spec.name, "digest": source.digest},
        "calibration": {"data": calibration.source, "frames": len(calibration.frames), "sha256": calibration.digest},
        "graphs": {role: outcome.facts() for role, outcome in outcomes.items()},
    }
    limits = {
        figure: limit for end in task.graphs.values() for figure, limit in end.comparison.limits_of("int8").items()
    }
    return Draft(
        name=name,
        task=source.spec.task,
        graphs=graphs,
        onnx=onnx,
        settings=source.spec.settings,
        provenance=source.spec.provenance.model_copy(
            update={
                "recipe": {**source.spec.provenance.recipe, "quantise": record},
                "data": {**source.spec.provenance.data, "calibration": calibration.digest},
                "created_at": now.isoformat(timespec="seconds"),
            }
        ),
        golden=golden,
        parity=Parity(limits=limits, results=tuple(results)),
    )
