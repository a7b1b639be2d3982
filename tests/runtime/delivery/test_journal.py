"""A journal: every message once, in order, for one writer and any number of readers, as long as it is kept."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from runtime.delivery.journal import Journal, Retention, record_of
from runtime.delivery.journal_reader import JournalReader
from runtime.delivery.journal_tables import _STEPS, NO_TABLES
from runtime.errors import JournalError
from runtime.messages import MESSAGE, Message
from tests.runtime.delivery.journals import rows
from tests.runtime.delivery.wire import LINE, STATION, inspected, missed, run_started, scored


def test_what_was_appended_is_read_back_in_order(journal: Journal) -> None:
    messages = [run_started(0), inspected(1), missed(2, 2, 5), inspected(3, frame_index=5)]
    journal.append(rows(*messages[:2]))
    journal.append(rows(*messages[2:]))
    records = journal.read(STATION, 0, 100)
    assert [MESSAGE.validate_json(record.json) for record in records] == messages
    assert [record.topic for record in records] == [f"{STATION}/{message.kind}" for message in messages]
    assert [(record.first_index, record.stop_index) for record in records] == [(None, None), (1, 2), (2, 5), (5, 6)]


def test_blobs_come_back_byte_for_byte_with_their_own_message(journal: Journal) -> None:
    blobs = (b"", bytes(range(256)), b"\x00" * 70_000)
    journal.append([record_of(inspected(0)), record_of(inspected(1), blobs), record_of(inspected(2))])
    assert [record.blobs for record in journal.read(STATION, 0, 3)] == [(), blobs, ()]


def test_a_range_is_half_open_and_limits_hold(journal: Journal) -> None:
    journal.append([record_of(inspected(s), (b"x" * 1000,)) for s in range(20)])
    assert [record.sequence for record in journal.read(STATION, 3, 6)] == [3, 4, 5]
    assert [record.sequence for record in journal.read(STATION, 18, 10**12)] == [18, 19]
    assert len(journal.read(STATION, 0, 20, limit=7)) == 7
    assert len(journal.read(STATION, 0, 20, limit_bytes=1)) == 1
    assert journal.read("another", 0, 20) == []


def test_stations_count_for_themselves(journal: Journal) -> None:
    journal.append(rows(inspected(0, station="a"), inspected(0, station="b"), inspected(1, station="a")))
    assert (journal.last_sequence("a"), journal.last_sequence("b"), journal.last_sequence("c")) == (1, 0, -1)
    assert (journal.next_sequence("a"), journal.next_sequence("b"), journal.next_sequence("c")) == (2, 1, 0)
    assert journal.stations() == ["a", "b", "c"]


def test_a_number_is_given_once_and_the_whole_batch_falls_with_it(journal: Journal) -> None:
    journal.append(rows(inspected(0), inspected(1)))
    with pytest.raises(JournalError, match="not in the journal yet"):
        journal.append(rows(inspected(2), inspected(1)))
    assert journal.last_sequence(STATION) == 1
    journal.append(rows(inspected(2)))


def test_it_goes_on_where_it_was_closed(path: Path) -> None:
    with Journal(path, LINE) as journal:
        journal.append(rows(inspected(0)))
        identity = journal.identity
    with Journal(path, LINE) as journal:
        assert journal.next_sequence(STATION) == 1
        assert journal.identity == identity


def test_a_second_writer_is_refused_until_the_first_has_closed(path: Path) -> None:
    with Journal(path, LINE), pytest.raises(JournalError, match="expected to be the only writer"):
        Journal(path, LINE)
    Journal(path, LINE).close()


def test_a_second_process_is_refused_too(path: Path) -> None:
    script = f"""
from pathlib import Path
from runtime.errors import JournalError
from runtime.delivery.journal import Journal
try:
    Journal(Path({str(path)!r}), {LINE!r})
except JournalError as error:
    print(error)
"""
    with Journal(path, LINE):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "expected to be the only writer" in done.stdout


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_does_not_keep_the_lock(path: Path) -> None:
    journal = Journal(path, LINE)
    release, hold = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(release, 1)
        os._exit(0)
    try:
        journal.close()
        Journal(path, LINE).close()
    finally:
        os.write(hold, b".")
        os.waitpid(child, 0)
        os.close(hold)
        os.close(release)


def test_readers_see_whole_batches_while_it_is_written(journal: Journal) -> None:
    done = threading.Event()
    seen: list[int] = []

    def read() -> None:
        with JournalReader(journal.path) as reader:
            while not done.is_set():
                seen.append(len(reader.read(STATION, 0, 10**6, limit=10**6)))
            seen.append(len(reader.read(STATION, 0, 10**6, limit=10**6)))

    thread = threading.Thread(target=read)
    thread.start()
    for batch in range(60):
        journal.append(rows(*(inspected(s) for s in range(8 * batch, 8 * batch + 8))))
    done.set()
    thread.join()
    assert all(count % 8 == 0 for count in seen)
    assert seen == sorted(seen)
    assert seen[-1] == 480


def test_a_reader_cannot_write(journal: Journal) -> None:
    with JournalReader(journal.path) as reader, pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._connection.execute("DELETE FROM message")


def test_a_journal_that_nobody_writes_can_be_read(path: Path) -> None:
    with Journal(path, LINE) as journal:
        journal.append(rows(inspected(0)))
    with JournalReader(path) as reader:
        assert reader.last_sequence(STATION) == 0
        assert reader.line == LINE


def test_a_journal_may_wait_for_the_disk_at_each_commit(path: Path) -> None:
    full, normal = 2, 1
    with Journal(path, LINE) as journal:
        journal.append(rows(inspected(0)))
        assert journal._one("PRAGMA synchronous") == (normal,)
    with Journal(path, LINE, wait_for_disk=True) as journal:
        journal.next_sequence("another")  # whose registering waits for the disk anyway, and must leave it so
        assert journal._one("PRAGMA synchronous") == (full,)


class TestVersions:
    def test_a_journal_of_the_first_version_is_brought_up_to_date_with_all_it_holds(self, path: Path) -> None:
        self._first_version(path, *(run_started(0), inspected(1, 0)))
        with pytest.raises(JournalError, match=r"found version 1 of the tables.*'ferrosight run' once"):
            JournalReader(path)
        with Journal(path, LINE) as journal:
            assert journal.identity == "0123456789abcdef"
            assert [record.kind for record in journal.read(STATION, 0, 9)] == ["run_started", "inspected"]
            journal.append(rows(scored(journal.next_sequence(STATION), image_sha256="a" * 64)))
            assert journal.scored_as(STATION, "a" * 64) == 2
        with JournalReader(path) as reader:
            assert reader.last_sequence(STATION) == 2

    def test_an_upgrade_is_whole_or_not_at_all(self, path: Path) -> None:
        self._first_version(path, run_started(0))
        with sqlite3.connect(path) as raw:
            raw.execute("CREATE TABLE scored_image (in_the_way TEXT)")
        raw.close()
        with pytest.raises(JournalError, match="already exists"):
            Journal(path, LINE)
        with sqlite3.connect(path) as raw:
            assert raw.execute("PRAGMA user_version").fetchone() == (1,)
            assert len(raw.execute("SELECT * FROM message").fetchone()) == 9
        raw.close()

    def _first_version(self, path: Path, *messages: Message) -> None:
        with sqlite3.connect(path) as raw:
            for statement in _STEPS[NO_TABLES]:
                raw.execute(statement)
            raw.execute("PRAGMA user_version = 1")
            raw.execute("INSERT INTO journal VALUES ('0123456789abcdef', ?, NULL)", (LINE,))
            raw.execute("INSERT INTO station VALUES (?, 0)", (STATION,))
            for row in rows(*messages):
                raw.execute("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, CAST(? AS TEXT), 0)", row[:8])
        raw.close()


class TestRetention:
    def test_old_messages_go_as_new_ones_come(self, path: Path) -> None:
        with Journal(path, LINE, retention=Retention(max_age_s=100)) as journal:
            self._fill(journal, 1000)
            kept = [record.sequence for record in journal.read(STATION, 0, 10**6)]
        assert kept == list(range(kept[0], 1000)), "what is left is one unbroken history"
        assert 850 < kept[0] <= 900

    def test_the_file_stops_growing_at_its_size(self, path: Path) -> None:
        with Journal(path, LINE, retention=Retention(max_bytes=240_000)) as journal:
            for first in range(0, 4000, 8):
                journal.append([record_of(inspected(s), (b"x" * 500,)) for s in range(first, first + 8)])
            left = len(journal.read(STATION, 0, 10**6))
            (blobs,) = journal._one("SELECT COUNT(*) FROM blob")
        assert 50 < left < 400
        assert blobs == left, "the blobs go with their message"
        assert path.stat().st_size < 400_000

    def test_the_open_run_stays_whatever_its_size(self, path: Path) -> None:
        with Journal(path, LINE, retention=Retention(max_age_s=1, max_bytes=1)) as journal:
            self._fill(journal, 300)
            journal.append(rows(run_started(300)))
            self._fill(journal, 300)
            assert [record.sequence for record in journal.read(STATION, 0, 10**6)] == list(range(300, 601))
            assert journal.coverage(STATION, "coil-7").complete

    def test_the_newest_message_of_an_idle_station_keeps_its_place(self, path: Path) -> None:
        with Journal(path, LINE, retention=Retention(max_age_s=1, max_bytes=1)) as journal:
            journal.append(rows(inspected(0, station="idle"), inspected(1, station="idle")))
            self._fill(journal, 300)
            assert [record.sequence for record in journal.read("idle", 0, 10**6)] == [1]
            assert journal.next_sequence("idle") == 2

    def test_nothing_goes_unless_asked(self, journal: Journal) -> None:
        self._fill(journal, 300)
        assert len(journal.read(STATION, 0, 10**6)) == 300

    def _fill(self, journal: Journal, count: int) -> None:
        begin = journal.next_sequence(STATION)
        for first in range(begin, begin + count, 8):
            journal.append(rows(*(inspected(s) for s in range(first, min(first + 8, begin + count)))))
