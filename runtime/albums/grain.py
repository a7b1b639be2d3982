"""The grain album: micrographs under their map of the grain size number."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from runtime.albums.files import is_drawn, picture_place, write_png, writing
from runtime.albums.grain_picture import render_overlay

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from runtime.messages import Scored
    from runtime.pipeline import OverlayChoice

OVERLAYS_FOLDER = "overlays"


class GrainAlbum:
    """What an inspection of micrographs leaves for people: `overlays/NAME.png`; see `runtime.pipeline.Album`.

    Args:
        out: The folder, which exists.
        overlays: Which pictures are drawn.
    """

    def __init__(self, out: Path, overlays: OverlayChoice = "defective") -> None:
        self._out = out
        self._overlays: OverlayChoice = overlays

    @property
    def places(self) -> Mapping[str, Path]:
        """Overlays."""
        return MappingProxyType({OVERLAYS_FOLDER: self._out / OVERLAYS_FOLDER})

    def add(self, pixels: NDArray[np.uint8], name: Path, message: Scored) -> None:
        """Draw a micrograph, if it is one of those to be drawn."""
        if not is_drawn(message, self._overlays):
            return
        with writing(self._out):
            picture = render_overlay(pixels, message, message.facts.specimen or name.as_posix())
            write_png(picture_place(self._out / OVERLAYS_FOLDER, name), picture)

    def close(self) -> None:
        """Nothing is left open."""
