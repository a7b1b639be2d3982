"""A triggered station, put together: its folder, its request socket, its engines and its loop."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.engine import EngineSettings
from runtime.errors import ConfigError
from runtime.messages import RunEnded, RunStarted
from runtime.serving import Serving
from runtime.sized_engines import SIZES_KEPT, SizedEngines
from runtime.swap.preparation import Successor, check_pictures, make_ready
from runtime.swap.station import open_changes, terms_of
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
    ready: Callable[[str, str], None],
    reload: threading.Event,
) -> RunEnded:
    """Score pictures until somebody asks to stop.

    Args:
        config: The station.
        trigger: What brings its pictures.
        parts: Its parts, open.
        stopped: Asked between pictures.
        ready: Called once with the request endpoint, and that of requests for another bundle (empty where none are
            taken), before the first picture is taken.
        reload: Set by whoever wants the station's own bundle opened again.

    Raises:
        ConfigError, EngineError, JournalError: It could not run, or not to the end.
    """
    with contextlib.ExitStack() as opened:
        engines = opened.enter_context(_open_engines(config, parts.bundle, trigger.sizes_px))
        scorer = Scorer(
            Serving(engines, parts.answerer), trigger.pixels, PictureLimits(trigger.max_pixels, trigger.min_side_px)
        )
        requests = opened.enter_context(
            RequestSocket(trigger.request.endpoint, trigger.max_bytes, context=parts.context, curve=parts.curve)
        )
        changes = open_changes(
            opened, config, parts, lambda path: _make_ready(path, config, trigger, parts, scorer), reload
        )
        opened.callback(lambda: scorer.serving.engines.close())
        hot = trigger.hot_folder
        loop = TriggeredLoop(
            Office(
                config.name,
                scorer,
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
            due_change=(lambda: None) if changes is None else changes.due,
        )
        ready(requests.endpoint, "" if changes is None else changes.endpoint)
        gc.collect()
        gc.freeze()
        return loop.run(stopped)


def _open_engines(config: StationConfig, bundle: Bundle, sizes_px: Iterable[tuple[int, int]]) -> SizedEngines:
    """The engines of a bundle, open for some sizes of picture and warm.

    Raises:
        ConfigError: The bundle does not take one of the sizes.
        EngineError: The graphs do not run.
    """
    with contextlib.ExitStack() as opened:
        engines = opened.enter_context(
            SizedEngines(
                bundle,
                config.backend,
                config.precision,
                threads=config.threads,
                arithmetic=config.arithmetic,
                cuda_api=config.cuda_api,
            )
        )
        for size_px in sizes_px:
            if (refusal := engines.refusal(size_px)) is not None:
                raise ConfigError(f"station {config.name}: key 'trigger.sizes_px': {refusal}")
            engines.open(size_px)
        opened.pop_all()
        return engines


def _make_ready(
    path: Path, config: StationConfig, trigger: TriggerSettings, parts: StationParts, scorer: Scorer
) -> Successor[SizedEngines]:
    """A bundle that could take over, open for the sizes that the one that serves is open for; called by its thread."""
    sizes_px = tuple(dict.fromkeys((*trigger.sizes_px, *scorer.serving.engines.sizes_px)))
    golden = EngineSettings(1, 1, threads=config.threads, arithmetic=config.arithmetic, cuda_api=config.cuda_api)
    return make_ready(
        path,
        terms_of(config, parts, golden),
        lambda path, spec: check_pictures(path, spec, sizes_px),
        lambda bundle: _open_engines(config, bundle, sizes_px[-SIZES_KEPT:]),
    )


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
