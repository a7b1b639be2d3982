"""A hot folder: which of its pictures are due, from nothing but how its files look from one moment to the next.

```
           looks change                       answered
        +---------------+              +--------------------+
        v               |              |                    v
    changing --stands still--> due --taken--> answered, until it looks otherwise; missed, also until
        |                       |                       another bundle serves
        |                       +--not whole--> due again once it looks otherwise, and a last time
        +--out of patience--> named, once           when its patience is out
```

Nothing here is remembered across a restart: the journal knows the pictures that were scored by their bytes.
"""

from __future__ import annotations

import fnmatch
import os
from dataclasses import dataclass
from pathlib import Path

from camera.base import CameraError
from camera.images import SUFFIXES, natural_order
from runtime.facts import SIDECAR_SUFFIX, sidecar_of
from runtime.triggered.settings import HotFolderSettings

_NS_PER_S = 1_000_000_000

FileLook = tuple[int, int, int, int]
"""Size, time of writing, time of change and inode: another one for whatever happens to a file."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a picture and the facts beside it look; `sidecar` is None where there are none."""

    picture: FileLook
    sidecar: FileLook | None

    @classmethod
    def of(cls, path: Path) -> Look:
        """How a picture looks now.

        Raises:
            OSError: There is none.
        """
        try:
            sidecar = _look_of(sidecar_of(path))
        except OSError:
            sidecar = None
        return cls(_look_of(path), sidecar)


@dataclass(frozen=True, slots=True)
class Due:
    """A picture whose turn it is.

    Attributes:
        path: The picture.
        look: What it looked like; a file that looks otherwise when it was read is not the one that had settled.
        settled: Whether it stood still; one that never does is due only to be named.
        last: Its patience is out: a fault is now to be told.
    """

    path: Path
    look: Look
    settled: bool
    last: bool


@dataclass(slots=True)
class _File:
    """What is known of a file.

    Attributes:
        look: How it looked last, since `since_ns`.
        came_ns: When it was first seen, or first looked otherwise after it was answered.
        answered: It was dealt with as it looks now.
        missed: It was, and could not be scored.
        tried: It was no whole picture as it looks now.
        named: That it does not become whole was told.
    """

    look: Look
    since_ns: int
    came_ns: int
    answered: bool = False
    missed: bool = False
    tried: bool = False
    named: bool = False


class HotFolder:
    """The pictures of a folder, each due once for each time that it changes.

    It looks again and again instead of listening: network shares, where instruments like to write, tell nobody of
    a new file.

    Args:
        settings: Which folder, which names, and how patient.
        facts_wait_s: How much longer a picture without a file of facts beside it must stand still.
    """

    def __init__(self, settings: HotFolderSettings, facts_wait_s: float = 0.0) -> None:
        self._settings = settings
        self._settle_ns = round(settings.settle_s * _NS_PER_S)
        self._alone_ns = round((settings.settle_s + facts_wait_s) * _NS_PER_S)
        self._patience_ns = round(settings.patience_s * _NS_PER_S)
        self._files: dict[str, _File] = {}

    def due(self, now_ns: int) -> list[Due]:
        """Look through the folder: the pictures that are due, in natural order.

        What was due stays so until `answered` or `not_whole` is called for it.

        Raises:
            CameraError: The folder is gone.
        """
        before, self._files = self._files, {}
        for path, look in self._look().items():
            self._files[path] = self._seen(before.get(path), look, now_ns)
        found = {Path(path): self._judge(path, file, now_ns) for path, file in self._files.items() if not file.answered}
        due = {path: due for path, due in found.items() if due is not None}
        return [due[path] for path in natural_order(due)]

    def answered(self, due: Due, *, missed: bool = False) -> None:
        """It was scored, known already, or told as missed: it is due again only once it looks otherwise.

        Args:
            due: As it was due.
            missed: It could not be scored, and may be by another bundle.
        """
        file = self._files.get(str(due.path))
        if file is None:
            return
        if not due.settled:
            file.named = True
        elif file.look == due.look:
            file.answered, file.missed = True, missed

    def try_missed_again(self) -> None:
        """Another bundle serves: what could not be scored is due again as it looks now."""
        for file in self._files.values():
            if file.missed:
                file.answered = file.missed = False

    def not_whole(self, due: Due) -> None:
        """It is no picture as it looks now, but may become one."""
        file = self._files.get(str(due.path))
        if file is not None and file.look == due.look:
            file.tried = True

    def _seen(self, file: _File | None, look: Look, now_ns: int) -> _File:
        if file is None:
            return _File(look, now_ns, now_ns)
        if look != file.look:
            came_ns = now_ns if file.answered else file.came_ns
            named = file.named and not file.answered
            return _File(look, now_ns, came_ns, named=named)
        return file

    def _judge(self, path: str, file: _File, now_ns: int) -> Due | None:
        last = now_ns - file.came_ns >= self._patience_ns
        still_ns = now_ns - file.since_ns
        if still_ns >= (self._alone_ns if file.look.sidecar is None else self._settle_ns):
            return Due(Path(path), file.look, settled=True, last=last) if last or not file.tried else None
        if last and not file.named and still_ns < self._settle_ns:
            return Due(Path(path), file.look, settled=False, last=True)
        return None

    def _look(self) -> dict[str, Look]:
        """How every picture looks, with the facts beside it; in plain text, for there may be ten thousand."""
        folder = self._settings.path
        if not folder.is_dir():
            raise CameraError(f"hot folder {folder}: is gone, expected a folder that pictures come into. Restore it.")
        pictures: dict[str, FileLook] = {}
        sidecars: dict[str, FileLook] = {}
        for root, folders, files in os.walk(folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in files:
                stem, suffix = os.path.splitext(name)  # noqa: PTH122 - a Path for each would cost more than the rest
                is_sidecar = suffix == SIDECAR_SUFFIX
                if name.startswith(".") or not (is_sidecar or self._counts(name, suffix)):
                    continue
                path = f"{root}{os.sep}{name}"
                try:
                    look = _look_of(path)
                except OSError:
                    continue  # renamed or removed in this moment
                if is_sidecar:
                    sidecars[f"{root}{os.sep}{stem}"] = look
                else:
                    pictures[path] = look
        return {path: Look(look, sidecars.get(os.path.splitext(path)[0])) for path, look in pictures.items()}  # noqa: PTH122

    def _counts(self, name: str, suffix: str) -> bool:
        return suffix.lower() in SUFFIXES and fnmatch.fnmatchcase(name, self._settings.pattern)


def _look_of(path: Path | str) -> FileLook:
    status = os.stat(path)  # noqa: PTH116
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
