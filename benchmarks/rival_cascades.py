"""Two bundles of the strip through the line's own cascade, in turns: which is faster, and does it decide alike?

One process, one run, the same frames: A, B, A, B, A. Each turn of B is held against the two of A around it, so that a
machine that slows down slows both. The frames are so chosen that a stated share of them has a planted defect; which of
them pass is the gates' own affair.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from benchmarks.frames import frame_size
from benchmarks.machine import Machine, read_machine
from benchmarks.report import BundleName, Report, markdown_table
from camera.steel.strip import SyntheticStrip
from runtime.bundle import Bundle, open_bundle
from runtime.cascade import Cascade
from runtime.engine import EngineSettings
from runtime.errors import ConfigError
from runtime.heads.strip import GATE, SEGMENTER, open_pipeline

if TYPE_CHECKING:
    from numpy.typing import NDArray

TARGET_GAIN = 1.5
"""How many times as fast as the default an INT8 cascade ought to be, of frames of which 5 % are defective."""
_SEARCHED = 50
"""So many times as many frames as are wanted are looked through for enough of each kind."""


class RivalPlan(Report):
    """What is measured, and how long."""

    backend: str = "openvino"
    threads: tuple[int, ...] = Field(default=(1, 2), min_length=1, description="CPU threads of an engine")
    batches: tuple[int, ...] = Field(default=(1, 8), min_length=1, description="frames in a batch")
    frames: int = Field(default=40, ge=1, description="different frames, shown in every turn")
    defective_percent: float = Field(default=5.0, ge=0, le=100, description="share of them with a planted defect")
    seed: int = Field(default=0, ge=0, description="which synthetic strip")
    rounds: int = Field(default=5, ge=1, description="turns of the second bundle; the first has one more")


class RivalCell(Report):
    """One number of threads and one batch."""

    threads: int
    batch: int
    first_fps: tuple[float, ...]
    second_fps: tuple[float, ...]
    gain: float = Field(description="median of the second's frames/s against the mean of the first's around it")
    first_passing: int = Field(description="frames that the first bundle's gate let through")
    second_passing: int
    decided_otherwise: int = Field(description="frames that one gate let through and the other did not")


class RivalReport(Report):
    """What `ferrosight bench cascade` writes."""

    schema_version: Literal["ferrosight.bench_cascade/1"] = Field(default="ferrosight.bench_cascade/1", alias="schema")
    machine: Machine
    first: BundleName
    second: BundleName
    precisions: tuple[str, str]
    plan: RivalPlan
    height_px: int
    width_px: int
    cells: tuple[RivalCell, ...]
    target_gain: float = TARGET_GAIN


def measure_rivals(
    first: Path,
    second: Path,
    plan: RivalPlan,
    advance: Callable[[str], None] = lambda _doing: None,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> RivalReport:
    """Measure two strip bundles against each other.

    Args:
        first: The one that is there.
        second: The one that may take its place.
        plan: What, and how long.
        advance: Told what begins, cell by cell.
        clock_ns: Tells the time.

    Raises:
        BundleError: A bundle is refused, or is none of the strip task.
        ConfigError: The bundles want frames of different sizes, or the strip has not enough frames of a kind.
        EngineError: A graph cannot be run.
    """
    machine = read_machine()
    bundles = [open_bundle(path) for path in (first, second)]
    sizes = [frame_size(bundle.spec.graphs[SEGMENTER], None) for bundle in bundles]
    if sizes[0] != sizes[1]:
        raise ConfigError(f"bench cascade: found bundles for frames of {sizes[0]} and {sizes[1]}, expected one size.")
    frames = chosen_frames(plan, sizes[0])
    cells: list[RivalCell] = []
    for threads in plan.threads:
        for batch in plan.batches:
            advance(f"{threads} threads, batch {batch}")
            cells.append(_cell(bundles, plan, frames, threads, batch, clock_ns))
    names = [BundleName(name=bundle.spec.name, digest=bundle.digest) for bundle in bundles]
    return RivalReport(
        machine=machine,
        first=names[0],
        second=names[1],
        precisions=(_precision(bundles[0]), _precision(bundles[1])),
        plan=plan,
        height_px=sizes[0][0],
        width_px=sizes[0][1],
        cells=tuple(cells),
    )


def chosen_frames(plan: RivalPlan, size_px: tuple[int, int]) -> NDArray[np.uint8]:
    """(n, 1, H, W) uint8: as many defective ones as the plan says, evenly among clean ones.

    Raises:
        ConfigError: The strip has not enough of a kind.
    """
    strip = SyntheticStrip(plan.seed, height_px=size_px[0], width_px=size_px[1])
    wanted = {True: round(plan.frames * plan.defective_percent / 100.0)}
    wanted[False] = plan.frames - wanted[True]
    found: dict[bool, list[int]] = {True: [], False: []}
    for index in range(plan.frames * _SEARCHED):
        kind = bool(strip.planted(index, index + 1))
        if len(found[kind]) < wanted[kind]:
            found[kind].append(index)
        if all(len(found[each]) == count for each, count in wanted.items()):
            break
    else:
        raise ConfigError(
            f"bench cascade: found {len(found[True])} defective and {len(found[False])} clean frames on strip "
            f"{plan.seed}, expected {wanted[True]} and {wanted[False]}. Give another seed or share."
        )
    order = found[False]
    for number, index in enumerate(found[True]):
        order.insert(round((number + 0.5) * plan.frames / wanted[True]), index)
    return np.stack([strip.pixels(index)[None] for index in order])


def _cell(
    bundles: Sequence[Bundle],
    plan: RivalPlan,
    frames: NDArray[np.uint8],
    threads: int,
    batch: int,
    clock_ns: Callable[[], int],
) -> RivalCell:
    height_px, width_px = frames.shape[2:]
    settings = EngineSettings(max_batch=batch, slots=1, height_px=height_px, width_px=width_px, threads=threads)
    with ExitStack() as parts:
        old, new = (parts.enter_context(open_pipeline(bundle, plan.backend, settings)) for bundle in bundles)
        passing = [_inspect(cascade, frames, batch) for cascade in (old, new)]  # warms up, too

        def fps(cascade: Cascade) -> float:
            before_ns = clock_ns()
            _inspect(cascade, frames, batch)
            return len(frames) / (max(clock_ns() - before_ns, 1) / 1e9)

        first, second = [fps(old)], []
        for _ in range(plan.rounds):
            second.append(fps(new))
            first.append(fps(old))
    gains = [new / statistics.mean(around) for new, around in zip(second, pairwise(first), strict=True)]
    return RivalCell(
        threads=threads,
        batch=batch,
        first_fps=tuple(round(value, 2) for value in first),
        second_fps=tuple(round(value, 2) for value in second),
        gain=round(statistics.median(gains), 4),
        first_passing=int(passing[0].sum()),
        second_passing=int(passing[1].sum()),
        decided_otherwise=int((passing[0] != passing[1]).sum()),
    )


def _inspect(cascade: Cascade, frames: NDArray[np.uint8], batch: int) -> NDArray[np.bool_]:
    """All frames through the cascade, batch after batch; (n,) which of them were segmented."""
    seen: list[bool] = []
    for first in range(0, len(frames), batch):
        pending = cascade.start(frames[first : first + batch])
        cascade.advance(pending)
        seen += [output.class_probability is not None for output in cascade.finish(pending)]
        cascade.release(pending)
    return np.array(seen)


def _precision(bundle: Bundle) -> str:
    return "+".join(sorted({bundle.precision_of(role) for role in (GATE, SEGMENTER)}))


def rivals_markdown(report: RivalReport) -> str:
    """The report for people."""
    rows = [
        (
            str(cell.threads),
            str(cell.batch),
            f"{statistics.median(cell.first_fps):.1f}",
            f"{statistics.median(cell.second_fps):.1f}",
            f"{cell.gain:.2f}",
            f"{cell.first_passing}, {cell.second_passing}",
            str(cell.decided_otherwise),
        )
        for cell in report.cells
    ]
    names = [
        f"`{bundle.name}` ({precision}, {bundle.digest[:12]})"
        for bundle, precision in zip((report.first, report.second), report.precisions, strict=True)
    ]
    parts = [
        f"# Cascade of {names[0]} and {names[1]}",
        (
            f"{report.machine.heading}. {report.plan.backend}, {report.plan.frames} frames of {report.height_px}x"
            f"{report.width_px}, {report.plan.defective_percent:g} % of them defective; median of {report.plan.rounds} "
            f"turns of the second between those of the first. Aim: {report.target_gain:g} times as fast."
        ),
        markdown_table(
            ("threads", "batch", "A, frames/s", "B, frames/s", "B against A", "passed", "decided otherwise"), rows
        ),
    ]
    return "\n\n".join(parts) + "\n"
