"""Asks a triggered station for scores, gives it an operator's word, and asks a station for a change of its bundle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

import zmq
from pydantic import ValidationError

from runtime.delivery.sockets import Context, CurveClient, connect, open_socket
from runtime.errors import WireError
from runtime.messages import MESSAGE, Message, json_of
from runtime.swap.requests import SwapRequest
from runtime.triggered.requests import ERROR, KNOWN, NEW, OverrideRequest, RequestError, RequestReason, ScoreRequest

TRIES = 3
"""How often a request is sent before it is given up. Sending it again is safe: a picture is scored once, and a bundle
that serves is not opened again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a station says to a request.

    Attributes:
        message: The message, as journaled and published: `scored`, `missed` or `overridden`; `swapped` or
            `swap_refused` where a bundle was asked for.
        known: It was there before this request.
    """

    message: Message
    known: bool


class RequestRefusedError(WireError):
    """The station does not meet the request; `reason` says why."""

    def __init__(self, error: RequestError) -> None:
        super().__init__(error.error)
        self.reason: RequestReason = error.reason


class RequestClient:
    """One station's request socket; for one thread.

    Args:
        endpoint: The station's request endpoint.
        station: Its name, which it then checks; None asks whoever is there.
        timeout_s: The longest wait for an answer before the request is sent again.
        curve: Encryption; None speaks in clear.
        context: ZeroMQ context; None makes one, which `close` ends.

    Raises:
        ConfigError: The endpoint is none, or a key file is bad.
    """

    def __init__(
        self,
        endpoint: str,
        station: str | None = None,
        *,
        timeout_s: float = 30.0,
        curve: CurveClient | None = None,
        context: Context | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._station = station
        self._timeout_s = timeout_s
        self._curve = curve
        with ExitStack() as opened:
            if context is None:
                context = zmq.Context()
                opened.callback(context.term)
            self._context = context
            self._socket = self._connect()
            self._opened = opened.pop_all()

    def score(self, data: bytes, source: str = "", facts: Mapping[str, str | float | None] | None = None) -> Answer:
        """The station's message on a picture: `scored`, or `missed` with the reason.

        Args:
            data: The bytes of the picture's file.
            source: What the message calls it.
            facts: What is known of it; see `runtime.facts.Facts`.

        Raises:
            RequestRefusedError: The station takes no such request.
            WireError: It does not answer, or speaks another version.
        """
        request = ScoreRequest(station=self._station, source=source, facts=dict(facts or {}))
        return self._ask([json_of(request), data])

    def override(
        self, scored_sequence: int, verdict: Literal["accepted", "rejected"], name: str, reason: str
    ) -> Answer:
        """Journal and publish an operator's word on a scored picture.

        Args:
            scored_sequence: Of the scored message.
            verdict: What holds from now on.
            name: Who says so.
            reason: Why.

        Raises:
            ValueError: The name or the reason is blank.
            RequestRefusedError: There is no such scored message.
            WireError: The station does not answer, or speaks another version.
        """
        request = OverrideRequest(
            station=self._station, scored_sequence=scored_sequence, verdict=verdict, name=name, reason=reason
        )
        return self._ask([json_of(request)])

    def swap(self, bundle: str, name: str, reason: str = "") -> Answer:
        """Have a station go on with another bundle; `swap_refused` where the old one serves on.

        Args:
            bundle: Its folder, from the station's folder of bundles on.
            name: Who asks.
            reason: Why.

        Raises:
            ValueError: The name is blank.
            RequestRefusedError: The station takes no such request, or the bundle serves already.
            WireError: It does not answer, or speaks another version.
        """
        return self._ask([json_of(SwapRequest(station=self._station, bundle=bundle, name=name, reason=reason))])

    def close(self) -> None:
        """Close the socket; calling it again does nothing."""
        self._socket.close(linger=0)
        self._opened.close()

    def __enter__(self) -> RequestClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, parts: list[bytes]) -> Answer:
        for _ in range(TRIES):
            self._socket.send_multipart(parts)
            if self._socket.poll(math.ceil(self._timeout_s * 1000)):
                return self._read(self._socket.recv_multipart())
            # An answer that comes too late must not be taken for that of the next request.
            self._socket.close(linger=0)
            self._socket = self._connect()
        raise WireError(
            f"request: found no answer at {self._endpoint} after {TRIES} tries of {self._timeout_s:g} s, expected one. "
            "Check that the station runs and the endpoint; a file far larger than its max_bytes is not answered."
        )

    def _read(self, parts: list[bytes]) -> Answer:
        try:
            match parts:
                case [word, _, text, *_] if word in (NEW, KNOWN):
                    return Answer(MESSAGE.validate_json(text), word == KNOWN)
                case [word, text] if word == ERROR:
                    raise RequestRefusedError(RequestError.model_validate_json(text))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "the whole"
            raise WireError(
                f"request: found an answer that is not valid at {place}: {first['msg']}, expected one of this version. "
                "Use the ferrosight that the station runs."
            ) from error
        raise WireError(
            f"request: found an answer of {len(parts)} parts, expected a message or an error. Check the port."
        )

    def _connect(self) -> zmq.Socket[bytes]:
        socket = open_socket(self._context, zmq.DEALER, {zmq.LINGER: 0})
        connect("request", socket, self._endpoint, self._curve)
        return socket
