"""Moves the journal's write-ahead log into its file beside the commits, so that no commit waits for the disk.

SQLite's own checkpoint runs inside the commit that finds the log too long, and that commit waits some 20 ms for
the disk: at 1,250 frames a second 25 frames wait with it. Here a thread does nearly all of it:

```
writer   commit  commit  commit  commit  commit  commit  commit+finish  commit ...
thread             copy ............... copy ..                         (the log begins anew)
```

While the thread copies, the writer appends, so a few pages are always left over. Only the writer can copy the very
last one, and a log that is copied to its end is what the next commit may begin anew: this `finish` costs 1 to 4 ms.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.delivery.journal_reader import Record

CHECKPOINT_PAGES = 4000
"""Pages of 4 KiB in the log, about, after which they are copied: some 1,700 commits of one message."""

FEW_PAGES = 64
"""Pages that the writer may be left with."""

MOST_PASSES = 4
"""Copies in a row; each leaves only what was appended during it."""

_COPY = "PRAGMA wal_checkpoint(PASSIVE)"  # waits for nobody, and nobody waits for it
_PAGES_A_COMMIT, _BYTES_A_PAGE = 2, 2048  # what one commit was seen to append to the log


class Checkpointer:
    """Watches how long the log gets, and copies it in a thread of its own with a connection of its own.

    Args:
        path: The journal's file, which exists and has a write-ahead log.
        pages: Length of the log, about, at which it is copied.
    """

    def __init__(self, path: Path, pages: int = CHECKPOINT_PAGES) -> None:
        self._path = path
        self._limit = pages
        self._pages = 0
        self._asked = False
        self._copied = False
        self._closed = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._work, name="journal-checkpoint", daemon=True)
        self._thread.start()

    def committed(self, records: Sequence[Record], connection: sqlite3.Connection) -> None:
        """Take note of a commit, and finish a copy that is ready for it.

        Args:
            records: What was committed.
            connection: The writer's, outside a transaction.
        """
        if self._copied:
            self._copied = self._asked = False
            self._pages = 0
            # The commit stands, whatever becomes of the copy: SQLite tries again, and tells the commit it fails.
            with suppress(sqlite3.Error):
                connection.execute(_COPY).fetchall()
            return
        size = sum(len(record.json) + sum(map(len, record.blobs)) for record in records)
        self._pages += _PAGES_A_COMMIT + size // _BYTES_A_PAGE
        if self._pages >= self._limit and not self._asked:
            self._asked = True
            self._wake.set()

    def close(self) -> None:
        """End the thread, after the copy that it may be at; calling it again does nothing."""
        self._closed = True
        self._wake.set()
        self._thread.join()

    def _work(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._closed:
                return
            with suppress(sqlite3.Error):
                self._copy()
            self._copied = True

    def _copy(self) -> None:
        """Copy the log, and again what came meanwhile, until only a few pages are left."""
        with closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            before = 0
            for _ in range(MOST_PASSES):
                _, in_log, copied = connection.execute(_COPY).fetchone()
                if in_log - before < FEW_PAGES:
                    return
                before = copied
