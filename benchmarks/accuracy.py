"""Accuracy of a bundle as it ships: the exported graphs, the cascade and the head that the line runs.

Gate and segmenter both see every frame, so that one pass tells what the cascade says with its gate and what the
segmenter would say alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from benchmarks.evaluation_data import EvaluationSet, Part, open_data
from benchmarks.every_frame import EveryFrame
from benchmarks.judge import RULES, DataFigures, Judge
from benchmarks.machine import Machine, read_machine
from benchmarks.report import BundleName, Report, markdown_table
from runtime.bundle import Bundle, open_bundle
from runtime.errors import ConfigError
from runtime.heads.strip import GATE, SEGMENTER, StripSettings, settings_of
from runtime.messages import ModelIdentity
from runtime.spec import Precision


class AccuracyReport(Report):
    """What `ferrosight evaluate` writes."""

    schema_version: Literal["ferrosight.evaluate/1"] = Field(default="ferrosight.evaluate/1", alias="schema")
    machine: Machine
    bundle: BundleName
    backend: str
    precision: dict[str, str] = Field(description="by graph")
    settings: StripSettings
    rules: dict[str, str] = Field(description="how the figures are counted")
    data: tuple[DataFigures, ...]


@dataclass(frozen=True, slots=True)
class AccuracyPlan:
    """How a bundle is judged.

    Attributes:
        data: `NAME=PATH`, each.
        part: Which part of a dataset.
        backend: What runs the graphs.
        precision: Which files; None takes the bundle's preference.
        batch: Most frames in a batch.
        threads: CPU threads; None leaves it to the backend.
    """

    data: tuple[str, ...]
    part: Part = "test"
    backend: str = "openvino"
    precision: Precision | None = None
    batch: int = 8
    threads: int | None = None


def evaluate(
    path: Path,
    plan: AccuracyPlan,
    advance: Callable[[EvaluationSet, int], None] = lambda _data, _frames: None,
) -> AccuracyReport:
    """Judge a bundle by every set of a plan.

    Args:
        path: The bundle, of the strip task.
        plan: By what, and how.
        advance: Told of each set how many more frames were judged; 0 once before the first.

    Raises:
        BundleError: The bundle is refused, or is none of the strip task.
        ConfigError: A set is not known, is empty, or has another number of classes than the bundle.
        DataError: A set is missing, or holds a picture or label that cannot be used.
        EngineError: The backend is absent, or failed.
    """
    machine = read_machine()
    bundle = open_bundle(path)
    head = settings_of(bundle.spec)
    figures: list[DataFigures] = []
    for text in plan.data:
        data = open_data(text, bundle.spec, plan.part, _fixed_size(bundle))
        if len(data.class_names) != len(head.class_names):
            raise ConfigError(
                f"evaluate: found {len(data.class_names)} classes in {text} ({', '.join(data.class_names)}), "
                f"expected the bundle's {len(head.class_names)} ({', '.join(head.class_names)}). "
                "Give data of the classes that the bundle knows."
            )
        model = ModelIdentity(
            bundle=bundle.spec.name, digest=bundle.digest, backend=plan.backend, precision=str(plan.precision)
        )
        with EveryFrame(bundle, plan.backend, plan.precision, plan.batch, plan.threads) as cascade:
            figures.append(_judge(cascade, Judge(head, data, model), advance))
    return AccuracyReport(
        machine=machine,
        bundle=BundleName(name=bundle.spec.name, digest=bundle.digest),
        backend=plan.backend,
        precision={role: bundle.precision_of(role, plan.precision) for role in (GATE, SEGMENTER)},
        settings=head,
        rules=RULES,
        data=tuple(figures),
    )


def _fixed_size(bundle: Bundle) -> tuple[int, int] | None:
    """Rows and columns where the segmenter is made for one size."""
    height, width = bundle.spec.graphs[SEGMENTER].input.shape[2:]
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _judge(cascade: EveryFrame, judge: Judge, advance: Callable[[EvaluationSet, int], None]) -> DataFigures:
    """Run one set through both graphs and the heads."""
    start_s = time.perf_counter()
    advance(judge.data, 0)
    for picture, output in cascade.run(judge.data.pictures()):
        judge.add(picture, output)
        advance(judge.data, 1)
    return judge.figures(time.perf_counter() - start_s, len(cascade.sizes_seen))


def accuracy_markdown(report: AccuracyReport) -> str:
    """The report for people."""
    parts = [
        f"# Accuracy of bundle `{report.bundle.name}` ({report.bundle.digest[:12]})",
        (
            f"{report.backend}, {', '.join(f'{role} {kind}' for role, kind in report.precision.items())}. "
            f"{report.machine.heading}."
        ),
    ]
    for data in report.data:
        parts += [_data_markdown(data)]
    return "\n\n".join([*parts, *report.rules.values()]) + "\n"


def _data_markdown(data: DataFigures) -> str:
    gate = [
        (name, *(str(count) for count in (g.tp, g.fn, g.fp, g.tn)), _figure(g.recall), _figure(g.false_gate_ratio))
        for name, g in (("all frames", data.gate), ("without slivers", data.gate_without_slivers))
    ]
    both = (("with the gate", data.with_gate), ("segmenter alone", data.without_gate))
    masks = [
        (name, _figure(m.dice), _figure(m.dice_defective), _figure(m.mean_iou), _figure(m.background_iou))
        for name, m in both
    ]
    masks.append(("all empty", _figure(data.all_empty_dice), _figure(0.0 if data.gate.defective else None), "", ""))
    classes = [
        (
            name,
            str(own.pairs),
            *(_figure(value) for value in (own.dice, own.dice_defective, own.iou)),
            *(_figure(value) for value in (alone.dice_defective, alone.iou)),
        )
        for (name, own), alone in zip(data.with_gate.by_class.items(), data.without_gate.by_class.values(), strict=True)
    ]
    text = [
        f"## {data.data}: {data.source}",
        (
            f"{data.frames} frames of {data.sizes_px} size{'s' if data.sizes_px > 1 else ''}, part {data.part!r}, "
            f"digest {data.digest[:12]}. Seen in training: {data.seen_in_training}. {data.sliver_frames} defective "
            f"frames show nothing but slivers. {data.seconds:.1f} s."
        ),
        markdown_table(("gate", "TP", "FN", "FP", "TN", "recall", "false-gate ratio"), gate),
        markdown_table(("masks", "Dice", "Dice, defective pairs", "mean IoU", "background IoU"), masks),
        markdown_table(
            ("class", "frames", "Dice", "Dice, defective", "IoU", "alone: Dice, defective", "alone: IoU"), classes
        ),
    ]
    if data.defects is not None:
        d = data.defects
        text.append(
            f"Defects across frames: {d.found} of {d.planted} found ({_figure(d.found_ratio)}), {d.right_class} under "
            f"their own class; {d.false_alarms} false alarms, {d.false_alarms_on_clean} of them on {d.frames_clean} "
            f"clean frames ({_figure(d.false_alarms_per_200_clean)} in 200 clean frames)."
        )
    return "\n\n".join(text)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
