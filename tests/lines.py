"""Lines for black-box tests: a configuration on the tiny bundle, and the station as a process of its own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Running:
    """A station that is ready: its process, its endpoints and where its errors go."""

    process: subprocess.Popen[str]
    publish: str
    replay: str
    errors: Path
    request: str = ""
    swap: str = ""

    def next_event(self) -> dict[str, Any]:
        """The next event that the station reports; an empty one once it has closed its output."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else {}


def write_line(folder: Path, bundle: Path, *, camera: str, station: str = "", run: str = "coil-1") -> Path:
    """Write a line configuration with one station called `top` and give its path.

    Args:
        folder: Where the file, the journal and all else go.
        bundle: The bundle.
        camera: TOML lines of the camera's table.
        station: Further TOML lines of the station, before its tables.
        run: Name of the run.
    """
    path = folder / "line.toml"
    path.write_text(
        f'line = "test-line"\n[[stations]]\nname = "top"\nrun = "{run}"\nbundle = "{bundle}"\nfacts.mm_per_px = 1.0\n'
        f'journal = "journal.sqlite"\nthreads = 1\n{station}\n[stations.camera]\n{camera}\n'
        '[stations.wire]\npublish = "tcp://127.0.0.1:*"\nreplay = "tcp://127.0.0.1:*"\n'
        "linger_s = 30.0\nheartbeat_s = 0.2\n"
    )
    return path


def write_rig(
    folder: Path,
    bundle: Path,
    *,
    trigger: str = "",
    request: str = "",
    hot_folder: bool = True,
    station: str = "",
    endpoint: str = "tcp://127.0.0.1:*",
) -> Path:
    """Write the configuration of a triggered station called `rig` and give its path.

    Args:
        folder: Where the file, the journal and the hot folder `hot` go.
        bundle: A bundle that scores pictures.
        trigger: TOML lines of the trigger's table.
        request: TOML lines of its request table.
        hot_folder: Whether it has one.
        station: Further TOML lines of the station, before its tables.
        endpoint: Of the requests.
    """
    path = folder / "line.toml"
    (folder / "hot").mkdir(exist_ok=True)
    hot = f'[stations.trigger.hot_folder]\npath = "hot"\n{QUICK}' if hot_folder else ""
    path.write_text(
        f'line = "test-line"\n[[stations]]\nname = "rig"\nrun = "heat-1"\nbundle = "{bundle}"\n'
        f'journal = "journal.sqlite"\nthreads = 1\n{station}\n[stations.trigger]\n{trigger}\n{hot}'
        f'[stations.trigger.request]\nendpoint = "{endpoint}"\n{request}\n'
        "[stations.rules]\nleft_out_thicknesses = 0.0\n"
        '[stations.wire]\npublish = "tcp://127.0.0.1:*"\nreplay = "tcp://127.0.0.1:*"\n'
        "linger_s = 30.0\nheartbeat_s = 0.2\n"
    )
    return path


QUICK = "settle_s = 0.05\npoll_s = 0.02\npatience_s = 1.0\n"
"""A hot folder with little patience."""

SYNTHETIC = 'kind = "synthetic"\nname = "camera"\nheight_px = 64\nwidth_px = 256\nspeed_mps = 10.0\nmm_per_px = 1.0\n'
"""64x256 frames, 156 a second."""


@contextlib.contextmanager
def station(config: Path) -> Iterator[Running]:
    """Start a station and wait until it is ready; it is killed in the end if it still runs."""
    errors = config.parent / "station.log"
    with errors.open("a", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ferrosight", "run", str(config), "--json"],
            stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT,
        )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"the station ended early: {errors.read_text()}"
        event = json.loads(line)
        yield Running(
            process, event["publish"], event["replay"], errors, event.get("request", ""), event.get("swap", "")
        )
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
