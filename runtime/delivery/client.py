"""The subscriber that misses nothing: every message of a station once, in order.

Live messages come by PUB and may be lost; whatever is missing is fetched from the journal by the replay. The
rule is one: the next message that is handed out has the next sequence number, or an error says why not.

```
           start                      sequence jumps, or a heartbeat names one not seen
             |                     +---------------------------------------------------+
             v                     |                                                   v
      from the journal ----> live (SUB): hand out what is due          from the journal (DEALER)
             ^                     ^                                                   |
             |                     +---------------------------------------------------+
        cursor file                              nothing missing any more
```
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import zmq
from pydantic import ValidationError

from runtime.delivery.cursor import Cursor, read_cursor, write_cursor
from runtime.delivery.replay_client import HistoryChangedError, Received, ReplayClient, unreadable
from runtime.delivery.replay_requests import ReplayBegin, ReplayEnd
from runtime.delivery.sockets import Context, CurveClient, connect, open_socket
from runtime.errors import WireError
from runtime.messages import MAX_SEQUENCE, MESSAGE, Heartbeat

__all__ = ["GapError", "HistoryChangedError", "Received", "Subscriber"]

RECEIVE_QUEUE = 10_000
"""Live messages held while the consumer works; what comes on top is dropped, and fetched from the journal."""


class GapError(WireError):
    """Messages [first, stop) are gone for good: retention deleted them, or a power cut took them.

    The subscriber goes on behind the gap at the next `receive`.
    """

    def __init__(self, station: str, first: int, stop: int) -> None:
        super().__init__(
            f"subscriber of {station}: found no messages {first} to {stop - 1} in the journal, expected "
            "every one. Retention deleted them or a power cut took them; go on with 'receive'."
        )
        self.first = first
        self.stop = stop


class Subscriber:
    """Every message of one station once, in order, through lost packets and restarts of either side.

    Where it begins: after the cursor's sequence if there is a cursor file; else after `after`, where -1 (the
    default) is the very beginning of the journal and None is now. Exactly once holds for one `Subscriber`;
    across restarts of the consumer it goes on after what was last given to `ack`.

    It belongs to one thread. While the replay is away it hands out nothing that comes after a missing
    message: it waits, and asks again.

    Args:
        publisher: The station's PUB endpoint.
        replay: The station's replay endpoint.
        station: Its name.
        after: The last sequence that the consumer has had; -1 for none, None for "from now on".
        cursor: File that keeps the place across restarts; written by `ack`.
        curve: Encryption; None speaks in clear.
        context: ZeroMQ context; None makes one, which `close` ends.
        clock_s: Monotonic clock in seconds.

    Raises:
        ConfigError: An endpoint is none, or the cursor or a key file is bad.
    """

    def __init__(
        self,
        publisher: str,
        replay: str,
        *,
        station: str,
        after: int | None = -1,
        cursor: Path | None = None,
        curve: CurveClient | None = None,
        context: Context | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.station = station
        self.heartbeat: Heartbeat | None = None
        """The station's last heartbeat."""
        self._cursor = cursor
        self._clock_s = clock_s
        stored = None if cursor is None else read_cursor(cursor, station)
        begin = after if stored is None else stored.sequence
        self._journal = None if stored is None else stored.journal
        self._from_now = begin is None
        self._due = 0 if begin is None else begin + 1
        # Set while messages must come from the journal: one past the last of them. At first, all there are.
        self._missing_to: int | None = 0 if begin is None else MAX_SEQUENCE
        self._ahead: dict[int, Received] = {}
        self._heard_live = -1
        self._heard_s = clock_s()
        with ExitStack() as opened:
            if context is None:
                context = zmq.Context()
                opened.callback(context.term)
            self._live = open_socket(context, zmq.SUB, {zmq.RCVHWM: RECEIVE_QUEUE})
            opened.callback(self._live.close, linger=0)
            self._live.subscribe(f"{station}/")
            connect(f"subscriber of {station}", self._live, publisher, curve)
            self._replay = ReplayClient(replay, station, context=context, clock_s=clock_s, curve=curve)
            opened.callback(self._replay.close)
            self._opened = opened.pop_all()

    @property
    def silence_s(self) -> float:
        """Seconds since the station was last heard live; a good one is heard at each heartbeat at least."""
        return self._clock_s() - self._heard_s

    def receive(self, timeout_s: float) -> Received | None:
        """The next message of the station.

        Args:
            timeout_s: The longest wait in seconds.

        Returns:
            The message that is due; None if none came in time. Heartbeats are not handed out (see
            `heartbeat`).

        Raises:
            GapError: Messages are gone for good; the next call goes on behind them.
            HistoryChangedError: The journal is another one, so that no message of it can be called the next.
            WireError: A message of another version, or the replay refuses (an unknown station).
        """
        give_up_s = self._clock_s() + timeout_s
        while True:
            wait_s = max(0.0, give_up_s - self._clock_s())
            received = self._next(wait_s)
            if received is not None:
                self._due = received.message.sequence + 1
                return received
            if self._clock_s() >= give_up_s:
                return None

    def __iter__(self) -> Iterator[Received]:
        """Every message, waiting without end for the next; an error ends it, a new `for` goes on."""
        while True:
            received = self.receive(timeout_s=1.0)
            if received is not None:
                yield received

    def ack(self, sequence: int | None = None) -> None:
        """Note in the cursor file what the consumer has dealt with; it waits for the disk.

        Args:
            sequence: The last message dealt with; None is the last one handed out.

        Raises:
            ValueError: There is no cursor file, or nothing was handed out up to that sequence.
            ConfigError: The file cannot be written.
        """
        last = self._due - 1
        sequence = last if sequence is None else sequence
        if self._cursor is None or self._journal is None or sequence > last:
            raise ValueError(
                f"subscriber of {self.station}: cannot acknowledge {sequence}, expected a cursor file and "
                f"a message up to {last}. Give 'cursor' a path, and acknowledge what was received."
            )
        write_cursor(self._cursor, Cursor(station=self.station, journal=self._journal, sequence=sequence))

    def close(self) -> None:
        """Close the sockets; calling it again does nothing."""
        self._opened.close()

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next(self, wait_s: float) -> Received | None:
        """The due message, or None after one step towards it."""
        if self._due in self._ahead:
            return self._ahead.pop(self._due)
        if self._missing_to is not None:
            return self._recover(self._missing_to, wait_s)
        return self._listen(wait_s)

    def _listen(self, wait_s: float) -> Received | None:
        """Take one live message."""
        if not self._live.poll(math.ceil(wait_s * 1000)):
            return None
        received = self._parse(self._live.recv_multipart())
        self._heard_s = self._clock_s()
        message = received.message
        heard_before, self._heard_live = self._heard_live, message.sequence
        if isinstance(message, Heartbeat):
            self.heartbeat = message
            if message.sequence >= self._due or message.sequence < heard_before:
                self._missing_to = max(self._due, message.sequence + 1)
        elif message.sequence <= heard_before:
            # The numbers of one history only rise: let the journal say what is true.
            self._missing_to = max(self._due, message.sequence + 1)
        elif message.sequence == self._due:
            return received
        elif message.sequence > self._due:
            self._ahead[message.sequence] = received
            self._missing_to = message.sequence
        return None

    def _recover(self, missing_to: int, wait_s: float) -> Received | None:
        """Take one part of what the replay sends."""
        if not self._replay.asking:
            self._replay.ask(self._due, max(self._due, missing_to), self._journal)
        answer = self._replay.receive(wait_s)
        if isinstance(answer, ReplayBegin):
            self._journal = answer.journal
        elif isinstance(answer, ReplayEnd):
            self._settle(answer, missing_to)
        elif answer is not None:
            sequence = answer.message.sequence
            if sequence == self._due:
                return answer
            if sequence > self._due:
                self._ahead[sequence] = answer
                self._skip_to(sequence)
        return None

    def _settle(self, end: ReplayEnd, missing_to: int) -> None:
        """An answer is complete: ask on, go on live, or say that something is gone."""
        if self._from_now:
            self._from_now = False
            self._due = end.last_sequence + 1
        # A journal cannot be behind what it published: if it is, it was put back or replaced.
        heard_last = self._due - 1 if missing_to == MAX_SEQUENCE else max(self._due, missing_to) - 1
        if end.last_sequence < heard_last:
            raise HistoryChangedError(
                f"subscriber of {self.station}: found a journal up to message {end.last_sequence}, expected "
                f"{heard_last} in it. It was put back or replaced. Begin again with after=-1 and no cursor."
            )
        stop = min(missing_to, end.last_sequence + 1)
        if end.stop < stop:
            self._replay.ask(max(end.stop, self._due), missing_to, self._journal)
            return
        self._missing_to = None
        if self._due < stop:
            self._skip_to(stop)

    def _skip_to(self, sequence: int) -> None:
        gap = GapError(self.station, self._due, sequence)
        self._due = sequence
        raise gap

    def _parse(self, parts: list[bytes]) -> Received:
        who = f"subscriber of {self.station}"
        try:
            _, text, *blobs = parts
            return Received(MESSAGE.validate_json(text), tuple(blobs), recovered=False)
        except ValidationError as error:
            raise unreadable(who, error) from error
        except ValueError as error:
            raise WireError(
                f"{who}: found a message of {len(parts)} part, expected topic and JSON. Check the port."
            ) from error
