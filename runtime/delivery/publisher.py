"""Journal a batch, then publish it: the one way out of a station."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import TracebackType

import zmq

from runtime.delivery.journal import Journal, record_of
from runtime.delivery.sockets import Context, CurveServer, bind, open_socket
from runtime.messages import Heartbeat, Message, StationState, json_of, topic_of, utc_text

_MORE, _LAST = int(zmq.DONTWAIT | zmq.SNDMORE), int(zmq.DONTWAIT)

LINGER_MS = 500
"""How long what was published last may still leave after `close`."""


class Publisher:
    """The PUB socket of one station, and its place in the sequence.

    A message is in the journal before anyone hears of it. Who is too slow loses messages here, and asks the
    replay for them: publishing never waits for a subscriber.

    The caller numbers the messages, from `next_sequence` on:

    ```
    first = publisher.next_sequence
    publisher.publish([result.to_message(first + i) for i, result in enumerate(results)])
    ```

    Args:
        endpoint: Where to bind, such as `tcp://127.0.0.1:5556`.
        journal: Open to write; the publisher does not close it.
        station: Whose messages these are; the line is the journal's.
        context: The process's ZeroMQ context.
        clock_ns: Monotonic clock in nanoseconds.
        wall: Wall time, with a time zone.
        heartbeat_s: Silence after which `beat` sends a heartbeat, in seconds.
        send_queue: Messages held for a slow subscriber; what comes on top is dropped for it.
        curve: Encryption; None publishes in clear.

    Raises:
        ConfigError: The endpoint is taken, or is none.
        JournalError: The journal cannot be read.
    """

    def __init__(
        self,
        endpoint: str,
        journal: Journal,
        *,
        station: str,
        context: Context,
        clock_ns: Callable[[], int],
        wall: Callable[[], datetime],
        heartbeat_s: float = 1.0,
        send_queue: int = 10_000,
        curve: CurveServer | None = None,
    ) -> None:
        self.station = station
        self._journal = journal
        self._clock_ns = clock_ns
        self._wall = wall
        self._heartbeat_ns = round(heartbeat_s * 1e9)
        self._next_sequence = journal.next_sequence(station)
        self._last_sequence = journal.last_sequence(station)
        open_run = journal.open_run(station)
        self._run = "" if open_run is None else open_run.run
        self._socket = open_socket(context, zmq.PUB, {zmq.SNDHWM: send_queue})
        if curve is not None:
            curve.protect(self._socket)
        self.endpoint = bind(f"publisher {station}", self._socket, endpoint)
        self._sent_ns = clock_ns()

    @property
    def next_sequence(self) -> int:
        """The sequence that the next message must have."""
        return self._next_sequence

    def publish(self, messages: Sequence[Message], blobs: Mapping[int, tuple[bytes, ...]] | None = None) -> None:
        """Journal messages in one commit, then send them.

        Args:
            messages: Of this station and line, numbered from `next_sequence` without a hole.
            blobs: Further parts of messages, by sequence: pictures, masks.

        Raises:
            ValueError: A message is numbered wrongly, is of another station or line, or a heartbeat.
            JournalError: The journal refused the batch; none of it was sent, and it may be tried again.
        """
        if not messages:
            return
        blobs = blobs or {}
        for due, message in enumerate(messages, self._next_sequence):
            if message.kind == "heartbeat" or (message.sequence, message.station, message.line) != (
                due,
                self.station,
                self._journal.line,
            ):
                raise ValueError(
                    f"publisher {self.station}: found {message.kind} {message.sequence} of {message.line}/"
                    f"{message.station}, expected number {due} of {self._journal.line}/{self.station}. "
                    "Number messages from next_sequence, and send a heartbeat with beat()."
                )
        records = [record_of(message, blobs.get(message.sequence, ())) for message in messages]
        self._journal.append(records)
        self._next_sequence += len(records)
        self._last_sequence = self._next_sequence - 1
        self._run = messages[-1].run
        for record in records:
            self._send(record.topic, record.json, record.blobs)
        self._sent_ns = self._clock_ns()

    def beat(self, state: StationState, *, frames_inspected: int = 0, frames_missed: int = 0) -> bool:
        """Send a heartbeat if nothing was sent for `heartbeat_s`; gives whether it did.

        Args:
            state: What the station does.
            frames_inspected: Of the run so far.
            frames_missed: Of the run so far.
        """
        now_ns = self._clock_ns()
        if now_ns - self._sent_ns < self._heartbeat_ns:
            return False
        heartbeat = Heartbeat(
            line=self._journal.line,
            station=self.station,
            run=self._run,
            sequence=self._last_sequence,
            captured_at=utc_text(self._wall()),
            state=state,
            frames_inspected=frames_inspected,
            frames_missed=frames_missed,
        )
        self._send(topic_of(heartbeat), json_of(heartbeat), ())
        self._sent_ns = now_ns
        return True

    def close(self) -> None:
        """Close the socket, letting what was sent leave; calling it again does nothing."""
        self._socket.close(linger=LINGER_MS)

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, topic: str, json: bytes, blobs: tuple[bytes, ...]) -> None:
        # A PUB socket drops for a peer whose queue is full; it never blocks and never raises EAGAIN.
        socket = self._socket
        socket.send(topic.encode(), _MORE)
        for part in blobs:
            socket.send(json, _MORE)
            json = part
        socket.send(json, _LAST)
