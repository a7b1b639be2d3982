"""The journal: every message on disk before it is published, and its place in the sequence.

One SQLite file, written by one process, read by any number at the same time (write-ahead log). A batch is one
commit. What survives:

- the process killed at any moment (SIGKILL, out of memory, a crash): every commit;
- the machine without power: every commit up to the last checkpoint, and maybe not those of the last seconds
  (`synchronous=NORMAL` waits for the disk at checkpoints only; `wait_for_disk` makes it FULL, and loses none).
  Such messages may have been published, so their numbers must never go to other messages: a journal that was
  open when the machine went down goes on `POWER_CUT_SKIP` numbers further, and a consumer sees the jump as a gap.

A picture is scored once: which ones were is kept beside the messages, by the SHA-256 of the picture's file, and
stays when retention deletes the message. The commit of a second score is refused by the table itself.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any

from runtime.delivery.checkpoint import CHECKPOINT_PAGES, Checkpointer
from runtime.delivery.journal_reader import JournalReader, Record, explain, open_run_start
from runtime.delivery.journal_tables import NO_TABLES, statements_from, version_to_write
from runtime.errors import JournalError
from runtime.messages import MAX_SEQUENCE, Message, json_of, utc_text

POWER_CUT_SKIP = 1_000_000
"""Sequence numbers left out after a power cut: far more than are written between two checkpoints."""

LONGEST_LOG_PAGES = 4 * CHECKPOINT_PAGES
"""Pages of 4 KiB in the write-ahead log after which SQLite copies them into the file by itself, inside a commit:
only where the thread that should have done it did not come to it."""

TRIM_EVERY = 64
"""Messages appended between two looks at what retention lets go."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

# The parts come as bytes that are known to be UTF-8; the cast makes them text for who opens the file by hand.
_INSERT = "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, CAST(? AS TEXT), ?, ?)"


@dataclass(frozen=True, slots=True)
class Retention:
    """How much the journal keeps. The open run, and the newest message of a station, always stay.

    Old messages go as new ones come, at most two for one, so that no single commit is long.

    Attributes:
        max_age_s: Messages whose `captured_at` is further behind the newest one are deleted, in seconds.
        max_bytes: Above this size the oldest are deleted. The file keeps its size; the room is used again.
    """

    max_age_s: float | None = None
    max_bytes: int | None = None


def record_of(message: Message, blobs: tuple[bytes, ...] = ()) -> Record:
    """The row of a message."""
    first, stop = message.frame_range() or (None, None)
    return Record(
        message.station,
        message.sequence,
        message.kind,
        message.run,
        first,
        stop,
        message.captured_at,
        json_of(message),
        blobs,
        message.image_digest(),
    )


class Journal(JournalReader):
    """The journal of the process that writes it.

    Args:
        path: The file; made if absent, in a folder that exists.
        line: The line whose messages it holds; a journal of another line is refused.
        retention: What may be deleted; None keeps everything.
        wait_for_disk: Let each commit wait until the disk has it, some milliseconds, so that not even a power cut
            takes a message.
        boot_id: What tells one start of the machine from another; read from the kernel if None.

    Raises:
        JournalError: Another process (or this one) has it open to write, it cannot be written, it is not a
            journal, or it belongs to another line.
    """

    def __init__(
        self,
        path: Path,
        line: str,
        *,
        retention: Retention | None = None,
        wait_for_disk: bool = False,
        boot_id: str | None = None,
    ) -> None:
        self.path = path
        self.line = line
        self._retention = retention
        self._synchronous = "FULL" if wait_for_disk else "NORMAL"
        self._lock = threading.Lock()
        self._since_trim = 0
        try:
            with ExitStack() as opened:
                self._writer_lock = opened.enter_context(closing(_lock_writer(path)))
                self._connection = opened.enter_context(
                    closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False))
                )
                self.identity = self._open(boot_id or _this_boot())
                self._stations = set(self.stations())
                self._checkpointer = Checkpointer(path)
                opened.pop_all()
        except sqlite3.Error as error:
            raise explain(path, "open for writing", error) from error

    def next_sequence(self, station: str) -> int:
        """The number of the station's next message: one after its last, or further after a power cut."""
        self._register(station)
        ((first_free,),) = self._rows("SELECT first_free FROM station WHERE name = ?", station)
        return max(self.last_sequence(station) + 1, first_free)

    def append(self, records: Sequence[Record]) -> None:
        """Write a batch in one commit: all of it is in the journal, or, if this raises, nothing.

        Raises:
            JournalError: The disk is full or failed, a sequence number is already there, or a picture was scored
                before.
        """
        if not records:
            return
        for record in records:
            if record.station not in self._stations:
                self._register(record.station)
        rows = [(*record[:8], len(record.blobs), record.image_sha256) for record in records]
        scored = [
            (record.station, record.image_sha256, record.sequence)
            for record in records
            if record.image_sha256 is not None and record.kind == "scored"
        ]
        blobs = [
            (record.station, record.sequence, part, blob)
            for record in records
            if record.blobs
            for part, blob in enumerate(record.blobs)
        ]
        with self._guarded("append"):
            if len(rows) == 1 and not blobs and not scored and self._retention is None:
                self._connection.execute(_INSERT, rows[0])  # a statement alone is a transaction, and a quicker one
            else:
                self._append_all(records, rows, blobs, scored)
            self._checkpointer.committed(records, self._connection)

    def _append_all(
        self, records: Sequence[Record], rows: Sequence[Any], blobs: Sequence[Any], scored: Sequence[Any]
    ) -> None:
        with self._transaction():
            self._connection.executemany(_INSERT, rows)
            if blobs:
                self._connection.executemany("INSERT INTO blob VALUES (?, ?, ?, ?)", blobs)
            if scored:
                self._connection.executemany("INSERT INTO scored_image VALUES (?, ?, ?)", scored)
            if self._retention is not None:
                self._trim(self._retention, records)

    def close(self) -> None:
        """Close the file as a whole, so that nothing is taken for lost; calling it again does nothing."""
        self._checkpointer.close()
        # A disk too full for this note is no reason to fail: the next start then skips numbers needlessly.
        with suppress(sqlite3.Error):
            self._connection.execute("UPDATE journal SET open_since_boot = NULL")
        self._connection.close()
        self._writer_lock.close()

    def __enter__(self) -> Journal:
        return self

    def _open(self, boot_id: str) -> str:
        """Check or make the tables, and settle what a power cut may have taken; gives the identity."""
        version = version_to_write(self.path, self._connection)
        (mode,) = self._connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise JournalError(
                f"journal {self.path}: found a disk that keeps no write-ahead log ({mode!r}), expected a "
                "local one. Name a path that is not on a network share."
            )
        self._connection.execute(f"PRAGMA wal_autocheckpoint = {LONGEST_LOG_PAGES}")
        with self._durable():
            for statement in statements_from(version):
                self._connection.execute(statement)
            if version == NO_TABLES:
                self._connection.execute("INSERT INTO journal VALUES (?, ?, NULL)", (secrets.token_hex(8), self.line))
            identity, line, open_since = self._connection.execute("SELECT * FROM journal").fetchone()
            if line != self.line:
                raise JournalError(
                    f"journal {self.path}: found the messages of line {line!r}, expected {self.line!r}. "
                    "Give each line a file of its own."
                )
            if open_since not in (None, boot_id):
                self._connection.execute(
                    "UPDATE station SET first_free = ? + MAX(first_free, COALESCE("
                    "(SELECT MAX(sequence) + 1 FROM message WHERE message.station = station.name), 0))",
                    (POWER_CUT_SKIP,),
                )
            self._connection.execute("UPDATE journal SET open_since_boot = ?", (boot_id,))
        return identity

    def _register(self, station: str) -> None:
        """Note a station before its first message, so that a power cut finds it even if all else is lost."""
        if station in self._stations:
            return
        with self._guarded("register a station"), self._durable():
            self._connection.execute("INSERT INTO station VALUES (?, 0)", (station,))
        self._stations.add(station)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            # On a full disk SQLite has rolled back by itself.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _durable(self) -> Iterator[None]:
        """A transaction that survives a power cut: its commit waits for the disk, for all before it too."""
        self._connection.execute("PRAGMA synchronous = FULL")
        try:
            with self._transaction():
                yield
        finally:
            self._connection.execute(f"PRAGMA synchronous = {self._synchronous}")

    def _trim(self, retention: Retention, records: Sequence[Record]) -> None:
        """Delete what retention lets go, inside the commit that brings the new rows."""
        self._since_trim += len(records)
        if self._since_trim < TRIM_EVERY:
            return
        budget, self._since_trim = 2 * self._since_trim, 0
        oldest_kept = ""
        if retention.max_age_s is not None:
            now = datetime.fromisoformat(records[-1].captured_at)
            oldest_kept = utc_text(now - timedelta(seconds=retention.max_age_s))
        if retention.max_bytes is not None and self._used_bytes() > retention.max_bytes:
            oldest_kept = "~"  # sorts after every time: all may go, up to the budget
        for station in sorted(self._stations, key=self._oldest_captured_at):
            budget -= self._trim_station(station, oldest_kept, budget)

    def _oldest_captured_at(self, station: str) -> str:
        row = self._connection.execute(
            "SELECT captured_at FROM message WHERE station = ? ORDER BY sequence LIMIT 1", (station,)
        ).fetchone()
        return "" if row is None else row[0]

    def _trim_station(self, station: str, oldest_kept: str, budget: int) -> int:
        """Delete from the front, leaving no hole; gives how many rows went."""
        start = open_run_start(self._connection, station)
        rows = self._connection.execute(
            "SELECT sequence, captured_at FROM message WHERE station = ?"
            " AND sequence < (SELECT MIN(MAX(sequence), ?) FROM message WHERE station = ?)"
            " ORDER BY sequence LIMIT ?",
            (station, MAX_SEQUENCE if start is None else start, station, budget),
        )
        old = [sequence for sequence, _ in takewhile(lambda row: row[1] < oldest_kept, rows)]
        if old:
            for delete in ("DELETE FROM message", "DELETE FROM blob"):
                self._connection.execute(f"{delete} WHERE station = ? AND sequence <= ?", (station, old[-1]))
        return len(old)

    def _used_bytes(self) -> int:
        """Bytes in pages that hold something."""
        pages, free, page_bytes = (
            self._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * page_bytes


def _lock_writer(path: Path) -> sqlite3.Connection:
    """Hold `<path>.lock` while the connection lives; the kernel frees it with the process.

    An exclusive SQLite transaction, and not `flock`: it is refused to the same process too, and a forked
    child does not go on holding it.
    """
    lock = sqlite3.connect(f"{path}.lock", timeout=0, isolation_level=None, check_same_thread=False)
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        lock.close()
        if "locked" not in str(error):
            raise
        raise JournalError(
            f"journal {path}: found it open to write elsewhere, expected to be the only writer. "
            f"Stop the other process ('fuser {path}.lock' names it), or name another path."
        ) from error
    return lock


def _this_boot() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        # Never equal to a stored one: every stop without a close then counts as a power cut.
        return f"unknown-{secrets.token_hex(8)}"
