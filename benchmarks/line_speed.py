"""How fast a strip may run past the camera: frames come when the strip brings them, not when the line is ready.

A closed loop, in which the next frame waits until the last one is done, hides every delay: the frames that would have
come meanwhile are never asked for. Here the camera keeps its own time, the ring drops what it cannot take, and a
frame's clock starts at the end of its exposure. A speed holds when no frame was missed and the p99 is within the
deadline; the highest that holds is looked for between one that does and one that does not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import Field

from benchmarks.frames import frame_size
from benchmarks.line import Inspection, LineRun, run_line
from benchmarks.machine import Machine, read_machine
from benchmarks.report import BundleName, Percentiles, Report, markdown_table, percentiles_ms
from camera.config import SyntheticCameraSettings
from camera.ring_memory import Policy
from runtime.bundle import open_bundle
from runtime.camera_station import IN_FLIGHT
from runtime.engine import EngineSettings
from runtime.errors import ConfigError
from runtime.facts import Facts
from runtime.heads import head_of
from runtime.loop import LoopSettings
from runtime.spec import Precision

WARM_UP_RATIO = 0.2
"""Share of a run's frames, at its beginning, whose times are not counted; a frame missed there counts."""
LEAST_FRAMES = 20
DRAWN_FRAMES = 64
"""Drawn before the clock runs, and shown in a loop."""
CLOSE_RATIO = 1.05
"""Two speeds so near to each other are told apart by chance: the search ends."""


class LineSpeedPlan(Report):
    """What is asked."""

    backend: str = "openvino"
    precision: Precision | None = None
    threads: int | None = Field(default=None, ge=1)
    batch: int = Field(default=8, ge=1, description="most frames in a batch")
    mm_per_px: float = Field(default=0.5, gt=0)
    deadline_ms: float = Field(default=100.0, gt=0, description="the p99 from exposure to message stays under it")
    start_mps: float = Field(default=2.0, gt=0, description="the first speed that is tried")
    seconds: float = Field(default=4.0, gt=0, description="length of one run")
    most_s: float = Field(default=120.0, gt=0, description="seconds after which no run is begun")
    ring_slots: int = Field(default=64, ge=8)
    defects_per_frame: float = Field(default=0.05, ge=0, description="decides how many frames are segmented")
    seed: int = Field(default=0, ge=0)


class SpeedRow(Report):
    """One run at one speed."""

    speed_mps: float
    rate_hz: float = Field(description="frames a second that the strip brings")
    frames: int = Field(description="that the camera's counter saw")
    missed: int
    latency_ms: Percentiles | None = Field(description="exposure to message; None where nothing was inspected")
    holds: bool = Field(description="nothing missed, and the p99 within the deadline")


class LineSpeedReport(Report):
    """What `ferrosight bench line-speed` writes."""

    schema_version: Literal["ferrosight.bench_line_speed/1"] = Field(
        default="ferrosight.bench_line_speed/1", alias="schema"
    )
    machine: Machine
    bundle: BundleName
    plan: LineSpeedPlan
    height_px: int
    width_px: int
    highest_mps: float | None = Field(description="the highest speed that held; None where none did")
    rows: tuple[SpeedRow, ...] = Field(description="by speed")


def search(
    holds: Callable[[float], bool], start_mps: float, go_on: Callable[[], bool], close_ratio: float = CLOSE_RATIO
) -> float | None:
    """The highest speed that holds: doubled or halved from the start until it turns, then the middle, and so on.

    Args:
        holds: Tries a speed.
        start_mps: The first one.
        go_on: Asked before each further try.
        close_ratio: Ends the search once a speed that holds and one that does not are so near.

    Returns:
        The highest speed that was tried and held; None where none did.
    """
    low: float | None = None
    high: float | None = None
    speed = start_mps
    while True:
        if holds(speed):
            low = speed
        else:
            high = speed
        if low is not None and high is not None and high / low <= close_ratio:
            return low
        if not go_on():
            return low
        if low is not None and high is not None:
            speed = math.sqrt(low * high)
        else:
            speed = speed / 2 if low is None else speed * 2


def measure_line_speed(
    path: Path,
    plan: LineSpeedPlan,
    advance: Callable[[str], None] = lambda _: None,
    clock_s: Callable[[], float] = time.monotonic,
) -> LineSpeedReport:
    """Find the highest speed at which a strip bundle keeps up.

    Args:
        path: The bundle.
        plan: What, and how long.
        advance: Told of each run before it begins.
        clock_s: Decides when the search is out of time.

    Raises:
        BundleError: The bundle is refused.
        ConfigError: It is no strip bundle.
        EngineError, CameraError: The line cannot run.
    """
    machine, bundle = read_machine(), open_bundle(path)
    if bundle.spec.task != "strip":
        raise ConfigError(
            f"bench line-speed: found a bundle of the task {bundle.spec.task!r}, expected 'strip': no other one has a "
            "line that moves. Give a strip bundle."
        )
    height_px, width_px = frame_size(next(iter(bundle.spec.graphs.values())), None)
    settings = EngineSettings(plan.batch, IN_FLIGHT, height_px, width_px, plan.threads)
    head, model = head_of(bundle.spec.task), bundle.identity(plan.backend, plan.precision)
    rows: list[SpeedRow] = []
    end_s = clock_s() + plan.most_s
    with head.open_pipeline(bundle, plan.backend, settings, plan.precision) as pipeline:
        inspection = Inspection(
            pipeline, partial(head.answerer, bundle.spec, {}, model, Facts(mm_per_px=plan.mm_per_px)), model
        )

        def holds(speed_mps: float) -> bool:
            advance(f"{speed_mps:.1f} m/s")
            rows.append(_run(inspection, plan, speed_mps, (height_px, width_px)))
            return rows[-1].holds

        highest = search(holds, plan.start_mps, lambda: clock_s() + plan.seconds < end_s)
    return LineSpeedReport(
        machine=machine,
        bundle=BundleName(name=bundle.spec.name, digest=bundle.digest),
        plan=plan,
        height_px=height_px,
        width_px=width_px,
        highest_mps=None if highest is None else round(highest, 2),
        rows=tuple(sorted(rows, key=lambda row: row.speed_mps)),
    )


def _run(inspection: Inspection, plan: LineSpeedPlan, speed_mps: float, size_px: tuple[int, int]) -> SpeedRow:
    height_px, width_px = size_px
    rate_hz = speed_mps / (height_px * plan.mm_per_px / 1e3)
    frames = max(LEAST_FRAMES, round(rate_hz * plan.seconds))
    camera = SyntheticCameraSettings(
        name="line-speed",
        seed=plan.seed,
        speed_mps=speed_mps,
        mm_per_px=plan.mm_per_px,
        height_px=height_px,
        width_px=width_px,
        defects_per_frame=plan.defects_per_frame,
        frames=frames,
        cached_frames=min(frames, DRAWN_FRAMES),
        buffer_frames=16,
    )
    run = run_line(
        camera,
        inspection,
        LoopSettings(plan.batch),
        ring_slots=plan.ring_slots,
        policy=Policy.DROP_NEWEST,
    )
    return row_of(run, plan, speed_mps, rate_hz)


def row_of(run: LineRun, plan: LineSpeedPlan, speed_mps: float, rate_hz: float) -> SpeedRow:
    """What one run says of a speed."""
    coverage = run.ended.coverage
    counted = run.latency_ns[int(len(run.latency_ns) * WARM_UP_RATIO) :]
    latency = percentiles_ms(counted) if len(counted) else None
    missed = coverage.frames_missed
    return SpeedRow(
        speed_mps=round(speed_mps, 3),
        rate_hz=round(rate_hz, 2),
        frames=coverage.frames_inspected + missed,
        missed=missed,
        latency_ms=latency,
        holds=missed == 0 and coverage.complete and latency is not None and latency.p99 <= plan.deadline_ms,
    )


def line_speed_markdown(report: LineSpeedReport) -> str:
    """The report for people."""
    rows = [
        (
            f"{row.speed_mps:g}",
            f"{row.rate_hz:g}",
            str(row.frames),
            str(row.missed),
            *([f"{value:.2f}" for value in row.latency_ms.model_dump().values()] if row.latency_ms else ["-"] * 4),
            "yes" if row.holds else "no",
        )
        for row in report.rows
    ]
    heads = ("m/s", "frames/s", "frames", "missed", "p50 ms", "p95 ms", "p99 ms", "max ms", "holds")
    plan = report.plan
    found = "none that was tried" if report.highest_mps is None else f"{report.highest_mps:g} m/s"
    return (
        f"# Line speed of bundle `{report.bundle.name}` ({report.bundle.digest[:12]}) on {plan.backend}\n\n"
        f"{report.machine.heading}.\n\n"
        f"Highest speed at which no frame is missed and the p99 is within {plan.deadline_ms:g} ms: **{found}** "
        f"({plan.mm_per_px:g} mm/px, frames of {report.height_px}x{report.width_px}, batches up to {plan.batch}).\n\n"
        f"{markdown_table(heads, rows)}\n\n"
        "Open loop: the camera keeps the strip's time and the ring drops what the line cannot take. Times are from the "
        f"end of a frame's exposure until its message has left; the first fifth of each run of {plan.seconds:g} s is "
        "not timed, but what is missed there counts.\n"
    )
