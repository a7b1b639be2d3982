"""Latency of networks, by backend, precision and batch, through the protocol that the line itself uses.

A cell is one engine, opened for that batch. The time from `submit` to the end of `collect` is taken with nothing else
in flight, in turns with whatever else does the same work; then the frames a second with all slots taken.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.device import read_device
from benchmarks.frames import network_frames
from benchmarks.latency.bare import BARE
from benchmarks.latency.heads import head_answer
from benchmarks.latency.idle import after_idle, run_once
from benchmarks.latency.networks import Network, absent, bundle_networks
from benchmarks.latency.probe import OpenProbed, Probed, open_probed
from benchmarks.latency.report import AfterIdle, Beside, LatencyPlan, LatencyReport, LatencyRow, Rival, StageTimes
from benchmarks.latency.torch_rivals import TorchDevice, TorchRival, torch_rivals, torch_threads, why_not
from benchmarks.latency.turns import Clock, Contender, TimedCall, TimedEngine, take_turns
from benchmarks.machine import read_machine
from benchmarks.report import BundleName, percentiles_ms, tail_percentiles_ms
from runtime.backends import BACKENDS, entry_of
from runtime.bundle import open_bundle
from runtime.engine import EngineSettings
from runtime.errors import EngineError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runtime.engine import Engine, Ticket
    from runtime.spec import Precision

POST_MOST_S, POST_MOST_BATCHES = 1.0, 20
"""After so many seconds or batches the head has been timed enough."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One row to come."""

    network: Network
    backend: str
    precision: Precision
    batch: int

    def __str__(self) -> str:
        return f"{self.network}, {self.backend} {self.precision}, batch {self.batch}"


def cells_of(networks: Sequence[Network], plan: LatencyPlan) -> tuple[Cell, ...]:
    """Every cell of a plan; those of one network and batch stand together."""
    return tuple(
        Cell(network, backend, precision, batch)
        for network in networks
        for batch in plan.batches
        for backend in plan.backends
        for precision in network.precisions
    )


def measure_latency(
    path: Path,
    plan: LatencyPlan,
    advance: Callable[[Cell], None] = lambda _cell: None,
    clock_ns: Clock = time.perf_counter_ns,
) -> LatencyReport:
    """Measure the graphs of a bundle.

    Args:
        path: The bundle.
        plan: What, and how long.
        advance: Told of each cell before it is measured.
        clock_ns: A clock in nanoseconds.

    Raises:
        BundleError: The bundle is refused, or has no graph in a precision that was asked for.
        ConfigError: A graph or a size does not fit the bundle.
        EngineError: A backend is absent, or failed.
    """
    bundle = open_bundle(path)
    networks = bundle_networks(bundle, plan.graphs, plan.size_px, plan.precision)
    left_out = absent(bundle, plan.graphs or tuple(bundle.spec.graphs), plan.precision)
    subject = f"bundle `{bundle.spec.name}` ({bundle.digest[:12]})"
    return Session(plan, advance, clock_ns).measure(networks, subject, tuple(left_out))


@dataclass(slots=True)
class Session:
    """One run of measurements.

    Attributes:
        plan: What, and how long.
        advance: Told of each cell before it is measured.
        clock_ns: A clock in nanoseconds.
        sleep: Waits so many seconds.
        keep_going: Whether a cell that fails is noted and left out; otherwise its error ends the run.
        open_engine: Opens an engine so that it can be looked into.
    """

    plan: LatencyPlan
    advance: Callable[[Cell], None] = lambda _cell: None
    clock_ns: Clock = time.perf_counter_ns
    sleep: Callable[[float], None] = time.sleep
    keep_going: bool = False
    open_engine: OpenProbed = open_probed
    _left_out: list[str] = field(default_factory=list)
    _idled: set[tuple[str, str]] = field(default_factory=set)
    _compile_ns: int = 0

    def measure(self, networks: Sequence[Network], subject: str, left_out: Sequence[str] = ()) -> LatencyReport:
        """Measure every cell of some networks.

        Args:
            networks: What is measured.
            subject: What the report calls them together.
            left_out: What is known already not to be measured, and why.

        Raises:
            EngineError: A backend is absent or failed, and the session does not keep going.
        """
        plan = self.plan
        self._left_out = list(left_out)
        machine, before = read_machine(), read_device()
        for backend in plan.backends:
            entry_of(backend)
        end_ns = None if plan.most_total_s is None else self.clock_ns() + int(plan.most_total_s * 1e9)
        rows: list[LatencyRow] = []
        group: tuple[Network, int] | None = None
        frames = np.empty(0, np.uint8)
        rivals: dict[TorchDevice, list[Contender]] = {}
        for cell in cells_of(networks, plan):
            self.advance(cell)
            if end_ns is not None and self.clock_ns() > end_ns:
                self._left_out.append(f"{cell}: the time was up")
                continue
            if group != (cell.network, cell.batch):
                # Torch's ways are as good for every backend of the same device: made once for all of them.
                group, rivals = (cell.network, cell.batch), {}
                frames = network_frames(cell.network.task, cell.batch, cell.network.size_px, plan.seed)
            try:
                device: TorchDevice = "cuda" if BACKENDS[cell.backend].on_gpu else "cpu"
                if device not in rivals:
                    rivals[device] = self._torch(cell.network, frames, device)
                rows.append(self._cell(cell, frames, rivals[device]))
            except EngineError as error:
                if not self.keep_going:
                    raise
                self._left_out.append(f"{cell}: {error}")
        bundles = {network.bundle.digest: network.bundle.spec.name for network in networks}
        return LatencyReport(
            subject=subject,
            machine=machine,
            before=before,
            after=read_device(),
            bundles=tuple(BundleName(name=name, digest=digest) for digest, name in bundles.items()),
            plan=plan,
            rows=tuple(rows),
            left_out=tuple(dict.fromkeys(self._left_out)),
        )

    def _torch(self, network: Network, frames: NDArray[np.uint8], device: TorchDevice) -> list[Contender]:
        """Torch's ways that were asked for and that work; the others are noted."""
        asked: list[Beside] = [each for each in self.plan.beside if each != "bare"]
        if not asked:
            return []
        if why_not() is None:
            torch_threads(self.plan.threads)
        found: list[Contender] = []
        ways = torch_rivals(network, frames, device, asked, self._may_compile)
        while True:
            before_ns = self.clock_ns()
            way = next(ways, None)
            if way is None:
                return found
            if isinstance(way, TorchRival):
                if "compiled" in way.name:
                    self._compile_ns += self.clock_ns() - before_ns
                found.append(TimedCall(way.name, way.run, self.clock_ns))
            else:
                self._left_out.append(way)

    def _may_compile(self) -> bool:
        return self._compile_ns < self.plan.compile_most_s * 1e9

    def _cell(self, cell: Cell, frames: NDArray[np.uint8], rivals: Sequence[Contender]) -> LatencyRow:
        plan, network = self.plan, cell.network
        height_px, width_px = network.size_px
        settings = EngineSettings(
            max_batch=cell.batch, slots=plan.slots, height_px=height_px, width_px=width_px, threads=plan.threads
        )
        model = network.bundle.model_file(network.role, cell.precision)
        with contextlib.ExitStack() as stack:
            probed = stack.enter_context(self.open_engine(cell.backend, model, network.graph, settings))
            ours = TimedEngine(probed.engine, frames, probed.device_stages, self.clock_ns)
            probed.engine.register(frames)
            for _ in range(plan.warm_up):
                run_once(probed.engine, frames)
            memory_mib = probed.memory_mib()
            contenders: list[Contender] = [ours, *rivals]
            if "bare" in plan.beside:
                run = stack.enter_context(BARE[cell.backend](model, network.graph, settings, frames))
                contenders.append(TimedCall(f"{cell.backend}, bare", run, self.clock_ns))
            for contender in contenders[1:] if plan.warm_up else ():
                contender.time_ns()
            times = take_turns(contenders, plan.runs, plan.most_s, self.clock_ns)
            own = times[0]
            return LatencyRow(
                task=network.task,
                graph=network.role,
                architecture=network.graph.architecture,
                variant=network.graph.variant,
                trained=network.trained,
                parameters=network.graph.parameters,
                backend=probed.engine.backend,
                precision=probed.engine.precision,
                arithmetic=_arithmetic(cell),
                height_px=height_px,
                width_px=width_px,
                batch=cell.batch,
                runs=len(own),
                batch_ms=tail_percentiles_ms(own),
                frame_ms=percentiles_ms(own / cell.batch),
                throughput_fps=round(_in_flight_fps(probed.engine, frames, max(len(own) // 2, 1), self.clock_ns), 2),
                stages_ms=self._stages(cell, ours),
                memory_mib=None if memory_mib is None else round(memory_mib, 1),
                after_idle=self._after_idle(cell, probed, frames),
                rivals=tuple(
                    _rival(contender.name, found, own)
                    for contender, found in zip(contenders[1:], times[1:], strict=True)
                ),
                published=network.published,
            )

    def _stages(self, cell: Cell, ours: TimedEngine) -> StageTimes:
        """Medians; what the device tells stands for what the host can only wait for."""
        device = ours.on_device
        return StageTimes(
            submit=_median_ms(ours.submit_ns),
            upload=round(float(np.median([each.upload_ms for each in device])), 4) if device else None,
            compute=round(float(np.median([each.compute_ms for each in device])), 4)
            if device
            else _median_ms(ours.wait_ns),
            download=round(float(np.median([each.download_ms for each in device])), 4) if device else None,
            post=self._post(cell, ours.engine, ours.frames),
        )

    def _post(self, cell: Cell, engine: Engine, frames: NDArray[np.uint8]) -> float | None:
        """The median of the head over a batch's outputs."""
        if not cell.network.trained:  # what a head has to do depends on what a network finds
            return None
        answer = head_answer(cell.network.bundle, cell.network.role, cell.backend)
        if answer is None:
            return None
        ticket = engine.submit(frames)
        outputs = engine.collect(ticket)
        answer(frames, outputs)  # the first one loads what the head works with
        times: list[int] = []
        end_ns = self.clock_ns() + POST_MOST_S * 1e9
        while len(times) < POST_MOST_BATCHES and (not times or self.clock_ns() < end_ns):
            before_ns = self.clock_ns()
            answer(frames, outputs)
            times.append(self.clock_ns() - before_ns)
        engine.release(ticket)
        return _median_ms(times)

    def _after_idle(self, cell: Cell, probed: Probed, frames: NDArray[np.uint8]) -> AfterIdle | None:
        """Once for each backend and task, since it takes its time and tells of the device, not of the network."""
        once = (cell.backend, cell.network.task)
        if self.plan.idle_s is None or once in self._idled:
            return None
        self._idled.add(once)
        return after_idle(probed.engine, frames, self.plan.idle_s, clock_ns=self.clock_ns, sleep=self.sleep)


def _arithmetic(cell: Cell) -> str:
    if BACKENDS[cell.backend].on_gpu or cell.precision == "fp32":
        return cell.precision
    return "fp32" if cell.network.graph.arithmetic == "fp32" else "backend's choice"


def _rival(name: str, found: NDArray[np.int64], own: NDArray[np.int64]) -> Rival:
    p50_ms = percentiles_ms(found).p50
    return Rival(
        name=name,
        p50_ms=p50_ms,
        runs=len(found),
        times_faster=round(p50_ms / max(percentiles_ms(own).p50, 1e-6), 3),
    )


def _median_ms(times_ns: Sequence[int]) -> float:
    return round(float(np.median(times_ns)) / 1e6, 4)


def _in_flight_fps(engine: Engine, frames: NDArray[np.uint8], runs: int, clock_ns: Clock) -> float:
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
