"""The boundary album: micrographs with their traced boundaries, the lines for programs, and a table of grain sizes."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from runtime.albums.boundary_picture import boundary_result, render_overlay
from runtime.albums.files import is_drawn, picture_place, write_png, writing

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from runtime.messages import Scored
    from runtime.pipeline import OverlayChoice

OVERLAYS_FOLDER, LINES_FOLDER, TABLE_FILE = "overlays", "lines", "grain_sizes.csv"
_WHITE = 255


class BoundaryAlbum:
    """What an inspection of micrographs leaves for people; see `runtime.pipeline.Album`.

    - `overlays/NAME.png`: the micrograph with its boundaries.
    - `lines/NAME.png`: the boundaries alone, white on black, as `ferrosight grain-size` reads them.
    - `grain_sizes.csv`: one row for each picture and procedure.

    Args:
        out: The folder, which exists.
        overlays: Which pictures are drawn.

    Raises:
        ConfigError: The folder cannot be written.
    """

    def __init__(self, out: Path, overlays: OverlayChoice = "defective") -> None:
        self._out = out
        self._overlays: OverlayChoice = overlays
        with writing(out):
            self._table = (out / TABLE_FILE).open("w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._table, lineterminator="\n")
        self._rows.writerow(
            ("picture", "procedure", "grain_number", "interval", "counted", "fields", "mean_intercept_mm", "verdict")
        )

    @property
    def places(self) -> Mapping[str, Path]:
        """Grain sizes, overlays and lines."""
        names = {"grain sizes": TABLE_FILE, "overlays": OVERLAYS_FOLDER, "lines": LINES_FOLDER}
        return MappingProxyType({name: self._out / place for name, place in names.items()})

    def add(self, pixels: NDArray[np.uint8], name: Path, message: Scored) -> None:
        """Add the grain sizes and the lines of a micrograph, and draw it if it is one of those to be drawn."""
        result = boundary_result(message)
        with writing(self._out):
            for each in result.measures:
                figures = f"{each.grain_number:.3f}", f"{each.interval:.3f}", f"{each.counted:g}", f"{each.fields}"
                length = f"{each.mean_intercept_mm:.6f}"
                self._rows.writerow((name.as_posix(), each.procedure, *figures, length, message.verdict))
            write_png(picture_place(self._out / LINES_FOLDER, name), result.lines.array() * _WHITE)
            if is_drawn(message, self._overlays):
                picture = render_overlay(pixels, message, message.facts.specimen or name.as_posix())
                write_png(picture_place(self._out / OVERLAYS_FOLDER, name), picture)

    def close(self) -> None:
        """Flush and close; calling it again does nothing."""
        self._table.close()
