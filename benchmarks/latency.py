"""Latency of each graph of a bundle, by backend and batch, through the protocol that the line itself uses.

A cell is one engine, opened for that batch. Two things are measured, one after the other: the time from
`submit` to the end of `collect` with nothing else in flight, and the frames a second with all slots taken.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from benchmarks.frames import frame_size, steel_frames
from benchmarks.machine import Machine, read_machine
from benchmarks.report import BundleName, Percentiles, Report, markdown_table, percentiles_ms
from runtime.backends import open_engine
from runtime.bundle import Bundle, open_bundle
from runtime.engine import Engine, EngineSettings, Ticket
from runtime.errors import ConfigError
from runtime.spec import Precision

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_RUNS = 5
"""Runs of a cell that no time limit cuts off."""


class LatencyPlan(Report):
    """What is measured, and how long."""

    backends: tuple[str, ...] = Field(default=("openvino",), min_length=1)
    batches: tuple[int, ...] = Field(default=(1, 2, 4, 8), min_length=1)
    graphs: tuple[str, ...] | None = Field(default=None, description="roles; unset: every graph of the bundle")
    precision: Precision | None = Field(default=None, description="unset: fp16 where the bundle has it")
    runs: int = Field(default=100, ge=1, description="batches timed in a cell, each way")
    warm_up: int = Field(default=5, ge=0, description="batches before, not timed")
    most_s: float = Field(
        default=30.0, gt=0, description=f"seconds after which a cell ends, not before {LEAST_RUNS} runs"
    )
    slots: int = Field(default=2, ge=1, description="batches in flight for the throughput")
    threads: int | None = Field(default=None, ge=1, description="CPU threads; unset: the backend's choice")
    size_px: tuple[int, int] | None = Field(
        default=None, description="rows and columns, for graphs that leave them open"
    )
    seed: int = Field(default=0, ge=0, description="synthetic strip that the frames show")


class LatencyRow(Report):
    """One cell: a graph, a backend, a batch."""

    graph: str
    architecture: str
    variant: str
    parameters: int
    backend: str
    precision: str
    height_px: int
    width_px: int
    batch: int
    runs: int = Field(description="batches timed with nothing else in flight")
    batch_ms: Percentiles = Field(description="submit to the end of collect, one batch at a time")
    frame_ms: Percentiles = Field(description="batch_ms divided by the batch")
    throughput_fps: float = Field(description="frames a second with all slots in flight")


class LatencyReport(Report):
    """What `ferrosight bench latency` writes."""

    schema_version: Literal["ferrosight.bench_latency/1"] = Field(default="ferrosight.bench_latency/1", alias="schema")
    machine: Machine
    bundle: BundleName
    plan: LatencyPlan
    rows: tuple[LatencyRow, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """One row to come."""

    graph: str
    backend: str
    batch: int

    def __str__(self) -> str:
        return f"{self.graph}, {self.backend}, batch {self.batch}"


def cells_of(bundle: Bundle, plan: LatencyPlan) -> tuple[Cell, ...]:
    """Every cell of a plan.

    Raises:
        ConfigError: The bundle has no such graph.
    """
    known = bundle.spec.graphs
    for role in plan.graphs or ():
        if role not in known:
            raise ConfigError(
                f"bench latency: found no graph {role!r} in {bundle.path}, expected one of {sorted(known)}. "
                "Give one of these with --graph."
            )
    return tuple(
        Cell(role, backend, batch)
        for role in plan.graphs or tuple(known)
        for backend in plan.backends
        for batch in plan.batches
    )


def measure_latency(
    path: Path,
    plan: LatencyPlan,
    advance: Callable[[Cell], None] = lambda _cell: None,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> LatencyReport:
    """Measure every cell of a plan.

    Args:
        path: The bundle.
        plan: What, and how long.
        advance: Told of each cell before it is measured.
        clock_ns: A clock in nanoseconds.

    Raises:
        BundleError: The bundle is refused.
        ConfigError: A graph or a size does not fit the bundle.
        EngineError: A backend is absent, or failed.
    """
    machine = read_machine()
    bundle = open_bundle(path)
    rows: list[LatencyRow] = []
    for cell in cells_of(bundle, plan):
        advance(cell)
        rows.append(_measure_cell(bundle, cell, plan, clock_ns))
    return LatencyReport(
        machine=machine,
        bundle=BundleName(name=bundle.spec.name, digest=bundle.digest),
        plan=plan,
        rows=tuple(rows),
    )


def _measure_cell(bundle: Bundle, cell: Cell, plan: LatencyPlan, clock_ns: Callable[[], int]) -> LatencyRow:
    graph = bundle.spec.graphs[cell.graph]
    try:
        height, width = frame_size(graph, plan.size_px)
    except ValueError as error:
        raise ConfigError(f"bench latency, {cell}: {error}. Leave --size away.") from error
    settings = EngineSettings(
        max_batch=cell.batch, slots=plan.slots, height_px=height, width_px=width, threads=plan.threads
    )
    frames = steel_frames(cell.batch, (height, width), plan.seed)
    model = bundle.model_file(cell.graph, plan.precision)
    with open_engine(cell.backend, model, graph, settings) as engine:
        for _ in range(plan.warm_up):
            run_once(engine, frames)
        times_ns = np.fromiter(_alone(engine, frames, plan, clock_ns), np.int64)
        throughput = _in_flight_fps(engine, frames, len(times_ns), clock_ns)
        return LatencyRow(
            graph=cell.graph,
            architecture=graph.architecture,
            variant=graph.variant,
            parameters=graph.parameters,
            backend=engine.backend,
            precision=engine.precision,
            height_px=height,
            width_px=width,
            batch=cell.batch,
            runs=len(times_ns),
            batch_ms=percentiles_ms(times_ns),
            frame_ms=percentiles_ms(times_ns / cell.batch),
            throughput_fps=round(throughput, 2),
        )


def run_once(engine: Engine, frames: NDArray[np.uint8]) -> None:
    """One batch through the engine, start to end."""
    ticket = engine.submit(frames)
    engine.collect(ticket)
    engine.release(ticket)


def _alone(engine: Engine, frames: NDArray[np.uint8], plan: LatencyPlan, clock_ns: Callable[[], int]) -> Iterator[int]:
    """The time of each batch in nanoseconds, with nothing else in flight."""
    end_ns = clock_ns() + plan.most_s * 1e9
    for run in range(plan.runs):
        before_ns = clock_ns()
        if run >= LEAST_RUNS and before_ns > end_ns:
            return
        ticket = engine.submit(frames)
        engine.collect(ticket)
        yield clock_ns() - before_ns
        engine.release(ticket)


def _in_flight_fps(engine: Engine, frames: NDArray[np.uint8], runs: int, clock_ns: Callable[[], int]) -> float:
    """Frames a second while every slot has a batch, from the first submit to the last collect."""
    flying: deque[Ticket] = deque()
    before_ns = clock_ns()
    for left in range(runs + engine.settings.slots, 0, -1):
        # The last turns submit nothing more and only empty the slots.
        if len(flying) == engine.settings.slots or (flying and left <= engine.settings.slots):
            ticket = flying.popleft()
            engine.collect(ticket)
            engine.release(ticket)
        if left > engine.settings.slots:
            flying.append(engine.submit(frames))
    return runs * len(frames) / ((clock_ns() - before_ns) / 1e9)


def latency_markdown(report: LatencyReport) -> str:
    """The report for people."""
    heads = ("graph", "backend", "batch", *(f"{name} ms" for name in Percentiles.model_fields))
    heads = (*heads, "ms a frame", "frames/s", "runs")
    rows = [
        (
            f"{row.graph}: {row.architecture} ({row.precision}, {row.height_px}x{row.width_px})",
            row.backend,
            str(row.batch),
            *(f"{ms:.2f}" for ms in row.batch_ms.model_dump().values()),
            f"{row.frame_ms.p50:.2f}",
            f"{row.throughput_fps:.1f}",
            str(row.runs),
        )
        for row in report.rows
    ]
    return (
        f"# Latency of bundle `{report.bundle.name}` ({report.bundle.digest[:12]})\n\n"
        f"{report.machine.heading}.\n\n{markdown_table(heads, rows)}\n\n"
        "Times are of a whole batch, from `submit` to the end of `collect`, nothing else in flight; "
        "`ms a frame` is the p50 divided by the batch; frames/s is with "
        f"{report.plan.slots} batches in flight. Below 100 runs the p99 is the largest time seen.\n"
    )
