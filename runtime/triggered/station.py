"""A triggered station, put together: its folder, its request socket, its engines and its loop."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from typing import TYPE_CHECKING

from runtime.errors import ConfigError
from runtime.messages import RunEnded, RunStarted
from runtime.sized_engines import SizedEngines
from runtime.triggered.hot_folder import HotFolder
from runtime.triggered.loop import TriggeredLoop, TriggerRules
from runtime.triggered.office import Office
from runtime.triggered.request_socket import RequestSocket
from runtime.triggered.scorer import CAMERA, PictureLimits, Scorer
from runtime.triggered.settings import TriggerSettings

if TYPE_CHECKING:
    from runtime.bundle import Bundle
    from runtime.config import StationConfig
    from runtime.pipeline import Album
    from runtime.station_parts import StationParts

FRAME_TASKS = frozenset({"strip"})
"""Tasks whose frames are parts of something longer; a picture alone says nothing there."""

IDLE_S = 0.2
"""Longest wait for a request before the loop looks after its heartbeat, where no folder asks for less."""


def check_trigger(config: StationConfig, trigger: TriggerSettings, bundle: Bundle) -> None:
    """Refuse a bundle that does not score single pictures, and a hot folder that is not there.

    Raises:
        ConfigError: It does not, or is not.
    """
    if bundle.spec.task in FRAME_TASKS:
        raise ConfigError(
            f"station {config.name}: found a trigger with bundle {bundle.spec.name} of task {bundle.spec.task!r}, "
            "expected one that scores single pictures. Give the station a camera, or another bundle."
        )
    if trigger.hot_folder is not None and not trigger.hot_folder.path.is_dir():
        raise ConfigError(
            f"station {config.name}: found no hot folder {trigger.hot_folder.path}, expected one that pictures come "
            "into. Make it, or name another one."
        )


def run_triggered(
    config: StationConfig,
    trigger: TriggerSettings,
    parts: StationParts,
    stopped: Callable[[], bool],
    ready: Callable[[str], None],
) -> RunEnded:
    """Score pictures until somebody asks to stop.

    Args:
        config: The station.
        trigger: What brings its pictures.
        parts: Its parts, open.
        stopped: Asked between pictures.
        ready: Called once with the request endpoint, before the first picture is taken.

    Raises:
        ConfigError, EngineError, JournalError: It could not run, or not to the end.
    """
    with contextlib.ExitStack() as opened:
        engines = opened.enter_context(
            SizedEngines(
                parts.bundle,
                config.backend,
                config.precision,
                threads=config.threads,
                arithmetic=config.arithmetic,
                cuda_api=config.cuda_api,
            )
        )
        for size_px in trigger.sizes_px:
            if (refusal := engines.refusal(size_px)) is not None:
                raise ConfigError(f"station {config.name}: key 'trigger.sizes_px': {refusal}")
            engines.open(size_px)
        requests = opened.enter_context(
            RequestSocket(trigger.request.endpoint, trigger.max_bytes, context=parts.context, curve=parts.curve)
        )
        hot = trigger.hot_folder
        loop = TriggeredLoop(
            Office(
                config.name,
                Scorer(engines, parts.answerer, trigger.pixels, PictureLimits(trigger.max_pixels, trigger.min_side_px)),
                parts.desk,
                parts.journal,
                engine_failures=config.engine_failures,
            ),
            parts.desk,
            requests,
            None if hot is None else HotFolder(hot, trigger.facts_wait_s),
            TriggerRules(
                config.name,
                config.facts,
                trigger.needs,
                trigger.request.pictures,
                trigger.request.keep,
                trigger.max_bytes,
                IDLE_S if hot is None else min(IDLE_S, hot.poll_s),
            ),
            lambda envelope: RunStarted(**envelope, model=parts.model, camera=CAMERA, mm_per_px=config.facts.mm_per_px),
            open_album=_album_opener(trigger, parts),
        )
        ready(requests.endpoint)
        gc.collect()
        gc.freeze()
        return loop.run(stopped)


def _album_opener(trigger: TriggerSettings, parts: StationParts) -> Callable[[RunStarted], Album] | None:
    """Opens a folder of its own for each run, so that none overwrites what another one left."""
    album = trigger.album
    if album is None:
        return None

    def open_album(started: RunStarted) -> Album:
        folder = album / f"{started.sequence:06d}_{started.run.replace('/', '_')}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"album {folder}: {error.strerror}, expected a folder that can be written. Name another one."
            ) from error
        return parts.head.open_album(folder, "all")

    return open_album
