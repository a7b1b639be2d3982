"""The station's desk: what every message carries, its number, and patience with the journal."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from runtime.errors import JournalError

if TYPE_CHECKING:
    from runtime.delivery.publisher import Publisher
    from runtime.messages import Message, StationState

log = logging.getLogger(__name__)

RETRY_S = 0.5


class StationDesk:
    """Numbers messages, stamps them with wall time, and hands them to the publisher in batches.

    Args:
        publisher: Journals and sends.
        line: Name of the line.
        run: What is on the line.
        patience_s: How long a journal that refuses is tried again before the station gives up. The ring takes
            what the camera delivers meanwhile, and what it cannot take is published as missed.
        clock_ns: Monotonic clock, the same that stamps the frames.
        wall_ns: Wall time, nanoseconds since 1970.
        sleep_s: Waits between two tries.
    """

    def __init__(
        self,
        publisher: Publisher,
        *,
        line: str,
        run: str,
        patience_s: float = 10.0,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
        sleep_s: Callable[[float], None] = time.sleep,
    ) -> None:
        self._publisher = publisher
        self._line = line
        self._run = run
        self._patience_s = patience_s
        self._clock_ns = clock_ns
        self._wall_ns = wall_ns
        self._sleep_s = sleep_s
        self._given = 0
        self._second = -1
        self._second_text = ""

    def envelope(self, captured_ns: int) -> dict[str, Any]:
        """What every message carries, with the next number; `captured_ns` is a moment of the monotonic clock."""
        fields = {
            "line": self._line,
            "station": self._publisher.station,
            "run": self._run,
            "sequence": self._publisher.next_sequence + self._given,
            "captured_at": self._utc_text((self._wall_ns() - self._clock_ns() + captured_ns) // 1000),
        }
        self._given += 1
        return fields

    def publish(self, messages: Sequence[Message]) -> None:
        """Journal and publish; a journal that refuses is tried again for `patience_s`.

        Raises:
            JournalError: It still refuses; nothing of the batch was published.
        """
        self._given = 0
        patience = self._clock_ns() + round(self._patience_s * 1e9)
        while True:
            try:
                self._publisher.publish(messages)
            except JournalError as error:
                if self._clock_ns() >= patience:
                    raise
                log.warning("the journal refused a batch, trying again: %s", error)
                self._sleep_s(RETRY_S)
            else:
                return

    def idle(self, state: StationState = "running", inspected: int = 0, missed: int = 0) -> None:
        """Send a heartbeat if one is due."""
        self._publisher.beat(state, frames_inspected=inspected, frames_missed=missed)

    def _utc_text(self, wall_us: int) -> str:
        """`runtime.messages.utc_text` of a moment in microseconds; all but the fraction is kept for its second."""
        second, fraction_us = divmod(wall_us, 1_000_000)
        if second != self._second:
            self._second = second
            self._second_text = datetime.fromtimestamp(second, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._second_text}.{fraction_us:06d}+00:00"
