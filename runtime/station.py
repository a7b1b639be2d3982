"""A line's stations, run: one in this process, several in a process each."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from runtime.bundle import Bundle, open_bundle
from runtime.camera_station import check_camera, run_camera
from runtime.config import LineConfig, StationConfig, read_config
from runtime.desk import StationDesk
from runtime.errors import ConfigError
from runtime.heads import head_of
from runtime.messages import RunEnded
from runtime.station_parts import open_parts
from runtime.triggered.station import check_trigger, run_triggered

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
            _check(station, bundle)
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
        return _run_apart(path, stations, as_json)
    return run_station(line, stations[0], report)


def run_station(line: LineConfig, config: StationConfig, report: Report) -> int:
    """Run one station until its camera ends, or until SIGINT or SIGTERM.

    Returns:
        0 when every frame was inspected, 1 when frames were missed.
    """
    stop, reload = threading.Event(), threading.Event()
    with contextlib.ExitStack() as opened:
        opened.enter_context(_signals(stop))
        if config.swap is not None:
            opened.enter_context(_hang_up(reload.set))
        bundle = open_bundle(config.bundle)
        _check(config, bundle)
        parts = open_parts(opened, line, config, bundle)
        about = {
            "station": config.name,
            "bundle": parts.bundle.spec.name,
            "backend": config.backend,
            "publish": parts.publisher.endpoint,
            "replay": parts.replay.endpoint,
        }
        if config.trigger is not None:
            ended = run_triggered(
                config,
                config.trigger,
                parts,
                stop.is_set,
                lambda request, swap: report({"event": "ready", **about, "request": request, **_swapping(swap)}),
                reload,
            )
        elif config.camera is not None:
            ended = run_camera(
                config,
                config.camera,
                parts,
                stop.is_set,
                lambda swap: report({"event": "ready", **about, **_swapping(swap)}),
                reload,
            )
        else:
            raise ConfigError(f"station {config.name}: found neither camera nor trigger, expected one. Add its table.")
        report(
            {
                "event": "run_ended",
                "station": config.name,
                **ended.model_dump(include={"reason", "coverage", "defects"}),
            }
        )
        _linger(config.wire.linger_s, parts.desk, ended, stop)
    return 0 if ended.coverage.complete and not ended.coverage.frames_missed else 1


def _swapping(endpoint: str) -> dict[str, str]:
    """Where another bundle is asked for, as far as it can be."""
    return {"swap": endpoint} if endpoint else {}


def _check(config: StationConfig, bundle: Bundle) -> None:
    """Refuse what could not run, before the journal and the sockets are opened.

    Raises:
        ConfigError: It could not.
    """
    if config.trigger is not None:
        check_trigger(config, config.trigger, bundle)
    else:
        check_camera(config)


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


@contextlib.contextmanager
def _hang_up(reload: Callable[[], object]) -> Iterator[None]:
    """SIGHUP, which service managers send for a reload, asks for the bundle's folder to be opened again."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGHUP, lambda *_: reload())
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _run_apart(path: Path, stations: Sequence[StationConfig], as_json: bool) -> int:
    """Run each station in a process of its own; the first failure stops the others. Gives the worst exit code."""
    command = [sys.executable, "-m", "ferrosight", "run", str(path), *(["--json"] if as_json else [])]
    stop = threading.Event()
    with contextlib.ExitStack() as opened:
        opened.enter_context(_signals(stop))
        processes = [
            subprocess.Popen([*command, "--station", station.name], start_new_session=True) for station in stations
        ]
        swapping = [process for process, station in zip(processes, stations, strict=True) if station.swap is not None]
        if swapping:
            opened.enter_context(_hang_up(lambda: [each.send_signal(signal.SIGHUP) for each in swapping]))
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
