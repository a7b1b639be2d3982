"""Replay: any range of the journal again, for whoever missed it, without a word to the line.

A thread of its own with a connection of its own to the journal: a slow disk or a greedy consumer costs the
loop nothing but its share of the processor.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import zmq
from pydantic import ValidationError

from runtime.delivery.journal_reader import JournalReader
from runtime.delivery.replay_requests import ReplayBegin, ReplayEnd, ReplayError, ReplayReason, ReplayRequest
from runtime.delivery.sockets import Context, CurveServer, bind, open_socket
from runtime.errors import JournalError
from runtime.messages import json_of

CHUNK_MESSAGES = 1000
"""The most messages of one answer; the consumer asks on."""

CHUNK_BYTES = 8 << 20
"""An answer ends after the message that passes this size."""

REQUEST_BYTES = 4096
"""A longer request is cut off with its connection: an honest one has some 100 bytes."""

SEND_QUEUE = 3 * CHUNK_MESSAGES
"""Messages held for a peer that does not read. Two answers must fit, because ZeroMQ learns only half a queue
later of what was read."""

LINGER_MS = 500
"""How long a last answer may still leave after `close`."""


class ReplayServer:
    """Answers replay requests from the moment it is made until it is closed.

    Make it after the publisher, so that the journal knows the station that it will be asked for.

    Args:
        endpoint: Where to bind the ROUTER socket.
        journal: The journal's file; it must exist.
        context: The process's ZeroMQ context.
        curve: Encryption; None answers in clear.

    Raises:
        ConfigError: The endpoint is taken, or is none.
        JournalError: There is no such journal.
    """

    def __init__(self, endpoint: str, journal: Path, *, context: Context, curve: CurveServer | None = None) -> None:
        self._reader = JournalReader(journal)
        self._socket = open_socket(
            context,
            zmq.ROUTER,
            {
                # Without it a full queue drops in silence; with it a send says that the peer is full or gone.
                zmq.ROUTER_MANDATORY: 1,
                zmq.SNDHWM: SEND_QUEUE,
                zmq.MAXMSGSIZE: REQUEST_BYTES,
            },
        )
        if curve is not None:
            curve.protect(self._socket)
        try:
            self.endpoint = bind("replay", self._socket, endpoint)
        except BaseException:
            self._reader.close()
            raise
        stop_endpoint = f"inproc://replay-stop-{id(self)}"
        self._stop_receiver = context.socket(zmq.PAIR)
        self._stop_receiver.bind(stop_endpoint)
        self._stop_sender = context.socket(zmq.PAIR)
        self._stop_sender.connect(stop_endpoint)
        self._thread = threading.Thread(target=self._serve, name="replay", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it still answers."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Finish the answer under way and stop; calling it again does nothing."""
        if not self._stop_sender.closed:
            self._stop_sender.send(b"")
            self._thread.join()
            self._stop_sender.close()

    def __enter__(self) -> ReplayServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _serve(self) -> None:
        """The thread: the sockets are its own from here on."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._stop_receiver, zmq.POLLIN)
        try:
            while True:
                ready = dict(poller.poll())
                if self._stop_receiver in ready:
                    return
                peer, *frames = self._socket.recv_multipart()
                self._answer(peer, frames)
        finally:
            self._socket.close(linger=LINGER_MS)
            self._stop_receiver.close()
            self._reader.close()

    def _answer(self, peer: bytes, frames: list[bytes]) -> None:
        """Send all parts of an answer; one that its peer does not take is given up, to be asked for again."""
        try:
            for parts in self._parts(frames):
                self._socket.send_multipart((peer, *parts), zmq.DONTWAIT)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                raise

    def _parts(self, frames: list[bytes]) -> Iterator[tuple[bytes, ...]]:
        """The begin, the messages asked for and the end; or the error."""
        try:
            request = _parse(frames)
            _check(request, self._reader.stations(), self._reader.identity)
            # The end is read before the rows: what comes in meanwhile belongs to the next request.
            last = self._reader.last_sequence(request.station)
            stop = max(request.first, min(request.stop, last + 1))
            records = self._reader.read(request.station, request.first, stop, CHUNK_MESSAGES, CHUNK_BYTES)
        except ReplayRequestError as error:
            yield _refusal(error.reason, error)
            return
        except JournalError as error:
            yield _refusal("unavailable", error)
            return
        yield b"begin", json_of(ReplayBegin(station=request.station, journal=self._reader.identity))
        for record in records:
            yield b"message", record.topic.encode(), record.json, *record.blobs
        if len(records) == CHUNK_MESSAGES or sum(record.size_bytes for record in records) >= CHUNK_BYTES:
            stop = records[-1].sequence + 1
        end = ReplayEnd(
            station=request.station,
            first=request.first,
            stop=stop,
            last_sequence=last,
        )
        yield b"end", json_of(end)


class ReplayRequestError(ValueError):
    """A request that will not be met however often it is sent."""

    def __init__(self, reason: ReplayReason, text: str) -> None:
        super().__init__(text)
        self.reason: ReplayReason = reason


def _refusal(reason: ReplayReason, error: Exception) -> tuple[bytes, ...]:
    return b"error", json_of(ReplayError(reason=reason, error=f"replay: {error}"))


def _parse(frames: list[bytes]) -> ReplayRequest:
    if len(frames) != 1:
        raise ReplayRequestError(
            "bad_request", f"found a request of {len(frames)} parts, expected 1. Send the JSON alone."
        )
    try:
        return ReplayRequest.model_validate_json(frames[0], strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise ReplayRequestError(
            "bad_request",
            f"found a request that is not valid at {place}: {first['msg']}, expected schema, station, first "
            "and stop. See docs/wire.md.",
        ) from error


def _check(request: ReplayRequest, stations: list[str], identity: str) -> None:
    if request.station not in stations:
        raise ReplayRequestError(
            "unknown_station",
            f"found a request for station {request.station!r}, expected one of {stations}. Correct the name.",
        )
    if request.journal not in (None, identity):
        raise ReplayRequestError(
            "other_journal",
            f"found a request for journal {request.journal}, expected {identity}: the line has begun a new "
            "journal, where the same numbers are other messages. Begin again at its start, without a cursor.",
        )
    if request.stop < request.first:
        raise ReplayRequestError(
            "bad_request", f"found the range [{request.first}, {request.stop}), expected first <= stop."
        )
