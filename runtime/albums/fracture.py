"""The fracture album: overlays, and a report for each specimen."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from runtime.albums.files import is_drawn, picture_place, write_png, writing
from runtime.albums.fracture_picture import render_overlay
from runtime.albums.fracture_report import write_report

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from runtime.messages import Scored
    from runtime.pipeline import OverlayChoice

OVERLAYS_FOLDER, REPORTS_FOLDER = "overlays", "reports"


class FractureAlbum:
    """What an inspection of specimens leaves for people; see `runtime.pipeline.Album`.

    - `overlays/NAME.png`: the surface with what was counted, and the rated region.
    - `reports/NAME.pdf` and `.png`: one page a specimen.

    Args:
        out: The folder, which exists.
        overlays: Which pictures are drawn.
    """

    def __init__(self, out: Path, overlays: OverlayChoice = "defective") -> None:
        self._out = out
        self._overlays: OverlayChoice = overlays

    @property
    def places(self) -> Mapping[str, Path]:
        """Overlays and reports."""
        return MappingProxyType({name: self._out / name for name in (OVERLAYS_FOLDER, REPORTS_FOLDER)})

    def add(self, pixels: NDArray[np.uint8], name: Path, message: Scored) -> None:
        """Draw a specimen and write its report, if it is one of those to be drawn."""
        if not is_drawn(message, self._overlays):
            return
        with writing(self._out):
            picture = render_overlay(pixels, message, message.facts.specimen or name.as_posix())
            write_png(picture_place(self._out / OVERLAYS_FOLDER, name), picture)
        write_report(pixels, message, picture_place(self._out / REPORTS_FOLDER, name, ".pdf"))

    def close(self) -> None:
        """Nothing is left open."""
