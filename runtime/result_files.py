"""Results as files: the wire's own messages, masks as run lengths, and pictures to look at."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from camera.base import CameraError
from camera.images import find_images
from runtime.errors import ConfigError
from runtime.messages import Defect, Inspected, Wire, json_of
from runtime.overlay import draw_overlay
from runtime.rle import decode_union, encode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RESULTS_FILE, MASKS_FILE, OVERLAYS_FOLDER = "results.jsonl", "masks.csv", "overlays"

OverlayChoice = Literal["defective", "all", "none"]
"""Which pictures are drawn: those on which something was found, all that were inspected, or none."""

_DRAWN: dict[OverlayChoice, Callable[[Inspected], bool]] = {
    "defective": lambda message: bool(message.defects),
    "all": lambda message: True,  # noqa: ARG005
    "none": lambda message: False,  # noqa: ARG005
}


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


class ResultFiles:
    """The files of one inspection, opened in its constructor; what is there already is overwritten.

    - `results.jsonl`: every message, as the wire would carry it.
    - `masks.csv`: Severstal's columns, one row for each class that a picture has.
    - `overlays/NAME.png`: the pictures with their defects drawn.

    Args:
        out: The folder; made if it does not exist.
        overlays: Which pictures are drawn.

    Raises:
        ConfigError: The folder cannot be written.
    """

    def __init__(self, out: Path, overlays: OverlayChoice = "defective") -> None:
        self.results = out / RESULTS_FILE
        self.masks = out / MASKS_FILE
        self.overlays = out / OVERLAYS_FOLDER
        self._is_drawn = _DRAWN[overlays]
        with ExitStack() as opened:
            try:
                out.mkdir(parents=True, exist_ok=True)
                self._messages = opened.enter_context(self.results.open("w", encoding="utf-8"))
                rows = opened.enter_context(self.masks.open("w", encoding="utf-8", newline=""))
            except OSError as error:
                raise ConfigError(
                    f"output {out}: {error.strerror}, expected a folder that can be written. Give another one."
                ) from error
            self._files = opened.pop_all()
        self._rows = csv.writer(rows, lineterminator="\n")
        self._rows.writerow(("ImageId", "ClassId", "EncodedPixels"))

    def write(self, message: Wire) -> None:
        """Add a message to the results."""
        self._messages.write(json_of(message).decode() + "\n")

    def show(self, pixels: NDArray[np.uint8], name: Path, message: Inspected) -> None:
        """Add the masks of an inspected picture, and draw it if it is one of those to be drawn.

        Args:
            pixels: (H, W) uint8.
            name: How the outputs name the picture.
            message: What was found on it.
        """
        for class_id, rle in class_masks(message.defects, pixels.shape):
            self._rows.writerow((name.as_posix(), class_id, rle))
        if self._is_drawn(message):
            heading = f"{name.as_posix()}   {message.verdict}   gate {message.defect_probability:.2f}"
            target = self.overlays / name.parent / f"{name.stem}.png"
            draw_overlay(pixels, message.defects, target, heading=heading)

    def close(self) -> None:
        """Flush and close; calling it again does nothing."""
        self._files.close()

    def __enter__(self) -> ResultFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def class_masks(defects: Sequence[Defect], shape: tuple[int, int]) -> list[tuple[int, str]]:
    """One mask a class: class id and run lengths of all its defects together, by class."""
    runs: dict[int, list[str]] = {}
    for defect in defects:
        runs.setdefault(defect.class_id, []).append(defect.rle)
    return [(class_id, encode(decode_union(texts, shape))) for class_id, texts in sorted(runs.items())]
