"""Fracture surfaces with inspection maps: `images` and `maps` beside each other, a map named as its picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from camera.base import CameraError
from camera.images import find_images
from runtime.errors import DataError
from train.datasets.base import Sample, Split
from train.datasets.pictures import digest_files, read_picture
from train.datasets.severstal import split_by_rank

if TYPE_CHECKING:
    from numpy.typing import NDArray

_IMAGES, _MAPS = "images", "maps"
_DARK_LEVEL = 12
"""A picture whose 99th percentile lies here or below was taken with the light off."""
_BETWEEN = (64, 191)
"""Grey levels that a map of two values does not have; a JPEG's has a few along its borders."""
_BETWEEN_RATIO = 0.02


class FractureSettings(BaseModel):
    """Where the set lies and how it is split; the defaults are the paper's shares of 1769 specimens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path = Field(description="folder with images and maps; brittle is white in a map, all else black")
    validation_ratio: float = Field(default=0.045, ge=0, lt=1)
    test_ratio: float = Field(default=0.089, ge=0, lt=1)


class Fractures:
    """Pictures of specimens, each of its own size, with the map that an operator drew."""

    def __init__(self, settings: FractureSettings, pairs: Sequence[tuple[Path, Path]], digest: str) -> None:
        self._folder = settings.path / _IMAGES
        self._pairs = pairs
        self._digest = digest
        self._present = np.array([[bool(read_map(path, None).any())] for _, path in pairs], np.bool_)
        names = [picture.relative_to(self._folder).with_suffix("").as_posix() for picture, _ in pairs]
        self._names = names
        self._split = split_by_rank(names, settings.validation_ratio, settings.test_ratio)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Brittle."""
        return ("brittle",)

    @property
    def present(self) -> NDArray[np.bool_]:
        """(specimens, 1) bool."""
        return self._present

    @property
    def split(self) -> Mapping[Split, Sequence[int]]:
        """By the pictures' names."""
        return self._split

    @property
    def digest(self) -> str:
        """Of every picture and every map."""
        return self._digest

    def __len__(self) -> int:
        return len(self._pairs)

    def sample(self, index: int) -> Sample:
        """Specimen `index` in natural order of the names.

        Raises:
            DataError: Picture or map is unreadable, dark, of another size or of many values.
        """
        picture, chart = self._pairs[index]
        pixels = read_picture(picture)
        if float(np.percentile(pixels, 99)) <= _DARK_LEVEL:
            raise DataError(
                f"picture {picture}: found no grey level above {int(pixels.max())}, nearly all dark, expected a lit "
                "fracture surface. Take it again, or leave it and its map out."
            )
        brittle = read_map(chart, pixels.shape)
        return Sample(
            self._names[index], pixels, brittle[None], MappingProxyType({"brittle_ratio": float(brittle.mean())})
        )


def open_fracture(settings: FractureSettings, cache: Path) -> Fractures:  # noqa: ARG001  needs no cache
    """Find the pairs and look at every map, so that training never meets a bad one.

    Raises:
        DataError: A folder is missing or empty, a picture has no map, a map no picture, or a map is no map.
    """
    try:
        pictures, maps = (find_images(settings.path / name) for name in (_IMAGES, _MAPS))
    except CameraError as error:
        raise DataError(f"fracture: {error}") from error
    if not pictures:
        raise DataError(f"fracture {settings.path / _IMAGES}: found no pictures, expected some. Check --data.")
    by_name = {path.relative_to(settings.path / _MAPS).with_suffix(""): path for path in maps}
    pairs = []
    for picture in pictures:
        name = picture.relative_to(settings.path / _IMAGES).with_suffix("")
        if name not in by_name:
            raise DataError(
                f"picture {picture}: found no map {settings.path / _MAPS / name}.*, expected one. Draw it, or leave "
                "the picture out."
            )
        pairs.append((picture, by_name.pop(name)))
    if by_name:
        orphan = next(iter(by_name.values()))
        raise DataError(f"map {orphan}: found no picture of that name, expected one. Fetch it, or drop the map.")
    files = [path for pair in pairs for path in pair]
    return Fractures(settings, pairs, digest_files(files, settings.path))


def read_map(path: Path, shape: tuple[int, int] | None) -> NDArray[np.bool_]:
    """An inspection map, (H, W) bool, true where brittle.

    Raises:
        DataError: The file is unreadable, of another size, or has more than black and white in it.
    """
    grey = read_picture(path, shape)
    between = float(np.mean((grey >= _BETWEEN[0]) & (grey <= _BETWEEN[1])))
    if between > _BETWEEN_RATIO:
        raise DataError(
            f"map {path}: found {100 * between:.0f} % of the pixels neither black nor white, expected brittle 255 and "
            "all else 0. Is it the picture instead of its map? Draw the map again."
        )
    return grey > 127
