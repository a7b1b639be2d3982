"""A station, put together from its configuration and run: the one place where the parts meet."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq

from camera.grabber import Grabber
from runtime.bundle import Bundle, open_bundle
from runtime.config import LineConfig, StationConfig, read_config
from runtime.desk import StationDesk
from runtime.engine import EngineSettings
from runtime.errors import ConfigError
from runtime.heads import head_of
from runtime.journal import Journal, Retention
from runtime.loop import Loop, LoopSettings
from runtime.messages import RunEnded, RunStarted, utc_text
from runtime.publisher import Publisher
from runtime.replay import ReplayServer
from runtime.sockets import CurveServer

if TYPE_CHECKING:
    from camera.config import CameraSettings

log = logging.getLogger(__name__)

IN_FLIGHT = 3
"""Batches that the loop holds at a time; the ring needs room for these and for what the camera brings meanwhile."""

Report = Callable[[dict[str, Any]], None]


def run_line(path: Path, *, only: str | None = None, check: bool = False, as_json: bool = False) -> int:
    """Run the stations of a line; several run in a process each.

    Args:
        path: The line's TOML file.
        only: Run this station alone, in this process.
        check: Check the configuration and the bundles, then leave.
        as_json: Report events as JSON lines on standard output.

    Returns:
        0 when every frame was inspected, 1 when frames were missed.

    Raises:
        ConfigError, BundleError, EngineError, JournalError, CameraError: It could not run, or not to the end.
    """
    line = read_config(path)
    names = [station.name for station in line.stations]
    if only is not None and only not in names:
        raise ConfigError(f"{path}: found no station {only!r}, expected one of {', '.join(names)}. Name one of these.")
    stations = [station for station in line.stations if only in (None, station.name)]
    report: Report = _report_json if as_json else _report_text
    if check:
        for station in stations:
            bundle = open_bundle(station.bundle)
            model = bundle.identity(station.backend, station.precision)
            head_of(bundle.spec.task).answerer(bundle.spec, station.rules, model, station.facts)
            _check_ring(station)
            report(
                {
                    "event": "checked",
                    "station": station.name,
                    "bundle": bundle.spec.name,
                    "digest": bundle.digest,
                }
            )
        return 0
    if len(stations) > 1:
        return _run_apart(path, [station.name for station in stations], as_json)
    return run_station(line, stations[0], report)


def run_station(line: LineConfig, config: StationConfig, report: Report) -> int:
    """Run one station until its camera ends, or until SIGINT or SIGTERM.

    Returns:
        0 when every frame was inspected, 1 when frames were missed.
    """
    _check_ring(config)
    stop = threading.Event()
    with contextlib.ExitStack() as parts:
        parts.enter_context(_signals(stop))
        bundle = open_bundle(config.bundle)
        keep = None if config.journal_keep_days is None else Retention(max_age_s=config.journal_keep_days * 86_400)
        config.journal.parent.mkdir(parents=True, exist_ok=True)
        journal = parts.enter_context(Journal(config.journal, line.line, retention=keep))
        context: zmq.Context[zmq.Socket[bytes]] = parts.enter_context(zmq.Context())
        publisher, replay = _open_wire(parts, config, journal, context)
        close_interrupted_run(publisher, journal, config.name)
        desk = StationDesk(publisher, line=line.line, run=config.run, patience_s=config.journal_patience_s)
        head = head_of(bundle.spec.task)
        model = bundle.identity(config.backend, config.precision)
        answerer = head.answerer(bundle.spec, config.rules, model, config.facts)
        height_px, width_px = frame_size(bundle, config.camera)
        # Engines first: they take seconds to load, and a camera that runs meanwhile would lose frames.
        engines = EngineSettings(config.batch, IN_FLIGHT, height_px, width_px, config.threads, config.arithmetic)
        pipeline = parts.enter_context(head.open_pipeline(bundle, config.backend, engines, config.precision))
        grabber = parts.enter_context(Grabber(config.camera, ring=config.ring, watch=config.grabber))
        _check_size(config, (grabber.height_px, grabber.width_px), (height_px, width_px))
        loop = Loop(
            grabber,
            pipeline,
            answerer,
            desk,
            LoopSettings(config.batch, config.deadline_ms / 1e3, config.engine_failures),
            lambda envelope: RunStarted(
                **envelope, model=model, camera=config.camera.name, mm_per_px=config.facts.mm_per_px
            ),
        )
        report(
            {
                "event": "ready",
                "station": config.name,
                "bundle": bundle.spec.name,
                "backend": config.backend,
                "publish": publisher.endpoint,
                "replay": replay.endpoint,
            }
        )
        # What lives now lives as long as the station: the collector need not walk it again beside every batch.
        gc.collect()
        gc.freeze()
        ended = loop.run(stop.is_set)
        report(
            {
                "event": "run_ended",
                "station": config.name,
                **ended.model_dump(include={"reason", "coverage", "defects"}),
            }
        )
        _linger(config.wire.linger_s, desk, ended, stop)
    return 0 if ended.coverage.complete and not ended.coverage.frames_missed else 1


def frame_size(bundle: Bundle, camera: CameraSettings) -> tuple[int, int]:
    """Height and width for which the engines are opened: the graphs' own, or the camera's where they leave it open.

    Raises:
        ConfigError: Neither says.
    """
    for graph in bundle.spec.graphs.values():
        height, width = graph.input.shape[2:]
        if isinstance(height, int) and isinstance(width, int):
            return height, width
    height, width = camera.height_px, camera.width_px
    if height is None or width is None:
        raise ConfigError(
            f"camera {camera.name}: found no height_px and width_px, expected both, because bundle "
            f"{bundle.spec.name} takes frames of any size. Set them in the camera's table."
        )
    return height, width


def _check_size(config: StationConfig, found: tuple[int, int], expected: tuple[int, int]) -> None:
    if found != expected:
        raise ConfigError(
            f"station {config.name}: camera {config.camera.name} gives frames of {found[0]}x{found[1]}, "
            f"expected {expected[0]}x{expected[1]}, which the bundle takes. Change the camera's size or the bundle."
        )


def close_interrupted_run(publisher: Publisher, journal: Journal, station: str) -> RunEnded | None:
    """End a run that a crash or a kill left open, with the books as far as the journal has them.

    Frames that the camera had delivered and nobody had answered for went with the process, so the coverage is
    never complete, whatever the rows add up to.

    Returns:
        What was published; None if no run was open.
    """
    open_run = journal.open_run(station)
    if open_run is None:
        return None
    ended = RunEnded(
        line=open_run.line,
        station=station,
        run=open_run.run,
        sequence=publisher.next_sequence,
        captured_at=utc_text(datetime.now(timezone.utc)),
        reason="interrupted",
        detail="the station went down in the middle of the run; frames after the last message were not inspected",
        coverage=journal.coverage(station, open_run.run).model_copy(update={"complete": False}),
        defects={},
    )
    publisher.publish([ended])
    log.warning("station %s: run %s was interrupted; it is closed as incomplete", station, open_run.run)
    return ended


def _open_wire(
    parts: contextlib.ExitStack,
    config: StationConfig,
    journal: Journal,
    context: zmq.Context[zmq.Socket[bytes]],
) -> tuple[Publisher, ReplayServer]:
    """Bind both sockets of the station; `parts` closes them, newest first."""
    wire = config.wire
    curve = None
    if wire.curve is not None:
        curve = parts.enter_context(CurveServer(context, wire.curve.server_secret_key, wire.curve.client_public_keys))
    publisher = parts.enter_context(
        Publisher(
            wire.publish,
            journal,
            station=config.name,
            context=context,
            clock_ns=time.monotonic_ns,
            wall=lambda: datetime.now(timezone.utc),
            heartbeat_s=wire.heartbeat_s,
            send_queue=wire.send_queue,
            curve=curve,
        )
    )
    replay = parts.enter_context(ReplayServer(wire.replay, journal.path, context=context, curve=curve))
    return publisher, replay


def _check_ring(config: StationConfig) -> None:
    least = (IN_FLIGHT + 1) * config.batch
    if config.ring.slots < least:
        raise ConfigError(
            f"station {config.name}: found a ring of {config.ring.slots} slots with batches of {config.batch}, "
            f"expected at least {least}: {IN_FLIGHT} batches on their way and one being filled. "
            "Raise ring.slots or lower batch."
        )


def _linger(seconds: float, desk: StationDesk, ended: RunEnded, stop: threading.Event) -> None:
    """Keep the replay open for those who lag behind, with heartbeats that tell them so."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not stop.wait(0.05):
        desk.idle("ended", ended.coverage.frames_inspected, ended.coverage.frames_missed)


@contextlib.contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """SIGINT and SIGTERM ask the loop to stop; a second one ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, _: object) -> None:
        if stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run_apart(path: Path, names: list[str], as_json: bool) -> int:
    """Run each station in a process of its own; the first failure stops the others. Gives the worst exit code."""
    command = [sys.executable, "-m", "ferrosight", "run", str(path), *(["--json"] if as_json else [])]
    stop = threading.Event()
    with _signals(stop):
        processes = [subprocess.Popen([*command, "--station", name], start_new_session=True) for name in names]
        while any(process.poll() is None for process in processes):
            if stop.wait(0.1) or any(process.returncode not in (None, 0, 1) for process in processes):
                for process in processes:
                    process.terminate()
                break
        return max(abs(process.wait()) for process in processes)


def _report_json(event: dict[str, Any]) -> None:
    print(json.dumps(event), flush=True)


def _report_text(event: dict[str, Any]) -> None:
    words = {**event}
    kind = words.pop("event")
    print(f"{kind}: " + "  ".join(f"{key} {value}" for key, value in words.items()), flush=True)
