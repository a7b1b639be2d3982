"""Magnetic tiles: one folder a class, a JPG and a PNG mask of the same name, `MT_Free` without defects."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from runtime.errors import DataError
from train.datasets.base import Sample, Split
from train.datasets.pictures import digest_files, read_picture, split_ratio

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CLASS_NAMES = ("blowhole", "break", "crack", "fray", "uneven")
_FOLDERS = {"MT_Free": None, "MT_Blowhole": 0, "MT_Break": 1, "MT_Crack": 2, "MT_Fray": 3, "MT_Uneven": 4}
_NAME = re.compile(r"exp\d+_num_(\d+)")
_THRESHOLD = 127


class MagneticTilesSettings(BaseModel):
    """Where the set lies and how it is split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path = Field(description="folder with MT_Free, MT_Blowhole, MT_Break, MT_Crack, MT_Fray and MT_Uneven")
    validation_ratio: float = Field(default=0.0, ge=0, lt=1, description="taken from the training part, by class")
    test_ratio: float = Field(default=0.2, ge=0, lt=1)


class MagneticTiles:
    """Tiles of many sizes, each with at most one kind of defect."""

    def __init__(self, pictures: list[tuple[Path, int | None]], settings: MagneticTilesSettings, digest: str) -> None:
        self._pictures = pictures
        self._digest = digest
        self._present = np.zeros((len(pictures), len(_CLASS_NAMES)), np.bool_)
        for index, (_, plane) in enumerate(pictures):
            if plane is not None:
                self._present[index, plane] = True
        self._split = _split(pictures, settings)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Blowhole, break, crack, fray, uneven."""
        return _CLASS_NAMES

    @property
    def present(self) -> NDArray[np.bool_]:
        """(tiles, 5) bool, from the folders."""
        return self._present

    @property
    def split(self) -> Mapping[Split, Sequence[int]]:
        """By the tile's number, apart for each class, so that every part has its share of the rare ones."""
        return self._split

    @property
    def digest(self) -> str:
        """Of every picture and mask."""
        return self._digest

    def __len__(self) -> int:
        return len(self._pictures)

    def sample(self, index: int) -> Sample:
        """Tile `index`, folder by folder."""
        path, plane = self._pictures[index]
        pixels = read_picture(path)
        masks = np.zeros((len(_CLASS_NAMES), *pixels.shape), np.bool_)
        if plane is not None:
            masks[plane] = read_picture(path.with_suffix(".png"), pixels.shape) > _THRESHOLD
        return Sample(f"{path.parent.name}/{path.stem}", pixels, masks)


def open_magnetic_tiles(settings: MagneticTilesSettings, cache: Path) -> MagneticTiles:  # noqa: ARG001
    """List the tiles and check that each has its mask.

    Raises:
        DataError: A folder is missing or empty, a folder is of no known class, a tile has no mask or an odd name.
    """
    found = {folder.name for folder in settings.path.glob("MT_*") if folder.is_dir()}
    if unknown := found - _FOLDERS.keys():
        raise DataError(
            f"magnetic tiles {settings.path}: found unknown class {min(unknown)}, expected {', '.join(_FOLDERS)}. "
            "Remove the folder."
        )
    pictures: list[tuple[Path, int | None]] = []
    for name, plane in _FOLDERS.items():
        tiles = sorted((settings.path / name).glob("*.jpg"))
        if not tiles:
            raise DataError(f"magnetic tiles {settings.path / name}: found no JPG, expected tiles. Check --data.")
        for tile in tiles:
            if _NAME.fullmatch(tile.stem) is None:
                raise DataError(f"magnetic tiles: {tile}: expected a name like exp1_num_108719.jpg. Rename it.")
            if plane is not None and not tile.with_suffix(".png").is_file():
                raise DataError(f"magnetic tiles: {tile}: found no mask {tile.stem}.png beside it, expected one.")
        # A few defective tiles have an empty mask: neither clean nor marked, they can teach nothing and are left out.
        pictures += [(tile, plane) for tile in tiles if plane is None or _is_marked(tile.with_suffix(".png"))]
    masks = [tile.with_suffix(".png") for tile, plane in pictures if plane is not None]
    return MagneticTiles(pictures, settings, digest_files([*(tile for tile, _ in pictures), *masks], settings.path))


def _is_marked(mask: Path) -> bool:
    return bool((read_picture(mask) > _THRESHOLD).any())


def _split(pictures: list[tuple[Path, int | None]], settings: MagneticTilesSettings) -> dict[Split, Sequence[int]]:
    """Exact shares within each class, by the hash of the tile's number; a tile taken twice stays on one side."""
    parts: dict[Split, list[int]] = {"train": [], "validation": [], "test": []}
    for plane in _FOLDERS.values():
        tiles: dict[str, list[int]] = {}
        for index, (path, own) in enumerate(pictures):
            if own == plane:
                match = _NAME.fullmatch(path.stem)
                tiles.setdefault(match.group(1) if match else path.stem, []).append(index)
        order = sorted(tiles, key=split_ratio)
        tests = round(settings.test_ratio * len(order))
        validations = round(settings.validation_ratio * len(order))
        for rank, number in enumerate(order):
            part: Split = "test" if rank < tests else "validation" if rank < tests + validations else "train"
            parts[part] += tiles[number]
    return {part: tuple(sorted(indices)) for part, indices in parts.items()}
