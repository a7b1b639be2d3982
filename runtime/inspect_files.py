"""Inspect picture files with a bundle: the job behind `ferrosight inspect`."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from camera.base import CameraError, Frame
from camera.images import DEFAULT_PIXELS, PixelSettings, read_grey
from runtime.backends import DEFAULT_BACKEND, entry_of
from runtime.bundle import Bundle
from runtime.coverage import Books
from runtime.cuda import DEFAULT_API, CudaApi
from runtime.errors import DataError, EngineError
from runtime.facts import Facts, read_facts
from runtime.heads import head_of
from runtime.loop import latency_ms
from runtime.messages import Missed, MissedReason, RunEnded, RunStarted, utc_text
from runtime.result_files import Picture, ResultFile, gather
from runtime.sized_engines import SizedEngines

if TYPE_CHECKING:
    from runtime.pipeline import Album, Answerer, OverlayChoice
    from runtime.spec import Precision

Progress = Callable[[int, int, Path], None]
"""Called after each picture: how many are answered, of how many, and the last one."""


@dataclass(frozen=True, slots=True)
class InspectSettings:
    """How pictures are inspected.

    Attributes:
        backend: A key of `runtime.backends.BACKENDS`.
        precision: Which files of the bundle are run; None is its preference.
        batch: Pictures of one size that go through the engines together.
        threads: CPU threads an engine may use; None leaves it to the backend.
        cuda_api: By which library a GPU is driven.
        facts: What is known of every picture; a file beside a picture may say more, see `runtime.facts`.
        rules: The task's rules for a verdict, as a configuration has them.
        pixels: How colour, depth and orientation become grey frames.
        overlays: Which pictures are drawn.
    """

    backend: str = DEFAULT_BACKEND
    precision: Precision | None = None
    batch: int = 4
    threads: int | None = None
    cuda_api: CudaApi = DEFAULT_API
    facts: Facts = field(default_factory=Facts)
    rules: Mapping[str, Any] = field(default_factory=dict)
    pixels: PixelSettings = DEFAULT_PIXELS
    overlays: OverlayChoice = "defective"


@dataclass(frozen=True, slots=True)
class InspectSummary:
    """What became of the pictures.

    Attributes:
        images: Pictures found.
        inspected: Pictures that the models saw.
        verdicts: How many of them by verdict.
        missed: Pictures that nobody saw; `missed_by_reason` counts them.
        defects: Defects by class name.
        seconds: From the first picture to the last.
        infer_ms_p50: Median time of the engines a picture, its share of a batch; None if nothing was inspected.
        bundle, backend, precision: What said it.
        results: Where the messages lie.
        files: Where the task's files for people lie, by what they are.
    """

    images: int
    inspected: int
    verdicts: dict[str, int]
    missed: int
    missed_by_reason: dict[str, int]
    defects: dict[str, int]
    seconds: float
    infer_ms_p50: float | None
    bundle: str
    backend: str
    precision: str
    results: Path
    files: dict[str, Path]

    @property
    def exit_code(self) -> int:
        """0 when every picture was inspected, 1 when some were missed."""
        return 1 if self.missed else 0

    def as_json(self) -> dict[str, Any]:
        """The same with paths as text."""
        files = {name: str(path) for name, path in self.files.items()}
        return {**asdict(self), "results": str(self.results), "files": files}


def inspect_paths(
    paths: Sequence[Path],
    bundle: Bundle,
    out: Path,
    settings: InspectSettings | None = None,
    *,
    progress: Progress | None = None,
    clock_ns: Callable[[], int] = time.monotonic_ns,
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
) -> InspectSummary:
    """Inspect pictures, each on its own: a defect never goes on in the next file.

    Args:
        paths: Picture files, and folders that are searched at any depth, in natural order.
        bundle: What inspects.
        out: Folder of the results: `results.jsonl`, and what the task's album holds.
        settings: How; the plain ones if None.
        progress: Told after each picture.
        clock_ns: Monotonic clock.
        now: Wall time, UTC.

    Raises:
        CameraError: A path does not exist, or there is no picture at all.
        BundleError: The bundle lacks the precision asked for, or its settings are not valid.
        EngineError: The backend is absent, or the graphs do not run on it.
        ConfigError: The rules do not fit the bundle, or `out` cannot be written.
    """
    settings = settings or InspectSettings()
    pictures = gather(paths)
    entry_of(settings.backend)
    model = bundle.identity(settings.backend, settings.precision)
    head = head_of(bundle.spec.task)
    answerer = head.answerer(bundle.spec, settings.rules, model, settings.facts)
    with ExitStack() as parts:
        engines = parts.enter_context(
            SizedEngines(
                bundle,
                settings.backend,
                settings.precision,
                batch=settings.batch,
                threads=settings.threads,
                cuda_api=settings.cuda_api,
            )
        )
        results = parts.enter_context(ResultFile(out))
        album = head.open_album(out, settings.overlays)
        parts.callback(album.close)
        run = _Run(pictures, engines, answerer, results, album, settings, progress or _say_nothing, clock_ns, now)
        began_ns = clock_ns()
        run.go(RunStarted(**run.envelope(), model=model, camera="files", mm_per_px=settings.facts.mm_per_px))
        coverage = run.books.coverage()
        return InspectSummary(
            images=len(pictures),
            inspected=coverage.frames_inspected,
            verdicts=dict(sorted(run.verdicts.items())),
            missed=coverage.frames_missed,
            missed_by_reason=dict(run.missed),
            defects=dict(sorted(run.found.items())),
            seconds=(clock_ns() - began_ns) / 1e9,
            infer_ms_p50=float(np.median(run.infer_ms)) if run.infer_ms else None,
            bundle=model.bundle,
            backend=model.backend,
            precision=model.precision,
            results=results.path,
            files=dict(album.places),
        )


class _Run:
    """One pass over the pictures, with its books."""

    def __init__(
        self,
        pictures: Sequence[Picture],
        engines: SizedEngines,
        answerer: Answerer,
        results: ResultFile,
        album: Album,
        settings: InspectSettings,
        progress: Progress,
        clock_ns: Callable[[], int],
        now: Callable[[], datetime],
    ) -> None:
        self._pictures = pictures
        self._engines = engines
        self._answerer = answerer
        self._results = results
        self._album = album
        self._settings = settings
        self._progress = progress
        self._clock_ns = clock_ns
        self._now = now
        self._sequence = 0
        self._waiting: list[tuple[Frame, Facts]] = []
        self.books = Books()
        self.verdicts: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self.found: Counter[str] = Counter()
        self.infer_ms: list[float] = []

    def go(self, started: RunStarted) -> None:
        """Answer for every picture; an interrupt names those that were left, and is raised again."""
        self._results.write(started)
        try:
            for index, picture in enumerate(self._pictures):
                self._take(index, picture.path)
            self._flush()
        except KeyboardInterrupt:
            left = self.books.next_index or 0
            if left < len(self._pictures):
                self._miss(left, len(self._pictures), "stopped", "interrupted from the keyboard")
            self._end("stopped")
            raise
        self._end("finished")

    def envelope(self) -> dict[str, Any]:
        """What every message carries, with the next number."""
        sequence, self._sequence = self._sequence, self._sequence + 1
        return {
            "line": "inspect",
            "station": "inspect",
            "run": "inspect",
            "sequence": sequence,
            "captured_at": utc_text(self._now()),
        }

    def _take(self, index: int, path: Path) -> None:
        """Read a picture and let it wait for others of its size."""
        began_ns = self._clock_ns()
        try:
            pixels = read_grey(path, pixels=self._settings.pixels)
            facts = read_facts(path, self._settings.facts)
        except (CameraError, DataError) as error:
            self._flush()
            self._miss(index, index + 1, "unreadable", str(error))
            return
        refusal = self._engines.refusal(pixels.shape)
        if refusal is not None:
            self._flush()
            self._miss(index, index + 1, "wrong_size", f"picture {path}: {refusal}")
            return
        if self._waiting and self._waiting[0][0].pixels.shape != pixels.shape:
            self._flush()
        self._waiting.append((Frame("files", index, began_ns, pixels, math.nan, str(path)), facts))
        if len(self._waiting) == self._settings.batch:
            self._flush()

    def _flush(self) -> None:
        """Run what waits through the engines, and answer for it."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        frames = [frame for frame, _ in waiting]
        stamps_ns = {"read": self._clock_ns()}
        try:
            pipeline = self._engines.open(frames[0].pixels.shape)
            pending = pipeline.start(np.stack([frame.pixels[np.newaxis] for frame in frames]))
            pipeline.advance(pending)
            stamps_ns["gate"] = self._clock_ns()
            outputs = pipeline.finish(pending)
        except EngineError as error:
            self._miss(frames[0].index, frames[-1].index + 1, "engine_failed", str(error))
            return
        stamps_ns["segment"] = self._clock_ns()
        self.infer_ms += [(stamps_ns["segment"] - stamps_ns["read"]) / 1e6 / len(frames)] * len(frames)
        for (frame, facts), output in zip(waiting, outputs, strict=True):
            self._answer(frame, facts, output, stamps_ns)
        pipeline.release(pending)

    def _answer(self, frame: Frame, facts: Facts, output: Any, stamps_ns: dict[str, int]) -> None:
        self._answerer.gap()
        answer = self._answerer.answer(frame, output, facts)
        latency = latency_ms(frame.captured_ns, {**stamps_ns, "decide": self._clock_ns()})
        message = answer.message(self.envelope(), latency)
        picture = self._pictures[frame.index]
        self._results.write(message)
        self.books.inspected(frame.index)
        self.found.update(answer.new_defects)
        self.verdicts[message.verdict] += 1
        self._album.add(frame.pixels, picture.name, message)
        self._progress(frame.index + 1, len(self._pictures), picture.path)

    def _miss(self, first: int, stop: int, reason: MissedReason, detail: str) -> None:
        self._results.write(Missed(**self.envelope(), first_index=first, stop_index=stop, reason=reason, detail=detail))
        self.books.missed(first, stop)
        self.missed[reason] += stop - first
        self._progress(stop, len(self._pictures), self._pictures[stop - 1].path)

    def _end(self, reason: Literal["finished", "stopped"]) -> None:
        coverage, defects = self.books.coverage(), dict(sorted(self.found.items()))
        self._results.write(RunEnded(**self.envelope(), reason=reason, coverage=coverage, defects=defects))


def _say_nothing(done: int, total: int, path: Path) -> None:
    """The progress of a caller that asks for none."""
