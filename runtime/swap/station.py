"""The changes of a station's bundle, put together from its configuration."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.serving import E
from runtime.swap.changes import Changes
from runtime.swap.preparation import Successor, Terms
from runtime.triggered.request_socket import RequestSocket
from runtime.triggered.requests import HEADER_BYTES

if TYPE_CHECKING:
    from runtime.config import StationConfig
    from runtime.engine import EngineSettings
    from runtime.station_parts import StationParts


def terms_of(config: StationConfig, parts: StationParts, engines: EngineSettings) -> Terms:
    """What a bundle must fit to take over at a station."""
    return Terms(parts.bundle.spec.task, config.backend, config.precision, engines, config.rules, config.facts)


def open_changes(
    opened: contextlib.ExitStack,
    config: StationConfig,
    parts: StationParts,
    make_ready: Callable[[Path], Successor[E]],
    reload: threading.Event,
    *,
    taken: Callable[[E], None] = lambda _: None,
) -> Changes[E] | None:
    """What makes other bundles ready while one serves; None where the station has no table for it.

    Args:
        opened: Closes it.
        config: The station.
        parts: Its parts, open.
        make_ready: Opens a bundle's folder and gives what could take over.
        reload: Set by whoever wants the station's own bundle opened again.
        taken: See `Changes`.

    Raises:
        ConfigError: The endpoint is taken, or is none.
    """
    swap = config.swap
    if swap is None:
        return None
    return opened.enter_context(
        Changes(
            config.name,
            parts.model,
            make_ready,
            taken,
            bundle=config.bundle,
            folder=config.bundle.parent if swap.bundles is None else swap.bundles,
            requests=RequestSocket(swap.endpoint, HEADER_BYTES, context=parts.context, curve=parts.curve),
            reload=reload,
        )
    )
