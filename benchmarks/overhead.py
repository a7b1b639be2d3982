"""What the line costs on top of its engines, measured in one process and one run.

Three questions, each with the real parts (a camera's process, the shared ring, the loop, a journal on disk, PUB and
replay sockets, a subscriber's process) and a synthetic camera that shows drawn frames again and again:

- `cascade`: frames a second of the whole line against the bare engines' best, in turns, so that a machine that
  slows down slows both;
- `null_line`: frames a second with engines that answer clean at once;
- `added_latency`: with the same, from the end of exposure until the message has left, at a camera's pace.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from benchmarks.bare import IN_TURN, BareEngines, bare_fps, prepare
from benchmarks.frames import frame_size
from benchmarks.line import Inspection, LineRun, run_line
from benchmarks.listener import Listener
from benchmarks.machine import read_machine
from benchmarks.null_pipeline import NullPipeline
from benchmarks.overhead_report import (
    LEAST_NULL_FPS,
    LEAST_RATIO,
    MOST_ADDED_MS,
    AddedLatency,
    CascadeOverhead,
    NullLine,
    OverheadPlan,
    OverheadReport,
)
from benchmarks.report import BundleName, percentiles_ms
from camera.config import SyntheticCameraSettings
from camera.ring_memory import Policy
from runtime.backends import open_engine
from runtime.bundle import Bundle, open_bundle
from runtime.cascade import Cascade
from runtime.engine import Engine, EngineSettings
from runtime.errors import EngineError
from runtime.facts import Facts
from runtime.heads.strip import GATE, SEGMENTER, answerer, settings_of, wanted
from runtime.loop import LoopSettings
from runtime.messages import ModelIdentity

if TYPE_CHECKING:
    from numpy.typing import NDArray

IN_FLIGHT = 3
"""Batches that the loop holds at a time, as in a station."""

WARM_BATCHES = 8
"""Batches at the start of a run that are not counted."""

DEPTHS = {"in turn": IN_TURN, **{f"{depth} in flight": depth for depth in range(1, IN_FLIGHT + 1)}}
"""Ways to drive the bare engines."""

CONFIDENCE = 0.95
"""Of the interval in which the median ratio lies."""

Step = Callable[[str], None]
Around = Callable[[], AbstractContextManager[Any]]


def measure_overhead(
    path: Path, plan: OverheadPlan, advance: Step = lambda _doing: None, around_null: Around = nullcontext
) -> OverheadReport:
    """Answer the questions of a plan.

    Args:
        path: The strip bundle.
        plan: What, and how long.
        advance: Told what begins, run by run.
        around_null: Entered around the loop of each run with the null engine, such as a profiler.

    Raises:
        BundleError: The bundle is refused, or is none of the strip task.
        CameraError, EngineError, JournalError: As the line itself.
    """
    machine = read_machine()
    bundle = open_bundle(path)
    bench = Bench(bundle, plan, frame_size(bundle.spec.graphs[SEGMENTER], None), advance)
    asked = plan.questions
    cascade = bench.cascade() if "cascade" in asked else None
    null_line = bench.null_line(around_null) if "null_line" in asked else None
    added = bench.added_latency() if "added_latency" in asked else None
    return OverheadReport(
        machine=machine,
        bundle=BundleName(name=bundle.spec.name, digest=bundle.digest),
        plan=plan,
        height_px=bench.size[0],
        width_px=bench.size[1],
        cascade=cascade,
        null_line=null_line,
        added_latency=added,
        load_average_after=round(os.getloadavg()[0], 2),
    )


def steps_of(plan: OverheadPlan) -> int:
    """How often `measure_overhead` calls `advance`."""
    steps = {"cascade": len(DEPTHS) + 2 * plan.turns + 1, "null_line": plan.null_runs, "added_latency": 1}
    return sum(steps[question] for question in plan.questions)


def profiled(path: Path) -> Around:
    """What profiles the loop and writes where its time went; for `around_null`, of which the last run is kept."""
    import cProfile
    import io
    import pstats

    @contextmanager
    def around() -> Iterator[None]:
        profile = cProfile.Profile()
        with profile:
            yield
        text = io.StringIO()
        pstats.Stats(profile, stream=text).sort_stats("tottime").print_stats(40)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.getvalue(), encoding="utf-8")

    return around


@dataclass(frozen=True, slots=True)
class Bench:
    """The questions, about one bundle.

    Attributes:
        bundle: The bundle, opened.
        plan: What is measured.
        size: Rows and columns of the frames.
        advance: Told what begins.
    """

    bundle: Bundle
    plan: OverheadPlan
    size: tuple[int, int]
    advance: Step

    def cascade(self) -> CascadeOverhead:
        """The whole line against its bare engines: one, the other, the one, and so on."""
        plan, head = self.plan, settings_of(self.bundle.spec)

        def passes(gate_probability: NDArray[np.float32]) -> NDArray[np.bool_]:
            return wanted(head, gate_probability)

        with ExitStack() as parts:
            gate, segmenter = (parts.enter_context(self._open(role)) for role in (GATE, SEGMENTER))
            cascade = Cascade(gate, segmenter, passes)
            work = prepare(gate, self._drawn(), plan.batch, passes)
            bare = BareEngines(gate, segmenter, work)
            trials: dict[str, float] = {}
            for name, depth in DEPTHS.items():
                self.advance(f"bare engines, {name}: trial")
                trials[name] = bare.fps_for(plan.turn_s, depth)
            best = max(trials, key=trials.__getitem__)
            rounds = bare.rounds_for(plan.turn_s, trials[best])
            frames = rounds * plan.drawn_frames
            self.advance(f"bare engines, {best}")
            bare_turns = [bare_fps(gate, segmenter, work, rounds, DEPTHS[best])]
            runs: list[LineRun] = []
            for turn in range(plan.turns):
                self.advance(f"whole line, turn {turn + 1}")
                runs.append(self._run(self._camera(frames=frames + self._warm), self._inspection(cascade)))
                self.advance(f"bare engines, {best}, turn {turn + 1}")
                bare_turns.append(bare_fps(gate, segmenter, work, rounds, DEPTHS[best]))
        line_turns = [run.fps(self._warm) for run in runs]
        ratios = [line / statistics.mean(around) for line, around in zip(line_turns, pairwise(bare_turns), strict=True)]
        ratio = statistics.median(ratios)
        passing = sum(0 if batch.passing is None else len(batch.passing) for batch in work)
        return CascadeOverhead(
            frames_a_run=frames,
            passing_ratio=round(passing / plan.drawn_frames, 4),
            bare_by_depth_fps={name: round(fps, 2) for name, fps in trials.items()},
            bare_depth=best,
            bare_fps=_rounded(bare_turns, 2),
            line_fps=_rounded(line_turns, 2),
            ratios=_rounded(ratios, 4),
            ratio=round(ratio, 4),
            ratio_interval=median_interval(ratios),
            target_ratio=LEAST_RATIO,
            met=ratio >= LEAST_RATIO,
            mean_batch=_mean_batch(runs),
            stages_p50_ms=_stages(runs[-1], self._warm),
        )

    def null_line(self, around: Around) -> NullLine:
        """Frames a second with engines that cost nothing."""
        plan = self.plan
        runs: list[LineRun] = []
        heard: list[int] = []
        for turn in range(plan.null_runs):
            self.advance(f"null engine, run {turn + 1}")
            listener = Listener()
            camera = self._camera(frames=plan.null_frames + self._warm)
            runs.append(self._run(camera, self._null(), listener=listener, around=around))
            heard.append(listener.heard)
        rates = [run.fps(self._warm) for run in runs]
        fps = statistics.median(rates)
        sent = sum(run.frames + 2 for run in runs)  # the run's start and end too
        return NullLine(
            frames_a_run=plan.null_frames,
            line_fps=_rounded(rates, 1),
            fps=round(fps, 1),
            target_fps=LEAST_NULL_FPS,
            met=fps >= LEAST_NULL_FPS,
            mean_batch=_mean_batch(runs),
            cpu_us_a_frame=round(min(run.cpu_ns / run.frames for run in runs) / 1e3, 2),
            heard_ratio=round(sum(heard) / sent, 4) if plan.subscribers else None,
        )

    def added_latency(self) -> AddedLatency:
        """From the end of exposure until the message has left, with engines that cost nothing."""
        plan = self.plan
        self.advance(f"null engine at {plan.rate_hz:g} frames a second")
        warm = round(plan.rate_hz * min(1.0, plan.paced_s))
        camera = self._camera(frames=warm + max(1, round(plan.rate_hz * plan.paced_s)), rate_hz=plan.rate_hz)
        run = self._run(camera, self._null(), policy=Policy.DROP_NEWEST, whole=False)
        spread = percentiles_ms(run.latency_ns[min(warm, run.frames - 1) :])
        return AddedLatency(
            rate_hz=plan.rate_hz,
            frames=run.frames - min(warm, run.frames - 1),
            frames_missed=run.ended.coverage.frames_missed,
            latency_ms=spread,
            stages_p50_ms=_stages(run, warm),
            target_ms=MOST_ADDED_MS,
            met=all(getattr(spread, name) <= most for name, most in MOST_ADDED_MS.items()),
            mean_batch=_mean_batch([run]),
        )

    @property
    def _warm(self) -> int:
        return WARM_BATCHES * self.plan.batch

    def _open(self, role: str) -> Engine:
        plan = self.plan
        settings = EngineSettings(
            max_batch=plan.batch,
            slots=IN_FLIGHT,
            height_px=self.size[0],
            width_px=self.size[1],
            threads=plan.threads,
        )
        return open_engine(
            plan.backend, self.bundle.model_file(role, plan.precision), self.bundle.spec.graphs[role], settings
        )

    def _camera(self, *, frames: int, rate_hz: float | None = None) -> SyntheticCameraSettings:
        """A camera that shows the same drawn frames to every question, at a pace or as fast as they are taken."""
        still = SyntheticCameraSettings(
            name="bench",
            seed=self.plan.seed,
            height_px=self.size[0],
            width_px=self.size[1],
            defects_per_frame=self.plan.defects_per_frame,
            frames=frames,
            cached_frames=self.plan.drawn_frames,
            buffer_frames=16,
            paced=False,
        )
        if rate_hz is None:
            return still
        return still.model_copy(update={"paced": True, "speed_mps": rate_hz * still.frame_m})

    def _drawn(self) -> NDArray[np.uint8]:
        """(drawn frames, 1, H, W) uint8, as the camera shows them."""
        strip = self._camera(frames=1).open_strip()
        return np.stack([strip.pixels(index) for index in range(self.plan.drawn_frames)])[:, np.newaxis]

    def _inspection(self, cascade: Cascade | NullPipeline, backend: str | None = None) -> Inspection:
        model = ModelIdentity(
            bundle=self.bundle.spec.name,
            digest=self.bundle.digest,
            backend=backend or self.plan.backend,
            precision="+".join(sorted({self.bundle.precision_of(r, self.plan.precision) for r in (GATE, SEGMENTER)})),
        )
        return Inspection(cascade, lambda: answerer(self.bundle.spec, {}, model, Facts(mm_per_px=0.5)), model)

    def _null(self) -> Inspection:
        return self._inspection(NullPipeline(), "null")

    def _run(
        self,
        camera: SyntheticCameraSettings,
        inspection: Inspection,
        *,
        policy: Policy = Policy.WAIT,
        listener: Listener | None = None,
        around: Around = nullcontext,
        whole: bool = True,
    ) -> LineRun:
        """One run of the line; `whole` says that every frame must have been inspected."""
        listener = listener or Listener()
        run = run_line(
            camera,
            inspection,
            LoopSettings(self.plan.batch),
            ring_slots=self.plan.ring_slots,
            policy=policy,
            listen=listener.around if self.plan.subscribers else None,
            around=around,
        )
        books = run.ended.coverage
        if whole and books.frames_inspected != camera.frames:
            raise EngineError(
                f"bench overhead: {books.frames_inspected} of {camera.frames} frames were inspected, expected all: the "
                "rest was published as missed. Run the bundle with 'ferrosight demo' to see why."
            )
        return run


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Where the median lies with 95 % confidence, by the sign test; None where there are too few values to say.

    >>> median_interval([0.9, 0.91, 0.92, 0.93, 0.94, 0.95])
    (0.9, 0.95)
    """
    interval = stats.quantile_test(values, p=0.5).confidence_interval(CONFIDENCE)
    if not np.isfinite(interval).all():
        return None
    return round(float(interval.low), 4), round(float(interval.high), 4)


def _mean_batch(runs: list[LineRun]) -> float:
    return round(sum(run.frames for run in runs) / sum(run.batches for run in runs), 3)


def _stages(run: LineRun, warm: int) -> dict[str, float]:
    """The median of each stage, without the first `warm` frames."""
    return {
        name: round(float(np.median(values[min(warm, len(values) - 1) :])), 4) for name, values in run.stages_ms.items()
    }


def _rounded(values: list[float], digits: int) -> tuple[float, ...]:
    return tuple(round(value, digits) for value in values)
