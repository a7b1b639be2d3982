"""The ROUTER socket of a triggered station: requests in, one answer to each, in the order of the requests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

import zmq

from runtime.delivery.sockets import Context, CurveServer, bind, open_socket
from runtime.messages import Message, json_of, topic_of
from runtime.triggered.requests import ERROR, HEADER_BYTES, KNOWN, NEW, RefusedError

WAITING_REQUESTS = 8
"""Requests held for each peer until their turn; what comes on top waits at the peer."""

LINGER_MS = 1000
"""How long a last answer may still leave after `close`."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a peer sent.

    Attributes:
        envelope: What its answer begins with: the peer, and the empty part that a REQ socket wants back.
        parts: What was asked.
    """

    envelope: tuple[bytes, ...]
    parts: list[bytes]


class RequestSocket:
    """Takes requests from REQ and DEALER sockets.

    A part somewhat larger than `max_bytes` is read, so that its sender can be told; from twice that on the
    connection is cut, so that nobody fills the memory.

    Args:
        endpoint: Where to bind.
        max_bytes: Of the largest picture file.
        context: The process's ZeroMQ context.
        curve: Encryption; None answers in clear.

    Raises:
        ConfigError: The endpoint is taken, or is none.
    """

    def __init__(self, endpoint: str, max_bytes: int, *, context: Context, curve: CurveServer | None = None) -> None:
        self._max_bytes = max_bytes
        self._socket = open_socket(
            context,
            zmq.ROUTER,
            {
                # Without it an answer to a peer that has gone is dropped in silence; with it that is an error.
                zmq.ROUTER_MANDATORY: 1,
                zmq.RCVHWM: WAITING_REQUESTS,
                zmq.MAXMSGSIZE: 2 * max_bytes + HEADER_BYTES,
            },
        )
        if curve is not None:
            curve.protect(self._socket)
        self.endpoint = bind("request", self._socket, endpoint)

    def wait(self, timeout_s: float) -> bool:
        """Wait for a request; gives whether one is there."""
        return bool(self._socket.poll(math.ceil(timeout_s * 1000)))

    def receive(self) -> Request | None:
        """The next request; None if none is waiting."""
        try:
            peer, *parts = self._socket.recv_multipart(zmq.DONTWAIT)
        except zmq.Again:
            return None
        return Request((peer, b""), parts[1:]) if parts and not parts[0] else Request((peer,), parts)

    def check_size(self, request: Request) -> None:
        """Refuse what is too large.

        Raises:
            RefusedError: It is.
        """
        largest = max(map(len, request.parts[1:]), default=0)
        if largest > self._max_bytes:
            raise RefusedError(
                "too_large",
                f"found a picture of {largest} bytes, expected at most {self._max_bytes}. "
                "Compress it, or raise max_bytes in the station's trigger table.",
            )

    def tell(self, request: Request, message: Message, *, known: bool) -> None:
        """Answer with a message."""
        self._send(request, (KNOWN if known else NEW, topic_of(message).encode(), json_of(message)))

    def refuse(self, request: Request, error: RefusedError) -> None:
        """Answer that the request is not met."""
        self._send(request, (ERROR, json_of(error.answer())))

    def close(self) -> None:
        """Close the socket, letting the last answers leave; calling it again does nothing."""
        self._socket.close(linger=LINGER_MS)

    def __enter__(self) -> RequestSocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, request: Request, parts: Sequence[bytes]) -> None:
        try:
            self._socket.send_multipart((*request.envelope, *parts), zmq.DONTWAIT)
        except zmq.ZMQError as error:
            # A peer that has gone, or does not read: it asks again, and is told what is known by then.
            if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                raise
