"""Cracks in magnetic tiles: of what `magnetic_tiles` reads, the tiles with a crack and those without a defect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from train.datasets.base import Sample, Split
from train.datasets.magnetic_tiles import MagneticTiles, MagneticTilesSettings, open_magnetic_tiles

if TYPE_CHECKING:
    from numpy.typing import NDArray


class CrackTiles:
    """Tiles with a crack or with nothing; the split is that of the whole set, so that no tile changes its part."""

    def __init__(self, tiles: MagneticTiles) -> None:
        self._tiles = tiles
        self._plane = tiles.class_names.index("crack")
        present = tiles.present
        kept = np.flatnonzero(present[:, self._plane] | ~present.any(axis=1)).tolist()
        self._kept = tuple(kept)
        place = {number: index for index, number in enumerate(kept)}
        self._split: Mapping[Split, Sequence[int]] = MappingProxyType(
            {
                part: tuple(place[number] for number in numbers if number in place)
                for part, numbers in tiles.split.items()
            }
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Crack."""
        return ("crack",)

    @property
    def present(self) -> NDArray[np.bool_]:
        """(tiles, 1) bool, from the folders."""
        return self._tiles.present[list(self._kept), self._plane, None]

    @property
    def split(self) -> Mapping[Split, Sequence[int]]:
        """As the whole set is split."""
        return self._split

    @property
    def digest(self) -> str:
        """Of the whole set."""
        return self._tiles.digest

    def __len__(self) -> int:
        return len(self._kept)

    def sample(self, index: int) -> Sample:
        """Tile `index` of those kept; nobody marked where its cracks end."""
        whole = self._tiles.sample(self._kept[index])
        return Sample(whole.name, whole.pixels, whole.masks[self._plane, None])


def open_crack_tiles(settings: MagneticTilesSettings, cache: Path) -> CrackTiles:
    """Open the set and keep what speaks of cracks.

    Raises:
        DataError: As `open_magnetic_tiles`.
    """
    return CrackTiles(open_magnetic_tiles(settings, cache))
