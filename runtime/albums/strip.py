"""The strip's album: masks as run lengths, and frames with their defects drawn."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from runtime.albums.files import is_drawn, picture_place, write_png, writing
from runtime.overlay import render_overlay
from runtime.rle import decode_union, encode

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from runtime.messages import Defect, Inspected
    from runtime.pipeline import OverlayChoice

MASKS_FILE, OVERLAYS_FOLDER = "masks.csv", "overlays"


class StripAlbum:
    """Masks and overlays of the strip; see `runtime.pipeline.Album`.

    - `masks.csv`: Severstal's columns, one row for each class that a picture has.
    - `overlays/NAME.png`: the pictures with their defects drawn.

    Args:
        out: The folder, which exists.
        overlays: Which pictures are drawn.

    Raises:
        ConfigError: The folder cannot be written.
    """

    def __init__(self, out: Path, overlays: OverlayChoice = "defective") -> None:
        self._out = out
        self._overlays: OverlayChoice = overlays
        self._folder = out / OVERLAYS_FOLDER
        with writing(out):
            self._masks = (out / MASKS_FILE).open("w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._masks, lineterminator="\n")
        self._rows.writerow(("ImageId", "ClassId", "EncodedPixels"))

    @property
    def places(self) -> Mapping[str, Path]:
        """Masks and overlays."""
        return {"masks": self._out / MASKS_FILE, "overlays": self._folder}

    def add(self, pixels: NDArray[np.uint8], name: Path, message: Inspected) -> None:
        """Add the masks of a frame, and draw it if it is one of those to be drawn."""
        with writing(self._out):
            for class_id, rle in class_masks(message.defects, (pixels.shape[0], pixels.shape[1])):
                self._rows.writerow((name.as_posix(), class_id, rle))
            if is_drawn(message, self._overlays):
                heading = f"{name.as_posix()}   {message.verdict}   gate {message.defect_probability:.2f}"
                picture = render_overlay(pixels, message.defects, heading=heading)
                write_png(picture_place(self._folder, name), picture)

    def close(self) -> None:
        """Flush and close; calling it again does nothing."""
        self._masks.close()


def class_masks(defects: Sequence[Defect], shape: tuple[int, int]) -> list[tuple[int, str]]:
    """One mask a class: class id and run lengths of all its defects together, by class."""
    runs: dict[int, list[str]] = {}
    for defect in defects:
        runs.setdefault(defect.class_id, []).append(defect.rle)
    return [(class_id, encode(decode_union(texts, shape))) for class_id, texts in sorted(runs.items())]
