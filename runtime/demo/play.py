"""The newcomer's demo: a synthetic strip through the whole line, and what came of it.

Three processes, as beside a real line: the camera's own, the station, and this one, which subscribes over
ZeroMQ like any consumer and knows nothing but the messages. Only afterwards are these held against the truth.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from camera.steel.strip import SyntheticStrip
from runtime.delivery.client import Subscriber
from runtime.demo.truth import Comparison, compare
from runtime.errors import EngineError
from runtime.messages import Inspected, Missed, RunEnded, RunStarted
from runtime.overlay import draw_overlay
from runtime.strip_map import Mark, draw_strip_map

if TYPE_CHECKING:
    from rich.console import Console

HEIGHT_PX, WIDTH_PX = 256, 1600
STATION = "demo"
SILENCE_S = 60.0
PICTURES = 12


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """What the demo runs.

    Attributes:
        bundle: The strip bundle.
        out: Folder for everything that the demo writes; emptied first.
        seconds: Length of the run at line speed.
        backend: Inference backend.
        seed: Seed of the strip; another seed is another strip.
        speed_mps: Speed of the strip in metres a second.
        mm_per_px: Scale of the camera's picture.
        defects_per_frame: Mean number of defects that begin on a frame.
    """

    bundle: Path
    out: Path
    seconds: float = 20.0
    backend: str = "openvino"
    seed: int = 20_261_120
    speed_mps: float = 5.0
    mm_per_px: float = 1.0
    defects_per_frame: float = 0.12

    @property
    def frame_hz(self) -> float:
        """Frames a second at this speed."""
        return self.speed_mps * 1000.0 / (HEIGHT_PX * self.mm_per_px)

    @property
    def frames(self) -> int:
        """Frames of the whole run."""
        return max(1, round(self.seconds * self.frame_hz))

    def strip(self) -> SyntheticStrip:
        """The strip itself, truth included."""
        return SyntheticStrip(
            self.seed, height_px=HEIGHT_PX, width_px=WIDTH_PX, defects_per_frame=self.defects_per_frame
        )


@dataclass(slots=True)
class Heard:
    """What the subscriber received."""

    inspected: list[Inspected] = field(default_factory=list)
    missed: list[Missed] = field(default_factory=list)
    started: RunStarted | None = None
    ended: RunEnded | None = None
    messages: int = 0
    recovered: int = 0


def run_demo(settings: DemoSettings, console: Console) -> dict[str, Any]:
    """Run the line, listen to it, write the pictures and the summary.

    Returns:
        What `summary.json` holds.

    Raises:
        EngineError: The station ended early or fell silent; the text holds its own last words.
    """
    out = settings.out
    shutil.rmtree(out, ignore_errors=True)
    (out / "pictures").mkdir(parents=True)
    config = out / "line.toml"
    config.write_text(_config(settings), encoding="utf-8")
    with _station(config, out / "station.log") as (process, endpoints):
        heard = _listen(settings, endpoints, process, out / "station.log", console)
    with console.status("holding the results against the planted defects"):
        truth = compare(settings.strip(), heard.inspected, HEIGHT_PX)
        summary = _summary(settings, heard, truth)
        _pictures(settings, heard, truth)
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


def _config(settings: DemoSettings) -> str:
    """The demo's own line configuration: the same file a user would write."""
    return f"""\
line = "demo-line"

[[stations]]
name = "{STATION}"
run = "synthetic-strip-{settings.seed}"
bundle = {json.dumps(str(settings.bundle.resolve()))}
backend = "{settings.backend}"
facts.mm_per_px = {settings.mm_per_px}
journal = "journal.sqlite"

[stations.camera]
kind = "synthetic"
name = "line-camera"
seed = {settings.seed}
height_px = {HEIGHT_PX}
width_px = {WIDTH_PX}
speed_mps = {settings.speed_mps}
mm_per_px = {settings.mm_per_px}
defects_per_frame = {settings.defects_per_frame}
frames = {settings.frames}
paced = true

[stations.wire]
publish = "tcp://127.0.0.1:*"
replay = "tcp://127.0.0.1:*"
linger_s = 60.0
"""


@contextlib.contextmanager
def _station(config: Path, log: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """The station in a process of its own; gives its endpoints once it is ready."""
    command = [sys.executable, "-m", "ferrosight", "run", str(config), "--json"]
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        assert process.stdout is not None  # noqa: S101 - it was asked for above
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "ready":
                yield process, {"publish": event["publish"], "replay": event["replay"]}
                return
        raise EngineError(_last_words(log))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _last_words(log: Path) -> str:
    words = log.read_text(encoding="utf-8").strip().splitlines()
    return f"the demo's station ended early: {words[-1] if words else 'it said nothing'} (whole text: {log})"


def _listen(
    settings: DemoSettings,
    endpoints: dict[str, str],
    process: subprocess.Popen[str],
    log: Path,
    console: Console,
) -> Heard:
    """Subscribe until the run has ended, with a line of live progress."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    heard = Heard()
    columns = (
        TextColumn("[bold]strip"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames  {task.fields[live]}"),
        TimeRemainingColumn(),
    )
    with (
        Progress(*columns, console=console) as progress,
        Subscriber(endpoints["publish"], endpoints["replay"], station=STATION) as subscriber,
    ):
        task = progress.add_task("strip", total=settings.frames, live="waiting for the first frame")
        quiet_s = 0.0
        while heard.ended is None:
            received = subscriber.receive(timeout_s=0.5)
            if received is None:
                quiet_s += 0.5
                if process.poll() is not None or quiet_s > SILENCE_S:
                    raise EngineError(_last_words(log))
                continue
            quiet_s = 0.0
            heard.messages += 1
            heard.recovered += received.recovered
            _file(heard, received.message)
            progress.update(task, completed=len(heard.inspected), live=_live(heard))
    return heard


def _file(heard: Heard, message: object) -> None:
    """Put one message where it belongs."""
    match message:
        case Inspected():
            heard.inspected.append(message)
        case Missed():
            heard.missed.append(message)
        case RunStarted():
            heard.started = message
        case RunEnded():
            heard.ended = message
        case _:
            raise TypeError(f"a message of a kind that the demo does not know: {type(message).__name__}")


def _live(heard: Heard) -> str:
    last = heard.inspected[-1] if heard.inspected else None
    if last is None:
        return "waiting for the first frame"
    lost = sum(m.stop_index - m.first_index for m in heard.missed)
    defective = sum(m.verdict == "defective" for m in heard.inspected)
    place = f"{last.position_m:6.1f} m  " if last.position_m is not None else ""
    return f"{place}{defective} defective  {lost} missed  {last.latency_ms['total']:.0f} ms"


def _summary(settings: DemoSettings, heard: Heard, truth: Comparison) -> dict[str, Any]:
    """The figures, from the messages alone but for those that need the truth."""
    ended, started = heard.ended, heard.started
    if ended is None or started is None:
        raise EngineError("the demo's station published no whole run. Read its log.")
    stages: dict[str, list[float]] = {}
    for message in heard.inspected:
        for stage, value in message.latency_ms.items():
            stages.setdefault(stage, []).append(value)
    by_stage = {
        stage: {"p50": round(float(np.percentile(v, 50)), 3), "p99": round(float(np.percentile(v, 99)), 3)}
        for stage, v in stages.items()
    }
    span_s = _span_s(heard.inspected)
    classes = Counter(p.class_id for p in truth.planted)
    found = Counter(p.class_id for p in truth.planted if p.defect_id in truth.found)
    return {
        "frames_grabbed": ended.coverage.frames_expected,
        "frames_inspected": ended.coverage.frames_inspected,
        "frames_missed": ended.coverage.frames_missed,
        "coverage_complete": ended.coverage.complete,
        "frames_clean": truth.frames_clean,
        "defects_planted": len(truth.planted),
        "defects_found": len(truth.found),
        "defects_right_class": len(truth.right_class),
        "by_class": {str(c): {"planted": classes[c], "found": found[c]} for c in sorted(classes)},
        "false_alarms": len(truth.false_alarms),
        "false_alarms_on_clean_frames": truth.false_alarms_on_clean,
        "messages_published": ended.sequence - started.sequence + 1,
        "messages_received": heard.messages,
        "messages_recovered": heard.recovered,
        "latency_ms": {**by_stage.get("total", {}), "stages": by_stage},
        "throughput_fps": round((len(heard.inspected) - 1) / span_s, 2) if span_s else 0.0,
        "line_speed_mps": settings.speed_mps,
        "strip_m": round(settings.frames * HEIGHT_PX * settings.mm_per_px / 1000, 2),
        "backend": started.model.backend,
        "precision": started.model.precision,
        "bundle": started.model.bundle,
        "seed": settings.seed,
        "strip_map": str(settings.out / "strip_map.png"),
        "pictures": str(settings.out / "pictures"),
    }


def _span_s(inspected: list[Inspected]) -> float:
    """Seconds from the first frame's capture to the last one's."""
    from datetime import datetime

    times = [datetime.fromisoformat(m.captured_at.replace("Z", "+00:00")) for m in inspected]
    return (max(times) - min(times)).total_seconds() if len(times) > 1 else 0.0


def _pictures(settings: DemoSettings, heard: Heard, truth: Comparison) -> None:
    """The strip map, and the frames with the most to see."""
    strip = settings.strip()
    scale = settings.mm_per_px
    names = [*_class_names(heard), *(f"class {k}" for k in range(1, 5))][:4]
    planted = [
        Mark(
            p.class_id,
            (p.first_row + p.stop_row) / 2 * scale / 1000,
            (p.first_col + p.stop_col) / 2 * scale,
            (p.stop_row - p.first_row) * scale / 1000,
            (p.stop_col - p.first_col) * scale,
            "found" if p.defect_id in truth.found else "missed",
        )
        for p in truth.planted
    ]
    alarms = {defect.defect_id for _, defect in truth.false_alarms}
    last = {d.defect_id: d for m in heard.inspected for d in m.defects if d.strip_box is not None}
    found = [
        Mark(
            d.class_id,
            (d.strip_box.along_first_mm + d.strip_box.along_stop_mm) / 2000,
            (d.strip_box.across_first_mm + d.strip_box.across_stop_mm) / 2,
            (d.strip_box.along_stop_mm - d.strip_box.along_first_mm) / 1000,
            d.strip_box.across_stop_mm - d.strip_box.across_first_mm,
            "false_alarm" if d.defect_id in alarms else "found",
        )
        for d in last.values()
        if d.strip_box is not None
    ]
    frame_m = HEIGHT_PX * scale / 1000
    draw_strip_map(
        settings.out / "strip_map.png",
        planted,
        found,
        class_names=names,
        length_m=settings.frames * frame_m,
        width_mm=WIDTH_PX * scale,
        not_inspected_m=[(m.first_index * frame_m, m.stop_index * frame_m) for m in heard.missed],
        title=f"Synthetic strip at {settings.speed_mps:g} m/s: {len(truth.found)} of {len(truth.planted)} planted "
        f"defects found, {len(truth.false_alarms)} false alarms, {truth.false_alarms_on_clean} of them on "
        f"{truth.frames_clean} clean frames",
    )
    shown = sorted((m for m in heard.inspected if m.defects), key=lambda m: -sum(d.area_px for d in m.defects))
    for message in sorted(shown[:PICTURES], key=lambda m: m.frame_index):
        frame = strip.frame(message.frame_index)
        draw_overlay(
            frame.pixels,
            message.defects,
            settings.out / "pictures" / f"frame_{message.frame_index:06d}.png",
            heading=f"frame {message.frame_index}, {message.position_m:.2f} m"
            if message.position_m is not None
            else f"frame {message.frame_index}",
        )


def _class_names(heard: Heard) -> list[str]:
    known = {d.class_id: d.class_name for m in heard.inspected for d in m.defects}
    return [known.get(k, f"class {k}") for k in range(1, 5)]
