"""The crack album: pictures with cracks and tips drawn, masks, and a table of tips."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from runtime import rle
from runtime.albums.crack_picture import crack_result, render_overlay
from runtime.albums.files import picture_place, write_png, writing

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from runtime.messages import Scored
    from runtime.pipeline import OverlayChoice

OVERLAYS_FOLDER, MASKS_FOLDER, TABLE_FILE = "overlays", "masks", "tips.csv"
_COLUMNS = ("picture", "verdict", "crack", "length_px", "length_mm", "main", "row_px", "col_px", "row_mm", "col_mm")


class CrackAlbum:
    """What an inspection for cracks leaves for people; see `runtime.pipeline.Album`.

    - `overlays/NAME.png`: the picture with its cracks and tips. A picture with a tip is always drawn, because nobody
      shall get a tip without the means to check it.
    - `masks/NAME.png`: 255 where there is a crack, for programs.
    - `tips.csv`: one row a tip; one without a place for a crack that has none.

    Args:
        out: The folder, which exists.
        overlays: Which pictures are drawn beside those with a tip: `defective` adds those that are not accepted.

    Raises:
        ConfigError: The folder cannot be written.
    """

    def __init__(self, out: Path, overlays: OverlayChoice = "defective") -> None:
        self._out = out
        self._overlays: OverlayChoice = overlays
        with writing(out):
            self._table = (out / TABLE_FILE).open("w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._table, lineterminator="\n")
        self._rows.writerow(_COLUMNS)

    @property
    def places(self) -> Mapping[str, Path]:
        """Tips, overlays and masks."""
        names = {"tips": TABLE_FILE, "overlays": OVERLAYS_FOLDER, "masks": MASKS_FOLDER}
        return MappingProxyType({name: self._out / place for name, place in names.items()})

    def add(self, pixels: NDArray[np.uint8], name: Path, message: Scored) -> None:
        """Add the tips and the mask of a picture, and draw it."""
        result = crack_result(message)
        with writing(self._out):
            for crack in result.cracks:
                own = (
                    name.as_posix(),
                    message.verdict,
                    crack.crack_id,
                    *map(_text, (crack.length_px, crack.length_mm)),
                )
                for tip in crack.tips:
                    place = (tip.row_px, tip.col_px, tip.row_mm, tip.col_mm)
                    self._rows.writerow((*own, int(tip.main), *map(_text, place)))
                if not crack.tips:
                    self._rows.writerow((*own, 0, "", "", "", ""))
            mask = rle.decode(result.rle, (pixels.shape[0], pixels.shape[1]))
            write_png(picture_place(self._out / MASKS_FOLDER, name), mask.astype(np.uint8) * 255)
            wanted = self._overlays == "all" or (self._overlays == "defective" and message.verdict != "accepted")
            if wanted or any(crack.tips for crack in result.cracks):
                picture = render_overlay(pixels, message, message.facts.specimen or name.as_posix())
                write_png(picture_place(self._out / OVERLAYS_FOLDER, name), picture)

    def close(self) -> None:
        """Flush and close; calling it again does nothing."""
        self._table.close()


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
