"""Asking the replay for a range of messages until it has been had."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import zmq
from pydantic import ValidationError

from runtime.delivery.replay_requests import ReplayBegin, ReplayEnd, ReplayError, ReplayRequest
from runtime.delivery.sockets import Context, CurveClient, Socket, connect, open_socket
from runtime.errors import WireError
from runtime.messages import MESSAGE, Message, json_of

PATIENCE_FIRST_S = 0.5
"""The first wait for an answer, in seconds; it doubles each time that none comes."""

PATIENCE_MOST_S = 5.0
"""The longest wait, in seconds, before the request is sent again."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message as the consumer gets it.

    Attributes:
        message: What it says.
        blobs: Its further parts.
        recovered: Whether it came from the journal and not live.
    """

    message: Message
    blobs: tuple[bytes, ...]
    recovered: bool


class HistoryChangedError(WireError):
    """The station has another journal than the one this consumer knows: its numbers mean other messages."""


REFUSALS: dict[str, type[WireError]] = {"other_journal": HistoryChangedError}
"""The error for a reason of the replay; any other one is a plain `WireError`."""


class ReplayClient:
    """One question at a time to the replay service, asked again with growing patience until answered.

    Each new attempt has a new socket: what an old one may still have under way cannot come in between.

    Args:
        endpoint: Where the replay is bound; it need not be there yet.
        station: Whose messages.
        context: ZeroMQ context.
        clock_s: Monotonic clock in seconds.
        curve: Encryption; None speaks in clear.

    Raises:
        ConfigError: The endpoint is none, or a key file is bad.
    """

    def __init__(
        self,
        endpoint: str,
        station: str,
        *,
        context: Context,
        clock_s: Callable[[], float],
        curve: CurveClient | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._station = station
        self._context = context
        self._clock_s = clock_s
        self._curve = curve
        self._patience_s = PATIENCE_FIRST_S
        self._give_up_s = 0.0
        self._wanted: tuple[int, int] | None = None
        self._journal: str | None = None
        self._socket = self._connect()

    @property
    def asking(self) -> bool:
        """Whether an answer is due."""
        return self._wanted is not None

    def ask(self, first: int, stop: int, journal: str | None = None) -> None:
        """Ask for the messages [first, stop), of this journal and no other; None takes any."""
        self._wanted = first, stop
        self._journal = journal
        request = ReplayRequest(station=self._station, journal=journal, first=first, stop=stop)
        self._socket.send(json_of(request))
        self._give_up_s = self._clock_s() + self._patience_s

    def receive(self, timeout_s: float) -> ReplayBegin | Received | ReplayEnd | None:
        """The next part of the answer; None if nothing came in time.

        After the `ReplayEnd` the question is answered.

        Raises:
            HistoryChangedError: The line has another journal.
            WireError: The service refuses the request for good, or speaks another version.
        """
        if self._wanted is None:
            raise ValueError("nothing was asked")
        wait_s = min(timeout_s, self._give_up_s - self._clock_s())
        if self._socket.poll(max(0, math.ceil(wait_s * 1000))):
            self._patience_s = PATIENCE_FIRST_S
            self._give_up_s = self._clock_s() + self._patience_s
            return self._read(self._wanted[1], self._socket.recv_multipart())
        if self._clock_s() >= self._give_up_s:
            self._ask_again(*self._wanted)
        return None

    def close(self) -> None:
        """Close the socket; calling it again does nothing."""
        self._socket.close(linger=0)

    def _read(self, stop: int, parts: list[bytes]) -> ReplayBegin | Received | ReplayEnd | None:
        who = f"replay {self._endpoint}"
        try:
            return self._part(who, stop, parts)
        except ValidationError as error:
            self._forget()
            raise unreadable(who, error) from error
        except WireError:
            self._forget()
            raise

    def _part(self, who: str, stop: int, parts: list[bytes]) -> ReplayBegin | Received | ReplayEnd | None:
        match parts:
            case [b"message", _, text, *blobs]:
                message = MESSAGE.validate_json(text)
                # Should the rest not come, only the rest is asked for.
                self._wanted = message.sequence + 1, stop
                return Received(message, tuple(blobs), recovered=True)
            case [b"begin", text]:
                return ReplayBegin.model_validate_json(text)
            case [b"end", text]:
                end = ReplayEnd.model_validate_json(text)
                self._wanted = None
                return end
            case [b"error", text]:
                error = ReplayError.model_validate_json(text)
                if error.reason == "unavailable":
                    return None
                raise REFUSALS.get(error.reason, WireError)(f"{who}: {error.error}")
            case _:
                raise WireError(f"{who}: found an answer {parts[0][:20]!r}, expected a replay's. Check the port.")

    def _forget(self) -> None:
        """Drop the question and whatever is still under way in answer to it."""
        self._wanted = None
        self._socket.close(linger=0)
        self._socket = self._connect()

    def _ask_again(self, first: int, stop: int) -> None:
        self._forget()
        self._patience_s = min(2 * self._patience_s, PATIENCE_MOST_S)
        self.ask(first, stop, self._journal)

    def _connect(self) -> Socket:
        # The answer's length is bounded by the server; a queue that drops would cost another round.
        socket = open_socket(self._context, zmq.DEALER, {zmq.RCVHWM: 0})
        connect(f"subscriber of {self._station}", socket, self._endpoint, self._curve)
        return socket


def unreadable(who: str, error: ValidationError) -> WireError:
    """The error for a message that this version cannot read."""
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"])) or "the whole"
    return WireError(
        f"{who}: found a message that is not valid at {place} ({first['msg']}), expected the kinds and "
        "versions of docs/wire.md. Bring the line and its consumers to the same version."
    )
