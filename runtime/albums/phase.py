"""The phase album: micrographs with their phases drawn, the label maps, and a table of fractions."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from runtime.albums.files import is_drawn, picture_place, write_png, writing
from runtime.albums.phase_picture import phase_result, render_overlay

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from runtime.messages import Scored
    from runtime.pipeline import OverlayChoice

OVERLAYS_FOLDER, LABELS_FOLDER, TABLE_FILE = "overlays", "labels", "fractions.csv"


class PhaseAlbum:
    """What an inspection of micrographs leaves for people; see `runtime.pipeline.Album`.

    - `overlays/NAME.png`: the micrograph with its phases.
    - `labels/NAME.png`: the number of the phase at each pixel, for programs.
    - `fractions.csv`: one row for each picture and phase.

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
        self._rows.writerow(("picture", "phase", "fraction_percent", "interval_percent", "fields", "verdict"))

    @property
    def places(self) -> Mapping[str, Path]:
        """Fractions, overlays and label maps."""
        names = {"fractions": TABLE_FILE, "overlays": OVERLAYS_FOLDER, "labels": LABELS_FOLDER}
        return MappingProxyType({name: self._out / place for name, place in names.items()})

    def add(self, pixels: NDArray[np.uint8], name: Path, message: Scored) -> None:
        """Add the fractions and the label map of a micrograph, and draw it if it is one of those to be drawn."""
        result = phase_result(message)
        with writing(self._out):
            for each in result.fractions:
                half = "" if each.interval_percent is None else f"{each.interval_percent:.3f}"
                self._rows.writerow(
                    (name.as_posix(), each.phase, f"{each.fraction_percent:.3f}", half, result.fields, message.verdict)
                )
            write_png(picture_place(self._out / LABELS_FOLDER, name), result.labels.array())
            if is_drawn(message, self._overlays):
                picture = render_overlay(pixels, message, message.facts.specimen or name.as_posix())
                write_png(picture_place(self._out / OVERLAYS_FOLDER, name), picture)

    def close(self) -> None:
        """Flush and close; calling it again does nothing."""
        self._table.close()
