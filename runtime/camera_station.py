"""A station with a camera: frames as they come, in batches, through the loop."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from camera.grabber import Grabber
from camera.promptness import run_when_woken
from runtime.bundle import Bundle
from runtime.config import StationConfig
from runtime.engine import EngineSettings
from runtime.errors import ConfigError
from runtime.loop import Loop, LoopSettings
from runtime.messages import RunEnded, RunStarted
from runtime.station_parts import StationParts
from runtime.swap.preparation import check_frames, make_ready
from runtime.swap.station import open_changes, terms_of

if TYPE_CHECKING:
    from camera.config import CameraSettings

IN_FLIGHT = 3
"""Batches that the loop holds at a time; the ring needs room for these and for what the camera brings meanwhile."""


def check_camera(config: StationConfig) -> None:
    """Refuse a ring that could not hold the batches on their way.

    Raises:
        ConfigError: It could not.
    """
    least = (IN_FLIGHT + 1) * config.batch
    if config.ring.slots < least:
        raise ConfigError(
            f"station {config.name}: found a ring of {config.ring.slots} slots with batches of {config.batch}, "
            f"expected at least {least}: {IN_FLIGHT} batches on their way and one being filled. "
            "Raise ring.slots or lower batch."
        )


def run_camera(
    config: StationConfig,
    camera: CameraSettings,
    parts: StationParts,
    stopped: Callable[[], bool],
    ready: Callable[[str], None],
    reload: threading.Event,
) -> RunEnded:
    """Inspect until the camera ends, or somebody asks to stop.

    Args:
        config: The station.
        camera: Its camera.
        parts: Its parts, open.
        stopped: Asked between batches.
        ready: Called once with the endpoint of requests for another bundle (empty where none are taken), before the
            first frame is taken.
        reload: Set by whoever wants the station's own bundle opened again.

    Raises:
        ConfigError: The camera's size is not the bundle's.
        CameraError, EngineError, JournalError: It could not run, or not to the end.
    """
    with contextlib.ExitStack() as opened:
        height_px, width_px = frame_size(parts.bundle, camera)
        # Engines first: they take seconds to load, and a camera that runs meanwhile would lose frames.
        engines = EngineSettings(
            config.batch, IN_FLIGHT, height_px, width_px, config.threads, config.arithmetic, config.cuda_api
        )
        pipeline = opened.enter_context(
            parts.head.open_pipeline(parts.bundle, config.backend, engines, config.precision)
        )
        grabber = opened.enter_context(Grabber(camera, ring=config.ring, watch=config.grabber))
        _check_size(config, camera, (grabber.height_px, grabber.width_px), (height_px, width_px))
        pipeline.register(grabber.pixels)
        terms = terms_of(config, parts, engines)
        changes = open_changes(
            opened,
            config,
            parts,
            lambda path: make_ready(
                path,
                terms,
                lambda path, spec: check_frames(path, spec, (height_px, width_px)),
                lambda bundle: parts.head.open_pipeline(bundle, config.backend, engines, config.precision),
            ),
            reload,
            taken=lambda pipeline: pipeline.register(grabber.pixels),
        )
        loop = Loop(
            grabber,
            pipeline,
            parts.answerer,
            parts.desk,
            LoopSettings(config.batch, config.deadline_ms / 1e3, config.engine_failures),
            lambda envelope: RunStarted(
                **envelope, model=parts.model, camera=camera.name, mm_per_px=config.facts.mm_per_px
            ),
            due_change=(lambda: None) if changes is None else changes.due,
        )
        opened.callback(lambda: loop.serving.engines.close())  # a device lets go of the ring before the ring goes
        ready("" if changes is None else changes.endpoint)
        # What lives now lives as long as the station: the collector need not walk it again beside every batch.
        gc.collect()
        gc.freeze()
        run_when_woken()
        return loop.run(stopped)


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


def _check_size(
    config: StationConfig, camera: CameraSettings, found: tuple[int, int], expected: tuple[int, int]
) -> None:
    if found != expected:
        raise ConfigError(
            f"station {config.name}: camera {camera.name} gives frames of {found[0]}x{found[1]}, "
            f"expected {expected[0]}x{expected[1]}, which the bundle takes. Change the camera's size or the bundle."
        )
