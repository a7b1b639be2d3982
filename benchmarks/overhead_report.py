"""What `ferrosight bench overhead` is asked for and writes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from benchmarks.machine import Machine
from benchmarks.report import BundleName, Percentiles, Report, markdown_table
from runtime.spec import Precision

LEAST_RATIO = 0.95
"""Target: the line's frames a second against the bare engines'."""

LEAST_NULL_FPS = 8000.0
"""Target: frames a second from grabber process to journal and ZeroMQ, with a null engine, on 2 cores."""

MOST_ADDED_MS = {"p50": 0.3, "p99": 2.0}
"""Target: latency that the line adds at 1,250 frames a second."""

Question = Literal["cascade", "null_line", "added_latency"]
QUESTIONS: tuple[Question, ...] = ("cascade", "null_line", "added_latency")


class OverheadPlan(Report):
    """What is measured, and how long."""

    questions: tuple[Question, ...] = QUESTIONS
    backend: str = "openvino"
    precision: Precision | None = Field(default=None, description="unset: fp16 where the bundle has it")
    threads: int | None = Field(default=None, ge=1, description="CPU threads of an engine; unset: the backend's choice")
    batch: int = Field(default=8, ge=1, description="most frames in a batch")
    ring_slots: int = Field(default=64, ge=8, description="frames that the ring holds")
    drawn_frames: int = Field(default=64, ge=1, description="different frames, shown again and again")
    seed: int = Field(default=0, ge=0, description="which synthetic strip")
    defects_per_frame: float = Field(default=0.7, ge=0, description="decides which share of frames passes the gate")
    turns: int = Field(default=24, ge=1, description="turns of the line beside the bare engines; the median counts")
    turn_s: float = Field(default=3.0, gt=0, description="length of one turn, about")
    null_runs: int = Field(default=5, ge=1, description="runs of the line with the null engine; the median counts")
    null_frames: int = Field(default=40_000, ge=1, description="frames of one run with the null engine")
    rate_hz: float = Field(default=1250.0, gt=0, description="frames a second for the added latency")
    paced_s: float = Field(default=10.0, gt=0, description="length of the run for the added latency, about")
    subscribers: Literal[0, 1] = Field(default=1, description="processes that subscribe to the line")


class CascadeOverhead(Report):
    """The whole line against its bare engines."""

    frames_a_run: int
    passing_ratio: float = Field(description="share of frames that the segmenter sees")
    bare_by_depth_fps: dict[str, float] = Field(description="short trial of each way to drive the bare engines")
    bare_depth: str = Field(description="the fastest of these, taken for all turns")
    bare_fps: tuple[float, ...] = Field(description="one more than the line has, around each turn of the line")
    line_fps: tuple[float, ...]
    ratios: tuple[float, ...] = Field(description="each turn of the line against the mean of the bare ones around it")
    ratio: float = Field(description="median")
    ratio_interval: tuple[float, float] | None = Field(
        description="95 % confidence interval of the median, by the sign test; null with fewer than 6 turns"
    )
    target_ratio: float
    met: bool
    mean_batch: float = Field(description="frames in the line's batches")
    stages_p50_ms: dict[str, float] = Field(description="latency by stage, as the messages say, of the last run")


class NullLine(Report):
    """The line with engines that cost nothing."""

    frames_a_run: int
    line_fps: tuple[float, ...]
    fps: float = Field(description="median")
    target_fps: float
    met: bool
    mean_batch: float
    cpu_us_a_frame: float = Field(description="CPU time of the line's process, camera and subscriber apart; least run")
    heard_ratio: float | None = Field(description="share of messages that the subscriber received live; null without")


class AddedLatency(Report):
    """What the line adds to the inference."""

    rate_hz: float
    frames: int = Field(description="frames that count, after the warm-up")
    frames_missed: int
    latency_ms: Percentiles = Field(description="end of exposure until the message has left")
    stages_p50_ms: dict[str, float] = Field(description="by stage, as the messages say: up to the verdict")
    target_ms: dict[str, float]
    met: bool
    mean_batch: float


class OverheadReport(Report):
    """What `ferrosight bench overhead` writes."""

    schema_version: Literal["ferrosight.bench_overhead/2"] = Field(
        default="ferrosight.bench_overhead/2", alias="schema"
    )
    machine: Machine
    bundle: BundleName
    plan: OverheadPlan
    height_px: int
    width_px: int
    cascade: CascadeOverhead | None
    null_line: NullLine | None
    added_latency: AddedLatency | None
    load_average_after: float = Field(description="over one minute, at the end; the benchmark's own work is in it")


def overhead_markdown(report: OverheadReport) -> str:
    """The report for people."""
    rows: list[tuple[str, str, str, str]] = []
    if (c := report.cascade) is not None:
        rows.append(
            (
                f"whole line against bare engines ({report.plan.backend}, batch {report.plan.batch})",
                f"{c.ratio:.3f} ({_interval(c)}{len(c.ratios)} turns, {min(c.ratios):.3f} to {max(c.ratios):.3f})",
                f"at least {c.target_ratio:g}",
                _verdict(c.met),
            )
        )
    if (n := report.null_line) is not None:
        rows.append(
            (
                "null engine, frames/s",
                f"{n.fps:,.0f} ({min(n.line_fps):,.0f} to {max(n.line_fps):,.0f} in {len(n.line_fps)} runs)",
                f"at least {n.target_fps:,.0f}",
                _verdict(n.met),
            )
        )
    if (a := report.added_latency) is not None:
        spread = a.latency_ms
        rows.append(
            (
                f"added latency at {a.rate_hz:,.0f} frames/s, ms",
                f"p50 {spread.p50:.3f}, p95 {spread.p95:.3f}, p99 {spread.p99:.3f}, max {spread.max:.3f}",
                ", ".join(f"{name} at most {most:g}" for name, most in a.target_ms.items()),
                _verdict(a.met),
            )
        )
    parts = [
        f"# Overhead of the line around bundle `{report.bundle.name}` ({report.bundle.digest[:12]})",
        (
            f"{report.machine.heading}, at the end {report.load_average_after:.2f}. Frames of {report.height_px}x"
            f"{report.width_px}, {_subscribers(report.plan)}."
        ),
        markdown_table(("question", "measured", "target", ""), rows),
        *_details(report),
    ]
    return "\n\n".join(parts) + "\n"


def _details(report: OverheadReport) -> list[str]:
    text: list[str] = []
    if (c := report.cascade) is not None:
        trial = ", ".join(f"{name} {fps:.1f}" for name, fps in c.bare_by_depth_fps.items())
        text.append(
            f"Bare engines, frames/s: {_list(c.bare_fps)} ({c.bare_depth}; trial: {trial}). Line, frames/s, each "
            f"between two of these: {_list(c.line_fps)}. {c.passing_ratio:.1%} of frames pass the gate; "
            f"{c.frames_a_run} frames a run; the line's batches hold {c.mean_batch:.2f} frames. "
            f"Latency by stage, p50 ms: {_stages(c.stages_p50_ms)}."
        )
    if (n := report.null_line) is not None:
        heard = "" if n.heard_ratio is None else f"; the subscriber received {n.heard_ratio:.1%} of the messages live"
        text.append(
            f"Null engine: {n.frames_a_run} frames a run in batches of {n.mean_batch:.2f}; the line's process alone "
            f"used {n.cpu_us_a_frame:.1f} us of CPU a frame{heard}."
        )
    if (a := report.added_latency) is not None:
        text.append(
            f"Added latency: {a.frames} frames counted, {a.frames_missed} missed, batches of {a.mean_batch:.2f}; up to "
            f"the verdict, p50 ms: {_stages(a.stages_p50_ms)}; the rest is journal and send."
        )
    return text


def _interval(cascade: CascadeOverhead) -> str:
    if cascade.ratio_interval is None:
        return ""
    least, most = cascade.ratio_interval
    return f"95 % interval {least:.3f} to {most:.3f}; "


def _verdict(met: bool) -> str:
    return "met" if met else "missed"


def _subscribers(plan: OverheadPlan) -> str:
    return "one subscriber in a process of its own" if plan.subscribers else "nobody subscribes"


def _list(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.1f}" for value in values)


def _stages(stages_ms: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in stages_ms.items())
