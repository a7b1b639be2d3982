"""The files that an inspection reads, and the one that holds its messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from camera.base import CameraError
from camera.images import find_images
from runtime.albums.files import writing
from runtime.delivery.wire import Wire
from runtime.messages import json_of

RESULTS_FILE = "results.jsonl"


@dataclass(frozen=True, slots=True)
class Picture:
    """One file to inspect.

    Attributes:
        path: The file.
        name: How the outputs name it: its path below the folder that was given, made unique.
    """

    path: Path
    name: Path


def gather(paths: Sequence[Path]) -> list[Picture]:
    """The pictures behind files and folders: in the order given, within a folder in natural order.

    Raises:
        CameraError: A path does not exist, or there is no picture at all.
    """
    pictures: list[Picture] = []
    taken: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise CameraError(f"{path}: found nothing there, expected a picture or a folder. Check the path.")
        for file in find_images(path) if path.is_dir() else [path]:
            name = file.relative_to(path) if path.is_dir() else Path(file.name)
            unique, number = name, 1
            # An overlay drops the suffix, so that `a.jpg` and `a.bmp` would overwrite each other.
            while unique.with_suffix("") in taken:
                number += 1
                unique = name.with_name(f"{name.stem}_{number}{name.suffix}")
            taken.add(unique.with_suffix(""))
            pictures.append(Picture(file, unique))
    if not pictures:
        listed = ", ".join(map(str, paths)) or "no path"
        raise CameraError(f"{listed}: found no picture, expected at least one. Give files or folders of pictures.")
    return pictures


class ResultFile:
    """`results.jsonl`: every message as the wire would carry it, one a line; what is there already is overwritten.

    Args:
        out: The folder; made if it does not exist.

    Raises:
        ConfigError: The folder cannot be written.
    """

    def __init__(self, out: Path) -> None:
        self.path = out / RESULTS_FILE
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
            self._lines = self.path.open("w", encoding="utf-8")

    def write(self, message: Wire) -> None:
        """Add a message."""
        with writing(self.path.parent):
            self._lines.write(json_of(message).decode() + "\n")

    def close(self) -> None:
        """Flush and close; calling it again does nothing."""
        self._lines.close()

    def __enter__(self) -> ResultFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
