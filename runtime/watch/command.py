"""Results as they come, in a terminal or as JSON lines: a consumer like any other."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import zmq

from runtime.delivery.client import GapError, Received, Subscriber
from runtime.delivery.sockets import CurveClient, connect, open_socket
from runtime.errors import ConfigError, WireError
from runtime.messages import Inspected, Missed, RunEnded, RunStarted, Scored

if TYPE_CHECKING:
    from rich.console import Console

    from runtime.watch.screen import Screen

RATE_WINDOW_S = 5.0
"""The frame rate shown is that of so many last seconds."""

Show = Literal["all", "defective"]
"""Which frames get a line: every one, or those with defects; all else always does."""


@dataclass(slots=True)
class Tally:
    """What was seen of a station's current run.

    Attributes:
        frames: Inspected frames.
        missed: Frames that nobody inspected.
        defects: Frames' defects by class; one that goes on from the frame before is not counted again.
        recovered: Messages that came from the journal.
        gone: Messages that can no longer be had.
        ended: The end of the run, once it came.
    """

    station: str
    run: str = ""
    frames: int = 0
    missed: int = 0
    defective: int = 0
    defects: Counter[str] = field(default_factory=Counter)
    recovered: int = 0
    gone: int = 0
    ended: RunEnded | None = None
    arrivals_s: deque[float] = field(default_factory=deque)

    def count(self, received: Received, now_s: float) -> None:
        """Add one message; a new run begins at zero."""
        message = received.message
        if isinstance(message, RunStarted):
            self.frames = self.missed = self.defective = self.recovered = self.gone = 0
            self.defects.clear()
            self.ended = None
        self.run = message.run
        self.recovered += received.recovered
        if isinstance(message, Inspected):
            self.frames += 1
            self.defective += message.verdict == "defective"
            self.defects.update(d.class_name for d in message.defects if not d.continues_above)
            self.arrivals_s.append(now_s)
        elif isinstance(message, Scored):
            self.frames += 1
            self.defects[message.verdict] += 1
            self.arrivals_s.append(now_s)
        elif isinstance(message, Missed):
            self.missed += message.stop_index - message.first_index
        elif isinstance(message, RunEnded):
            self.ended = message

    def rate_hz(self, now_s: float) -> float:
        """Frames a second over the last `RATE_WINDOW_S`."""
        while self.arrivals_s and self.arrivals_s[0] < now_s - RATE_WINDOW_S:
            self.arrivals_s.popleft()
        return len(self.arrivals_s) / RATE_WINDOW_S


def watch(
    publisher: str,
    replay: str,
    *,
    console: Console,
    station: str | None = None,
    after: int | None = None,
    as_json: bool = False,
    show: Show = "all",
    until_run_ended: bool = False,
    curve: CurveClient | None = None,
    clock_s: Callable[[], float] = time.monotonic,
) -> Tally:
    """Show a station's messages until Ctrl-C, or until its run has ended.

    Args:
        publisher: The station's PUB endpoint.
        replay: Its replay endpoint (see `replay_beside`).
        console: Where to write: standard output with `as_json`.
        station: Its name; None takes the first that is heard at the endpoint.
        after: The last sequence not to show; -1 shows the whole journal, None begins now.
        as_json: One message a line, as on the wire, and nothing else.
        show: Which frames get a line.
        until_run_ended: Return after the next end of a run.
        curve: Encryption; None speaks in clear.
        clock_s: Monotonic clock in seconds.

    Returns:
        What was seen of the last run.

    Raises:
        ConfigError: An endpoint is none, or a key file is bad.
        WireError: The line speaks another version, or has begun another journal.
    """
    from runtime.watch.screen import JsonLines, LiveScreen

    station = station or find_station(publisher, curve=curve)
    tally = Tally(station)
    with Subscriber(publisher, replay, station=station, after=after, curve=curve, clock_s=clock_s) as subscriber:
        screen = JsonLines(console) if as_json else LiveScreen(console, tally, subscriber, show, clock_s)
        with screen, suppress(KeyboardInterrupt):
            while not (until_run_ended and tally.ended is not None):
                _step(subscriber, tally, screen, clock_s)
    return tally


def _step(subscriber: Subscriber, tally: Tally, screen: Screen, clock_s: Callable[[], float]) -> None:
    try:
        received = subscriber.receive(timeout_s=0.25)
    except GapError as gap:
        tally.gone += gap.stop - gap.first
        screen.gap(gap)
        return
    if received is not None:
        tally.count(received, clock_s())
        screen.message(received)


def find_station(publisher: str, *, timeout_s: float | None = None, curve: CurveClient | None = None) -> str:
    """The name of the first station that is heard at an endpoint; a station is heard at each heartbeat.

    Args:
        publisher: PUB endpoint.
        timeout_s: The longest wait in seconds; None waits for ever.
        curve: Encryption; None speaks in clear.

    Raises:
        WireError: None was heard in time.
        ConfigError: The endpoint is none, or a key file is bad.
    """
    with zmq.Context() as context, open_socket(context, zmq.SUB, {zmq.LINGER: 0}) as socket:
        socket.subscribe("")
        connect("watch", socket, publisher, curve)
        if not socket.poll(None if timeout_s is None else round(timeout_s * 1000)):
            raise WireError(
                f"watch: heard nothing at {publisher} for {timeout_s} s, expected a heartbeat each second. "
                "Check that the station runs, the endpoint, and the firewall between."
            )
        return socket.recv_multipart()[0].decode(errors="replace").partition("/")[0]


def replay_beside(publisher: str) -> str:
    """The replay endpoint where nobody said another: the port after the publisher's.

    >>> replay_beside("tcp://mill:5556")
    'tcp://mill:5557'

    Raises:
        ConfigError: The endpoint has no port.
    """
    address, _, port = publisher.rpartition(":")
    if not port.isdecimal():
        raise ConfigError(
            f"watch: found endpoint {publisher!r}, expected one with a port, such as 'tcp://127.0.0.1:5556'. "
            "Name the replay's endpoint yourself."
        )
    return f"{address}:{int(port) + 1}"
