"""The journal's tables, their version, and the way from an older version to this one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from runtime.errors import JournalError

APPLICATION_ID = 0x46455253
"""Marks the SQLite file as one of ours."""

SCHEMA_VERSION = 2
"""Version of the tables. A reader refuses another one; who opens an older journal to write makes it this one."""

NO_TABLES = 0
"""Version of a file in which nothing is yet."""

_TABLES = (
    """CREATE TABLE message (
        station TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        kind TEXT NOT NULL,
        run TEXT NOT NULL,
        first_index INTEGER,
        stop_index INTEGER,
        captured_at TEXT NOT NULL,
        json TEXT NOT NULL,
        blob_count INTEGER NOT NULL,
        PRIMARY KEY (station, sequence)
    ) STRICT""",
    "CREATE INDEX run_border ON message (station, sequence) WHERE kind IN ('run_started', 'run_ended')",
    """CREATE TABLE blob (
        station TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        part INTEGER NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (station, sequence, part)
    ) STRICT""",
    "CREATE TABLE station (name TEXT NOT NULL PRIMARY KEY, first_free INTEGER NOT NULL) STRICT",
    "CREATE TABLE journal (identity TEXT NOT NULL, line TEXT NOT NULL, open_since_boot TEXT) STRICT",
    f"PRAGMA application_id = {APPLICATION_ID}",
)

_PICTURES = (
    "ALTER TABLE message ADD COLUMN image_sha256 TEXT",
    # Beside the messages and not among them: retention deletes a message, but its picture was scored all the same.
    """CREATE TABLE scored_image (
        station TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        PRIMARY KEY (station, sha256)
    ) STRICT, WITHOUT ROWID""",
    """CREATE INDEX missed_image ON message (station, image_sha256, sequence)
        WHERE kind = 'missed' AND image_sha256 IS NOT NULL""",
    "CREATE INDEX override ON message (station, sequence) WHERE kind = 'overridden'",
)

_STEPS: Mapping[int, tuple[str, ...]] = MappingProxyType({NO_TABLES: _TABLES, 1: _PICTURES})
"""What makes the tables of a version those of the next. The messages stay as they were published."""


def statements_from(version: int) -> Iterator[str]:
    """The statements that bring tables of a version to `SCHEMA_VERSION`; for one transaction."""
    for step in range(version, SCHEMA_VERSION):
        yield from _STEPS[step]
    yield f"PRAGMA user_version = {SCHEMA_VERSION}"


def version_to_write(path: Path, connection: sqlite3.Connection) -> int:
    """Version of the tables of a file that is to be written, `NO_TABLES` for an empty one.

    Raises:
        JournalError: The file is of another program, or of a later version.
        sqlite3.Error: It is not an SQLite file at all.
    """
    if connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None:
        return NO_TABLES
    version = _version(path, connection)
    if version > SCHEMA_VERSION:
        raise _other_version(path, version)
    return version


def check_readable(path: Path, connection: sqlite3.Connection) -> None:
    """Refuse a file that is no journal, or one of another version.

    Raises:
        JournalError: It is.
        sqlite3.Error: It is not an SQLite file at all.
    """
    version = _version(path, connection)
    if version != SCHEMA_VERSION:
        raise _other_version(path, version)


def _version(path: Path, connection: sqlite3.Connection) -> int:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID:
        raise JournalError(
            f"journal {path}: found an SQLite file of another program, expected a journal. Name another path."
        )
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return version


def _other_version(path: Path, version: int) -> JournalError:
    return JournalError(
        f"journal {path}: found version {version} of the tables, expected {SCHEMA_VERSION}. "
        "Read it with the ferrosight that wrote it, and move it away to begin a new one."
        if version > SCHEMA_VERSION
        else f"journal {path}: found version {version} of the tables, expected {SCHEMA_VERSION}. "
        "Open it with 'ferrosight run' once: it brings the tables up to date."
    )
