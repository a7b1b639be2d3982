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
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.demo.listen import listen
from runtime.demo.pictures import draw_pictures
from runtime.demo.settings import HEIGHT_PX, DemoSettings, line_config
from runtime.demo.summary import summarise
from runtime.demo.truth import compare
from runtime.errors import EngineError

if TYPE_CHECKING:
    from rich.console import Console


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
    config.write_text(line_config(settings), encoding="utf-8")
    with _station(config, out / "station.log") as (process, endpoints):
        heard = listen(
            settings.frames,
            endpoints,
            lambda: process.poll() is None,
            lambda: _last_words(out / "station.log"),
            console,
        )
    with console.status("holding the results against the planted defects"):
        truth = compare(settings.strip(), heard.inspected, HEIGHT_PX)
        summary = summarise(settings, heard, truth)
        draw_pictures(settings, heard, truth)
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


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
