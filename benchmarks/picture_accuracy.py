"""Accuracy of a bundle that scores pictures as a whole: the exported graph and the head that the line runs."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from benchmarks.evaluation_data import EvaluationSet, open_dataset
from benchmarks.judges import judge_of
from benchmarks.machine import Machine, read_machine
from benchmarks.report import BundleName, Report, markdown_table
from camera.base import Frame
from runtime.bundle import Bundle, open_bundle
from runtime.engine import EngineSettings
from runtime.errors import ConfigError
from runtime.facts import Facts
from runtime.heads import head_of
from runtime.messages import Scored

if TYPE_CHECKING:
    from benchmarks.accuracy import AccuracyPlan
    from benchmarks.judges.base import Judge, TaskJudge
    from runtime.pipeline import Answerer

SYNTHETIC_PICTURES = 200
"""Pictures of `synthetic=SEED` where it names no number."""

_EPOCH = "1970-01-01T00:00:00.000000+00:00"
"""In messages that are made to be judged, and go nowhere."""


class PictureFigures(Report):
    """One set of pictures."""

    data: str = Field(description="name of the loader")
    source: str
    part: str
    digest: str = Field(description="SHA-256 of all that decides pictures and truth")
    seen_in_training: str
    pictures: int
    figures: dict[str, float]
    baseline: dict[str, float]
    seconds: float


class PictureReport(Report):
    """What `ferrosight evaluate` writes of such a bundle."""

    schema_version: Literal["ferrosight.evaluate_pictures/1"] = Field(
        default="ferrosight.evaluate_pictures/1", alias="schema"
    )
    machine: Machine
    bundle: BundleName
    task: str
    backend: str
    precision: str
    settings: dict[str, Any] = Field(description="of the head, as the bundle has them")
    rules: dict[str, str] = Field(description="how the figures are counted")
    baseline: str = Field(description="what the trivial answer is")
    data: tuple[PictureFigures, ...]


def evaluate_pictures(
    path: Path,
    plan: AccuracyPlan,
    advance: Callable[[EvaluationSet, int], None] = lambda _data, _pictures: None,
) -> PictureReport:
    """Judge a bundle by every set of a plan; each picture goes through alone, in its own size.

    Args:
        path: The bundle.
        plan: By what, and how.
        advance: Told of each set how many more pictures were judged; 0 once before the first.

    Raises:
        BundleError: The bundle is refused, or nobody judges its task.
        ConfigError: A set is not known, or is empty.
        DataError: A picture or label of a set cannot be used.
        EngineError: The backend is absent, or failed.
    """
    machine = read_machine()
    bundle = open_bundle(path)
    judge = judge_of(bundle.spec.task)
    model = bundle.identity(plan.backend, plan.precision)
    answerer = head_of(bundle.spec.task).answerer(bundle.spec, {}, model, Facts())
    found: list[PictureFigures] = []
    for text in plan.data:
        data = _open(text, bundle, judge, plan)
        began_s = time.perf_counter()
        held = judge.open_judge(bundle.spec)
        advance(data, 0)
        for _ in _judged(bundle, plan, data, answerer, held):
            advance(data, 1)
        found.append(
            PictureFigures(
                data=data.kind,
                source=data.source,
                part=data.part,
                digest=data.digest,
                seen_in_training=data.training,
                pictures=data.count,
                figures=held.figures(),
                baseline=held.baseline(),
                seconds=round(time.perf_counter() - began_s, 3),
            )
        )
    return PictureReport(
        machine=machine,
        bundle=BundleName(name=bundle.spec.name, digest=bundle.digest),
        task=bundle.spec.task,
        backend=plan.backend,
        precision=model.precision,
        settings=bundle.spec.settings,
        rules=dict(judge.RULES),
        baseline=judge.BASELINE,
        data=tuple(found),
    )


def _judged(
    bundle: Bundle, plan: AccuracyPlan, data: EvaluationSet, answerer: Answerer, judge: Judge
) -> Iterator[None]:
    """One turn a picture; pictures of one size that follow each other share an engine."""
    head = head_of(bundle.spec.task)
    pictures, number = data.pictures(), 0
    picture = next(pictures, None)
    while picture is not None:
        size = picture.pixels.shape
        settings = EngineSettings(max_batch=1, slots=1, height_px=size[0], width_px=size[1], threads=plan.threads)
        with head.open_pipeline(bundle, plan.backend, settings, plan.precision) as pipeline:
            while picture is not None and picture.pixels.shape == size:
                pending = pipeline.start(np.ascontiguousarray(picture.pixels[np.newaxis, np.newaxis]))
                pipeline.advance(pending)
                (raw,) = pipeline.finish(pending)
                answerer.gap()
                frame = Frame("evaluate", number, 0, picture.pixels, source=picture.name)
                message = answerer.answer(frame, raw, picture.facts).message(_envelope(number), {})
                if not isinstance(message, Scored):
                    raise TypeError(f"judge: found a message {message.kind!r}, expected 'scored'.")
                judge.add(picture, raw, message)
                pipeline.release(pending)
                number += 1
                yield
                picture = next(pictures, None)


def _envelope(number: int) -> dict[str, Any]:
    return {"line": "evaluate", "station": "evaluate", "run": "evaluate", "captured_at": _EPOCH, "sequence": number}


def _open(text: str, bundle: Bundle, judge: TaskJudge, plan: AccuracyPlan) -> EvaluationSet:
    kind, equals, source = text.partition("=")
    if not equals or not kind or not source:
        raise ConfigError(
            f"--data {text!r}: expected NAME=PATH, such as crackforest=data/crackforest, or synthetic=SEED[:PICTURES]."
        )
    if kind != "synthetic":
        return open_dataset(kind, Path(source), bundle.spec, plan.part)
    seed_text, colon, count_text = source.partition(":")
    if not seed_text.isdecimal() or (colon and not count_text.isdecimal()) or count_text == "0":
        raise ConfigError(f"--data synthetic={source}: expected synthetic=SEED or synthetic=SEED:PICTURES.")
    seed, count = int(seed_text), int(count_text or SYNTHETIC_PICTURES)
    digest = hashlib.sha256(f"{bundle.spec.task} {seed} {count}".encode())
    first = next(judge.synthetic(seed, 1))
    digest.update(first.pixels.tobytes() + np.packbits(first.truth).tobytes())
    return EvaluationSet(
        kind="synthetic",
        source=f"seed {seed}, {count} pictures",
        part="all",
        digest=digest.hexdigest(),
        class_names=(),
        count=count,
        pictures=lambda: judge.synthetic(seed, count),
        training="no: seeds are drawn apart from those that the recipes render",
    )


def picture_markdown(report: PictureReport) -> str:
    """The report for people."""
    parts = [
        f"# Accuracy of bundle `{report.bundle.name}` ({report.bundle.digest[:12]})",
        f"Task {report.task}, {report.backend}, {report.precision}. {report.machine.heading}.",
    ]
    for data in report.data:
        names = [*data.figures, *(name for name in data.baseline if name not in data.figures)]
        rows = [(name, _figure(data.figures.get(name)), _figure(data.baseline.get(name))) for name in names]
        parts += [
            f"## {data.data}: {data.source}",
            (
                f"{data.pictures} pictures, part {data.part!r}, digest {data.digest[:12]}. "
                f"Seen in training: {data.seen_in_training}. {data.seconds:.1f} s."
            ),
            markdown_table(("figure", "bundle", "baseline"), rows),
        ]
    rules = [f"{name.capitalize()}: {text}" for name, text in report.rules.items()]
    return "\n\n".join([*parts, f"Baseline: {report.baseline}", *rules]) + "\n"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
