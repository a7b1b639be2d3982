from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.delivery.journal import POWER_CUT_SKIP, Journal, Retention, record_of
from runtime.delivery.journal_reader import JournalReader, Record
from runtime.delivery.journal_tables import _STEPS, NO_TABLES, SCHEMA_VERSION
from runtime.errors import JournalError
from runtime.messages import MESSAGE, Coverage, Message
from tests.runtime.delivery.wire import (
    LINE,
    STATION,
    inspected,
    missed,
    missed_picture,
    overridden,
    run_ended,
    run_started,
    scored,
)


def rows(*messages: Message) -> list[Record]:
    return [record_of(message) for message in messages]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with Journal(path, LINE) as opened:
        yield opened


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


class TestRuns:
    def test_an_open_run_is_one_that_did_not_end(self, journal: Journal) -> None:
        assert journal.open_run(STATION) is None
        journal.append(rows(run_started(0)))
        assert journal.open_run(STATION) == run_started(0)
        journal.append(rows(inspected(1)))
        assert journal.open_run(STATION) == run_started(0)
        journal.append(rows(run_ended(2)))
        assert journal.open_run(STATION) is None

    def test_the_books_are_counted_from_the_rows(self, journal: Journal) -> None:
        journal.append(rows(run_started(0), inspected(1, 40), missed(2, 41, 48), inspected(3, 48)))
        assert journal.coverage(STATION, "coil-7") == Coverage(
            frames_expected=9, frames_inspected=2, frames_missed=7, complete=True
        )

    def test_the_order_of_the_messages_does_not_matter(self, journal: Journal) -> None:
        journal.append(rows(run_started(0), missed(1, 3, 6), inspected(2, 2)))
        assert journal.coverage(STATION, "coil-7").complete

    def test_a_hole_and_a_frame_told_twice_do_not_cancel_out(self, journal: Journal) -> None:
        journal.append(rows(run_started(0), inspected(1, 0), inspected(2, 1), inspected(3, 1), inspected(4, 3)))
        assert journal.coverage(STATION, "coil-7") == Coverage(
            frames_expected=4, frames_inspected=4, frames_missed=0, complete=False
        )

    def test_a_run_of_the_same_name_has_books_of_its_own(self, journal: Journal) -> None:
        journal.append(rows(run_started(0), inspected(1, 0), run_ended(2), run_started(3), inspected(4, 0)))
        assert journal.coverage(STATION, "coil-7").frames_inspected == 1

    def test_a_run_without_frames_is_complete_and_an_unknown_one_is_not(self, journal: Journal) -> None:
        journal.append(rows(run_started(0)))
        assert journal.coverage(STATION, "coil-7").complete
        assert not journal.coverage(STATION, "coil-8").complete

    @settings(max_examples=40, deadline=None)
    @given(frames=st.lists(st.integers(0, 12), max_size=14), gap=st.integers(1, 3))
    def test_complete_means_every_frame_exactly_once(
        self, tmp_path_factory: pytest.TempPathFactory, frames: list[int], gap: int
    ) -> None:
        path = tmp_path_factory.mktemp("books") / "journal.sqlite"
        messages = [
            inspected(s, frame) if frame % 3 else missed(s, frame, frame + gap) for s, frame in enumerate(frames, 1)
        ]
        told = [frame for m in messages for frame in range(*m.frame_range())]
        with Journal(path, LINE) as journal:
            journal.append(rows(run_started(0), *messages))
            books = journal.coverage(STATION, "coil-7")
        assert books.complete == (sorted(told) == list(range(min(told, default=0), max(told, default=-1) + 1)))
        assert books.frames_inspected + books.frames_missed == len(told)


def test_a_journal_may_wait_for_the_disk_at_each_commit(path: Path) -> None:
    full, normal = 2, 1
    with Journal(path, LINE) as journal:
        journal.append(rows(inspected(0)))
        assert journal._one("PRAGMA synchronous") == (normal,)
    with Journal(path, LINE, wait_for_disk=True) as journal:
        journal.next_sequence("another")  # whose registering waits for the disk anyway, and must leave it so
        assert journal._one("PRAGMA synchronous") == (full,)


class TestPictures:
    FIRST, SECOND = "a" * 64, "b" * 64

    def test_a_picture_is_scored_once_and_the_whole_batch_falls_with_a_second_time(self, journal: Journal) -> None:
        journal.append(rows(scored(0, image_sha256=self.FIRST)))
        with pytest.raises(JournalError, match="expected a picture that was not scored yet"):
            journal.append(rows(scored(1, image_sha256=self.SECOND), scored(2, image_sha256=self.FIRST)))
        assert journal.last_sequence(STATION) == 0
        assert journal.scored_as(STATION, self.FIRST) == 0
        assert journal.scored_as(STATION, self.SECOND) is None
        assert journal.scored_as("another", self.FIRST) is None

    def test_a_picture_given_up_may_be_scored_later(self, journal: Journal) -> None:
        journal.append(rows(missed_picture(0, self.FIRST), missed_picture(1, self.FIRST)))
        assert (journal.missed_as(STATION, self.FIRST), journal.scored_as(STATION, self.FIRST)) == (1, None)
        journal.append(rows(scored(2, image_sha256=self.FIRST)))
        assert journal.scored_as(STATION, self.FIRST) == 2
        assert [record.image_sha256 for record in journal.read(STATION, 0, 3)] == [self.FIRST] * 3

    def test_retention_takes_the_message_and_the_picture_stays_scored(self, path: Path) -> None:
        with Journal(path, LINE, retention=Retention(max_age_s=1)) as journal:
            journal.append(rows(scored(0, image_sha256=self.FIRST)))
            for sequence in range(1, 200):
                journal.append(rows(inspected(sequence)))
            assert journal.read(STATION, 0, 1) == []
            assert journal.scored_as(STATION, self.FIRST) == 0
            with pytest.raises(JournalError, match="not scored yet"):
                journal.append(rows(scored(200, image_sha256=self.FIRST)))

    def test_the_last_word_of_the_operator_holds(self, journal: Journal) -> None:
        journal.append(rows(scored(0, image_sha256=self.FIRST), scored(1, image_sha256=self.SECOND)))
        assert journal.override_of(STATION, 0) is None
        journal.append(rows(overridden(2, 0, "rejected"), overridden(3, 1, "rejected"), overridden(4, 0, "accepted")))
        record = journal.override_of(STATION, 0)
        assert record is not None
        assert MESSAGE.validate_json(record.json) == overridden(4, 0, "accepted")

    def test_pictures_are_in_the_books(self, journal: Journal) -> None:
        journal.append(
            rows(
                run_started(0),
                scored(1, 0, image_sha256=self.FIRST),
                missed(2, 1, 2),
                scored(3, 2, image_sha256=self.SECOND),
            )
        )
        assert journal.coverage(STATION, "coil-7") == Coverage(
            frames_expected=3, frames_inspected=2, frames_missed=1, complete=True
        )


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


class TestPowerCut:
    def test_a_kill_loses_nothing_and_skips_nothing(self, path: Path) -> None:
        script = f"""
import os, signal
from pathlib import Path
from runtime.delivery.journal import Journal, record_of
from tests.runtime.delivery.wire import inspected
journal = Journal(Path({str(path)!r}), {LINE!r})
journal.append([record_of(inspected(s)) for s in range(5)])
os.kill(os.getpid(), signal.SIGKILL)
"""
        assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
        with Journal(path, LINE) as journal:
            assert journal.next_sequence(STATION) == 5

    def test_after_a_reboot_that_nobody_announced_no_number_is_used_again(self, path: Path) -> None:
        self._cut(path, "boot-1", inspected(0), inspected(1))
        with Journal(path, LINE, boot_id="boot-2") as journal:
            assert journal.next_sequence(STATION) == 2 + POWER_CUT_SKIP
        with Journal(path, LINE, boot_id="boot-3") as journal:
            assert journal.next_sequence(STATION) == 2 + POWER_CUT_SKIP, "it was closed: nothing more is skipped"

    def test_a_station_whose_messages_were_all_lost_skips_too(self, path: Path) -> None:
        journal = Journal(path, LINE, boot_id="boot-1")
        journal.next_sequence(STATION)
        self._abandon(journal)
        with Journal(path, LINE, boot_id="boot-2") as journal:
            assert journal.next_sequence(STATION) == POWER_CUT_SKIP

    def _cut(self, path: Path, boot_id: str, *messages: Message) -> None:
        journal = Journal(path, LINE, boot_id=boot_id)
        journal.append(rows(*messages))
        self._abandon(journal)

    def _abandon(self, journal: Journal) -> None:
        """What is left when the process is gone: the files, and no note that it was closed."""
        journal._connection.close()
        journal._writer_lock.close()


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


class TestFaults:
    def test_no_such_folder(self, tmp_path: Path) -> None:
        with pytest.raises(JournalError, match=r"unable to open.*expected an existing folder.*Make the folder"):
            Journal(tmp_path / "absent" / "journal.sqlite", LINE)

    def test_a_folder_that_takes_no_files(self) -> None:
        # Root may write anywhere that takes files at all; /proc takes none, whoever asks.
        with pytest.raises(JournalError, match="expected an existing folder that may be written"):
            Journal(Path("/proc/journal.sqlite"), LINE)

    def test_a_file_that_is_no_database_is_left_as_it_was(self, path: Path) -> None:
        text = b"a picture, perhaps" * 300
        path.write_bytes(text)
        with pytest.raises(JournalError, match=r"not a database.*Name another path"):
            Journal(path, LINE)
        with pytest.raises(JournalError, match="not a database"):
            JournalReader(path)
        assert path.read_bytes() == text

    def test_the_database_of_another_program_is_left_as_it_was(self, path: Path) -> None:
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE recipes (name TEXT)")
        other.close()
        before = path.read_bytes()
        with pytest.raises(JournalError, match="another program"):
            Journal(path, LINE)
        assert path.read_bytes() == before

    def test_tables_of_another_version(self, path: Path) -> None:
        Journal(path, LINE).close()
        with sqlite3.connect(path) as raw:
            raw.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        raw.close()
        for open_it in (lambda: Journal(path, LINE), lambda: JournalReader(path)):
            with pytest.raises(JournalError, match=f"found version {SCHEMA_VERSION + 1} of the tables, expected"):
                open_it()

    def test_the_journal_of_another_line(self, path: Path) -> None:
        Journal(path, "mill-1").close()
        with pytest.raises(JournalError, match="found the messages of line 'mill-1', expected 'mill-2'"):
            Journal(path, LINE)
        Journal(path, "mill-1").close()

    def test_nothing_to_read(self, path: Path) -> None:
        with pytest.raises(JournalError, match="open for reading"):
            JournalReader(path)

    def test_a_file_damaged_in_the_middle(self, path: Path) -> None:
        with Journal(path, LINE) as journal:
            for first in range(0, 800, 8):
                journal.append(rows(*(inspected(s) for s in range(first, first + 8))))
        with path.open("r+b") as file:
            file.seek(8192)
            file.write(b"\xff" * (path.stat().st_size - 12_288))

        def read() -> None:
            with JournalReader(path) as reader:
                reader.read(STATION, 0, 800)

        with pytest.raises(JournalError, match=r"malformed.*Move the file away"):
            read()

    def test_a_full_disk_loses_no_commit_and_is_over_when_there_is_room(self, tmp_path: Path) -> None:
        disk = tmp_path / "disk"
        disk.mkdir()
        mount = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)], capture_output=True, check=False
        )
        if mount.returncode:
            pytest.skip("mounting a small disk is not permitted here; the file size limit is tested below")
        try:
            ballast = disk / "ballast"
            ballast.write_bytes(b"x" * 200_000)
            with Journal(disk / "journal.sqlite", LINE) as journal:
                sent = self._append_until_full(journal)
                assert journal.last_sequence(STATION) == sent - 1
                ballast.unlink()
                journal.append(rows(*(inspected(s) for s in range(sent, sent + 8))))
                numbers = [record.sequence for record in journal.read(STATION, 0, 10**6)]
            assert numbers == list(range(sent + 8))
        finally:
            subprocess.run(["umount", str(disk)], check=True)

    @pytest.mark.parametrize("batch", [1, 8])
    def test_a_file_at_its_size_limit(self, path: Path, batch: int) -> None:
        journal = Journal(path, LINE)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
            sent = self._append_until_full(journal, batch)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        journal.append(rows(inspected(sent)))
        assert [record.sequence for record in journal.read(STATION, 0, 10**6)] == list(range(sent + 1))
        journal.close()

    def _append_until_full(self, journal: Journal, batch: int = 8) -> int:
        """Fill the disk; gives how many messages went in."""

        def fill() -> None:
            for first in range(0, 100_000, batch):
                journal.append(rows(*(inspected(s) for s in range(first, first + batch))))

        with pytest.raises(JournalError, match=r"append: found .*disk.*(Free some|Look at the disk)"):
            fill()
        return journal.next_sequence(STATION)
