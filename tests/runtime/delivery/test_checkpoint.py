from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path

import pytest

import runtime.delivery.checkpoint
from runtime.delivery.checkpoint import FEW_PAGES
from runtime.delivery.journal import Journal, record_of
from runtime.delivery.journal_reader import JournalReader
from tests.runtime.delivery.wire import LINE, STATION, inspected

LIMIT_PAGES = 200
WAL_PAGE_BYTES = 4096 + 24


@pytest.fixture
def short_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies begin at a log of some 200 pages, and none is long enough for SQLite's own."""
    monkeypatch.setattr(runtime.delivery.checkpoint.Checkpointer.__init__, "__defaults__", (LIMIT_PAGES,))


def log_pages(path: Path) -> float:
    return path.with_name(f"{path.name}-wal").stat().st_size / WAL_PAGE_BYTES


def append(journal: Journal, first: int, stop: int) -> None:
    for sequence in range(first, stop):
        journal.append([record_of(inspected(sequence))])


def settle(journal: Journal) -> None:
    """Wait until the thread has nothing to do."""
    checkpointer = journal._checkpointer
    until = time.monotonic() + 60
    while checkpointer._asked and not checkpointer._copied:
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.usefixtures("short_log")
def test_the_log_begins_anew_and_every_message_stays(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal(path, LINE) as journal:
        sequence, rounds = 0, 6
        for _ in range(rounds):
            append(journal, sequence, sequence + LIMIT_PAGES)
            sequence += LIMIT_PAGES
            settle(journal)
        pages = log_pages(path)
        # Each round appends at least twice the limit; were the log never begun anew, it would hold them all.
        assert pages < rounds * LIMIT_PAGES
        assert [record.sequence for record in journal.read(STATION, 0, sequence, limit=sequence)] == list(
            range(sequence)
        )
    with JournalReader(path) as reader:
        assert reader.last_sequence(STATION) == sequence - 1


@pytest.mark.usefixtures("short_log")
def test_the_writer_is_left_with_the_last_pages_only(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal(path, LINE) as journal:
        append(journal, 0, LIMIT_PAGES // 2)  # a commit of one message counts two pages
        settle(journal)
        assert journal._checkpointer._copied
        other = sqlite3.connect(path, isolation_level=None)
        (_, in_log, copied) = other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        assert in_log - copied < FEW_PAGES
        other.close()


@pytest.mark.usefixtures("short_log")
def test_a_reader_in_the_middle_of_the_log_is_not_disturbed(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal(path, LINE) as journal:
        append(journal, 0, 10)
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        assert reader.execute("SELECT COUNT(*) FROM message").fetchone() == (10,)
        for first in range(10, 10 + 4 * LIMIT_PAGES, LIMIT_PAGES):
            append(journal, first, first + LIMIT_PAGES)
            settle(journal)
        assert reader.execute("SELECT COUNT(*) FROM message").fetchone() == (10,)
        reader.close()
        append(journal, 10 + 4 * LIMIT_PAGES, 20 + 4 * LIMIT_PAGES)
        assert journal.last_sequence(STATION) == 19 + 4 * LIMIT_PAGES


def test_a_closed_journal_leaves_no_thread_and_no_log(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal(path, LINE) as journal:
        append(journal, 0, 3)
        assert any(thread.name == "journal-checkpoint" for thread in threading.enumerate())
    journal.close()
    assert not any(thread.name == "journal-checkpoint" for thread in threading.enumerate())
    assert not path.with_name(f"{path.name}-wal").exists()


@pytest.mark.usefixtures("short_log")
def test_a_copy_that_fails_is_no_matter_for_the_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.sqlite"

    def fail(_self: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(runtime.delivery.checkpoint.Checkpointer, "_copy", fail)
    with Journal(path, LINE) as journal:
        append(journal, 0, LIMIT_PAGES // 2)
        settle(journal)
        assert journal._checkpointer._copied
        append(journal, LIMIT_PAGES // 2, 2 * LIMIT_PAGES)
        assert journal.last_sequence(STATION) == 2 * LIMIT_PAGES - 1
