"""Reading the journal, also while another process or thread writes it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from runtime.delivery.journal_tables import check_readable
from runtime.errors import JournalError
from runtime.messages import Coverage, RunStarted

NOTHING = -1
"""The last sequence of a station without messages."""


class Record(NamedTuple):
    """One journaled message, as a row.

    Attributes:
        first_index: First frame that the message answers for; None where it answers for none.
        stop_index: One past the last such frame.
        captured_at: Wall time as the message has it, by which old rows are told.
        json: The JSON part as it was published.
        blobs: The further parts.
        image_sha256: Of the picture's file that the message answers for; None where there was none.
    """

    station: str
    sequence: int
    kind: str
    run: str
    first_index: int | None
    stop_index: int | None
    captured_at: str
    json: bytes
    blobs: tuple[bytes, ...] = ()
    image_sha256: str | None = None

    @property
    def topic(self) -> str:
        """What it is published under: `station/kind`."""
        return f"{self.station}/{self.kind}"

    @property
    def size_bytes(self) -> int:
        """Bytes of the JSON and the blobs."""
        return len(self.json) + sum(map(len, self.blobs))


_FAULTS: dict[str, tuple[str, str]] = {
    "database or disk is full": (
        "room on the disk",
        "Free some, or set a retention; what was not written was not published",
    ),
    "disk i/o error": (
        "a disk that takes and gives the file",
        "Look at the disk's own messages (dmesg) and its free room",
    ),
    "attempt to write a readonly database": (
        "a file and folder that may be written",
        "Change their owner or mode, or name another path",
    ),
    "unable to open database file": (
        "an existing folder that may be written",
        "Make the folder, change its mode, or name another path",
    ),
    "file is not a database": (
        "an SQLite file that the journal made",
        "Name another path, or move this file away",
    ),
    "database disk image is malformed": (
        "a whole journal",
        "Move the file away and keep it: 'sqlite3 FILE .recover' saves what can be read",
    ),
    "unique constraint failed: message.station, message.sequence": (
        "a sequence number that is not in the journal yet",
        "Continue from 'next_sequence'",
    ),
    "unique constraint failed: scored_image.station, scored_image.sha256": (
        "a picture that was not scored yet",
        "Ask 'scored_as' first, and answer with what was said then",
    ),
}
"""SQLite's words for a fault, then what was expected and what to do."""


def explain(path: Path, doing: str, error: sqlite3.Error) -> JournalError:
    """The journal's error for an SQLite one."""
    expected, remedy = next(
        (words for fault, words in _FAULTS.items() if fault in str(error).lower()),
        ("a journal in order", "Look at the disk and the file's mode"),
    )
    return JournalError(f"journal {path}: {doing}: found {error}, expected {expected}. {remedy}.")


class JournalReader:
    """The journal as others see it: committed messages, never a half-written batch.

    Args:
        path: The journal's file; it must exist.

    Raises:
        JournalError: No such file, not a journal, or one of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            # Read-only is a property of this connection: a slip in a query cannot harm the journal.
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
            )
            try:
                check_readable(path, self._connection)
                self.identity, self.line = self._one("SELECT identity, line FROM journal")
            except BaseException:
                self._connection.close()
                raise
        except sqlite3.Error as error:
            raise explain(path, "open for reading", error) from error

    def stations(self) -> list[str]:
        """The stations that ever opened the journal, by name."""
        return [name for (name,) in self._rows("SELECT name FROM station ORDER BY name")]

    def last_sequence(self, station: str) -> int:
        """The newest sequence number of a station; -1 without messages."""
        (last,) = self._one("SELECT MAX(sequence) FROM message WHERE station = ?", station)
        return NOTHING if last is None else last

    def read(
        self, station: str, first: int, stop: int, limit: int = 1000, limit_bytes: int | None = None
    ) -> list[Record]:
        """The messages with sequence in [first, stop), in order.

        Args:
            station: Whose messages.
            first: The first sequence.
            stop: One past the last.
            limit: The most messages to give.
            limit_bytes: Stop after the message that passes this many bytes of JSON and blobs.

        Returns:
            What the journal has; fewer where it ends, where retention deleted, or at a limit.
        """
        records: list[Record] = []
        held_bytes = 0
        rows = self._rows(
            "SELECT station, sequence, kind, run, first_index, stop_index, captured_at,"
            " CAST(json AS BLOB), blob_count, image_sha256 FROM message"
            " WHERE station = ? AND sequence >= ? AND sequence < ? ORDER BY sequence LIMIT ?",
            station,
            first,
            stop,
            limit,
        )
        for *columns, blob_count, image_sha256 in rows:
            record = Record(*columns, image_sha256=image_sha256)
            if blob_count:
                record = record._replace(blobs=self._blobs(station, record.sequence))
            records.append(record)
            held_bytes += record.size_bytes
            if limit_bytes is not None and held_bytes >= limit_bytes:
                break
        return records

    def scored_as(self, station: str, image_sha256: str) -> int | None:
        """The sequence of the message that scored a picture; None if none did. Retention does not forget it."""
        rows = self._rows("SELECT sequence FROM scored_image WHERE station = ? AND sha256 = ?", station, image_sha256)
        return rows[0][0] if rows else None

    def missed_as(self, station: str, image_sha256: str) -> int | None:
        """The sequence of the newest message that gave a picture up; None if none did."""
        (sequence,) = self._one(
            "SELECT MAX(sequence) FROM message WHERE station = ? AND image_sha256 = ? AND kind = 'missed'",
            station,
            image_sha256,
        )
        return sequence

    def override_of(self, station: str, scored_sequence: int) -> Record | None:
        """The last word of an operator on a scored message; None where nobody objected."""
        (sequence,) = self._one(
            "SELECT MAX(sequence) FROM message WHERE station = ? AND kind = 'overridden'"
            " AND json_extract(json, '$.scored_sequence') = ?",
            station,
            scored_sequence,
        )
        return None if sequence is None else self.read(station, sequence, sequence + 1)[0]

    def open_run(self, station: str) -> RunStarted | None:
        """The run that began and has not ended; None between runs. After a kill, this is what to close."""
        start = open_run_start(self._connection, station)
        if start is None:
            return None
        (text,) = self._one("SELECT json FROM message WHERE station = ? AND sequence = ?", station, start)
        return RunStarted.model_validate_json(text)

    def coverage(self, station: str, run: str) -> Coverage:
        """The books of a run, counted from its rows since it last started.

        `complete` holds only if the run's start is in the journal and the rows' frame ranges follow each
        other with no hole and no overlap from the first frame to the last.
        """
        (start,) = self._one(
            "SELECT MAX(sequence) FROM message WHERE station = ? AND run = ?"
            " AND kind IN ('run_started', 'run_ended') AND kind = 'run_started'",
            station,
            run,
        )
        first, stop, inspected, missed, breaks = self._one(
            "SELECT MIN(first_index), MAX(stop_index), TOTAL(kind IN ('inspected', 'scored')),"
            " TOTAL(CASE kind WHEN 'missed' THEN stop_index - first_index END), TOTAL(first_index <> due)"
            " FROM (SELECT kind, first_index, stop_index,"
            "  LAG(stop_index) OVER (ORDER BY first_index, stop_index) AS due FROM message"
            "  WHERE station = ? AND sequence >= ? AND run = ? AND first_index IS NOT NULL)",
            station,
            start or 0,
            run,
        )
        return Coverage(
            frames_expected=0 if first is None else stop - first,
            frames_inspected=int(inspected),
            frames_missed=int(missed),
            complete=start is not None and not breaks,
        )

    def close(self) -> None:
        """Close the file; calling it again does nothing."""
        self._connection.close()

    def __enter__(self) -> JournalReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _blobs(self, station: str, sequence: int) -> tuple[bytes, ...]:
        rows = self._rows("SELECT data FROM blob WHERE station = ? AND sequence = ? ORDER BY part", station, sequence)
        return tuple(data for (data,) in rows)

    def _rows(self, query: str, *parameters: object) -> list[Any]:
        with self._guarded("read"):
            return self._connection.execute(query, parameters).fetchall()

    def _one(self, query: str, *parameters: object) -> Any:
        return self._rows(query, *parameters)[0]

    @contextmanager
    def _guarded(self, doing: str) -> Iterator[None]:
        """One thread at a time, and SQLite's errors told as the journal's."""
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise explain(self.path, doing, error) from error


def open_run_start(connection: sqlite3.Connection, station: str) -> int | None:
    """The sequence of the `run_started` that no `run_ended` follows."""
    last = connection.execute(
        "SELECT sequence, kind FROM message WHERE station = ?"
        " AND kind IN ('run_started', 'run_ended') ORDER BY sequence DESC LIMIT 1",
        (station,),
    ).fetchone()
    return last[0] if last is not None and last[1] == "run_started" else None
