"""Journals that are no journals, disks that are full, power that is cut."""

from __future__ import annotations

import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.delivery.journal import POWER_CUT_SKIP, Journal
from runtime.delivery.journal_reader import JournalReader
from runtime.delivery.journal_tables import SCHEMA_VERSION
from runtime.errors import JournalError
from runtime.messages import Message
from tests.runtime.delivery.journals import rows
from tests.runtime.delivery.wire import LINE, STATION, inspected


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
