"""What every station has, whatever brings its pictures: bundle, head, journal, sockets and a desk."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass
from datetime import datetime, timezone

import zmq

from runtime.bundle import Bundle
from runtime.config import LineConfig, StationConfig
from runtime.delivery.journal import Journal, Retention
from runtime.delivery.publisher import Publisher
from runtime.delivery.replay import ReplayServer
from runtime.delivery.sockets import Context, CurveServer
from runtime.desk import StationDesk
from runtime.heads import head_of
from runtime.messages import ModelIdentity, RunEnded, utc_text
from runtime.pipeline import Answerer, Head

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StationParts:
    """The parts of one station, open."""

    bundle: Bundle
    model: ModelIdentity
    head: Head
    answerer: Answerer
    journal: Journal
    context: Context
    curve: CurveServer | None
    publisher: Publisher
    replay: ReplayServer
    desk: StationDesk


def open_parts(opened: contextlib.ExitStack, line: LineConfig, config: StationConfig, bundle: Bundle) -> StationParts:
    """Open the parts, and close the run that a crash left open; `opened` closes them, newest first.

    Raises:
        BundleError, ConfigError, JournalError: One cannot be opened.
    """
    head = head_of(bundle.spec.task)
    model = bundle.identity(config.backend, config.precision)
    answerer = head.answerer(bundle.spec, config.rules, model, config.facts)
    keep = None if config.journal_keep_days is None else Retention(max_age_s=config.journal_keep_days * 86_400)
    config.journal.parent.mkdir(parents=True, exist_ok=True)
    # A picture that comes once a minute can wait for the disk; a frame every millisecond cannot.
    journal = opened.enter_context(
        Journal(config.journal, line.line, retention=keep, wait_for_disk=config.trigger is not None)
    )
    context: Context = opened.enter_context(zmq.Context())
    wire = config.wire
    curve = None
    if wire.curve is not None:
        curve = opened.enter_context(CurveServer(context, wire.curve.server_secret_key, wire.curve.client_public_keys))
    publisher = opened.enter_context(
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
    replay = opened.enter_context(ReplayServer(wire.replay, journal.path, context=context, curve=curve))
    close_interrupted_run(publisher, journal, config.name)
    desk = StationDesk(publisher, line=line.line, run=config.run, patience_s=config.journal_patience_s)
    return StationParts(bundle, model, head, answerer, journal, context, curve, publisher, replay, desk)


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
