"""Micrographs with phase maps: a folder `images` and a folder `masks` with a map of the same name for each picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from camera.base import CameraError
from camera.images import PixelSettings, find_images, read_grey
from runtime.errors import DataError
from train.datasets.base import Sample, Split
from train.datasets.pictures import digest_files, read_picture
from train.datasets.severstal import split_by_rank

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NO_COLOUR = PixelSettings(grey="require_grey")
_UHCS_THRESHOLD = 127
ReadMap = Callable[[Path, tuple[int, int]], "NDArray[np.bool_]"]
"""From a map's file and its picture's size to masks (C, H, W) bool, one plane a phase but for the first."""


class PhaseMapSettings(BaseModel):
    """Where the set lies, what its labels mean and how it is split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path = Field(description="folder with images and masks")
    phases: Annotated[tuple[str, ...], Field(min_length=2)] = Field(
        default=("ferrite", "pearlite"), description="names of labels 0, 1 and so on; the first is the matrix"
    )
    white_is_1: bool = Field(default=True, description="255 is read as label 1; only where there are two phases")
    validation_ratio: float = Field(default=0.2, ge=0, lt=1, description="of the micrographs")
    test_ratio: float = Field(default=0.1, ge=0, lt=1, description="of the micrographs")

    @model_validator(mode="after")
    def _names_differ(self) -> PhaseMapSettings:
        if len(set(self.phases)) != len(self.phases):
            raise ValueError(f"phases must differ, found {self.phases}")
        return self


class UhcsSettings(BaseModel):
    """Spheroidite of ultra-high-carbon steel (UHCSDB), as the authors of AMPIS annotated and split it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path = Field(description="folder with images and masks, whose names begin with train_ or valid_")
    validation: tuple[str, ...] = Field(
        default=("train_800C-24H-Q-6_sizeRC_481_645",),
        description="pictures of the authors' training part that weights are chosen by; the valid_ part is for tests",
    )


class PhaseMaps:
    """Micrographs and their maps, each read when it is asked for."""

    def __init__(
        self,
        pictures: Sequence[tuple[Path, Path]],
        class_names: tuple[str, ...],
        split: Mapping[Split, Sequence[int]],
        read_map: ReadMap,
        digest: str,
    ) -> None:
        self._pictures = pictures
        self._class_names = class_names
        self._split = split
        self._read_map = read_map
        self._digest = digest
        self._present = np.stack([self.sample(index).masks.any(axis=(1, 2)) for index in range(len(pictures))])

    @property
    def class_names(self) -> tuple[str, ...]:
        """Every phase but the matrix."""
        return self._class_names

    @property
    def present(self) -> NDArray[np.bool_]:
        """(micrographs, C) bool."""
        return self._present

    @property
    def split(self) -> Mapping[Split, Sequence[int]]:
        """By whole micrographs: tiles of one are never on both sides."""
        return self._split

    @property
    def digest(self) -> str:
        """Of every picture and map."""
        return self._digest

    def __len__(self) -> int:
        return len(self._pictures)

    def sample(self, index: int) -> Sample:
        """Micrograph `index` in natural order of the names, with the share of each phase as figure `NAME_ratio`."""
        picture, phase_map = self._pictures[index]
        pixels = _read_micrograph(picture)
        masks = self._read_map(phase_map, (pixels.shape[0], pixels.shape[1]))
        ratios = {f"{name}_ratio": float(plane.mean()) for name, plane in zip(self._class_names, masks, strict=True)}
        return Sample(picture.stem, pixels, masks, MappingProxyType(ratios))


def open_phase_maps(settings: PhaseMapSettings, cache: Path) -> PhaseMaps:  # noqa: ARG001  needs no cache
    """Find the pictures and read every map once, so that training never meets a bad one.

    Raises:
        DataError: A folder is missing or empty, a picture has no map, a map is of another size or has a label out of
            range, or a picture is coloured or of 16 bit; the text names the file and what was found.
    """
    pictures = _pair(settings.path, "phase maps")
    split = split_by_rank([picture.stem for picture, _ in pictures], settings.validation_ratio, settings.test_ratio)
    white_is_1 = settings.white_is_1 and len(settings.phases) == 2

    def read(path: Path, shape: tuple[int, int]) -> NDArray[np.bool_]:
        return read_labels(path, shape, settings.phases, white_is_1=white_is_1)

    digest = digest_files([file for pair in pictures for file in pair], settings.path)
    return PhaseMaps(pictures, settings.phases[1:], split, read, digest)


def open_uhcs(settings: UhcsSettings, cache: Path) -> PhaseMaps:  # noqa: ARG001  needs no cache
    """Find the pictures; the authors' `valid_` pictures are the test part, and weights are chosen by a training one.

    Raises:
        DataError: A folder is missing or empty, a picture has no map or no known part, a map is of another size, or a
            picture is coloured or of 16 bit.
    """
    pictures = _pair(settings.path, "uhcs")
    names = [picture.stem for picture, _ in pictures]
    if odd := [name for name in names if not name.startswith(("train_", "valid_"))]:
        raise DataError(f"uhcs {settings.path}: found {odd[0]!r}, expected a name with train_ or valid_. Rename it.")
    if unknown := set(settings.validation) - {name for name in names if name.startswith("train_")}:
        raise DataError(
            f"uhcs {settings.path}: found no picture {min(unknown)!r}, which 'validation' names, expected one of the "
            "training part. Correct data.validation."
        )
    parts: dict[Split, list[int]] = {"train": [], "validation": [], "test": []}
    for index, name in enumerate(names):
        part: Split = "test" if name.startswith("valid_") else "validation" if name in settings.validation else "train"
        parts[part].append(index)

    def read(path: Path, shape: tuple[int, int]) -> NDArray[np.bool_]:
        # The authors' maps are white on black, but one has grey edges.
        return (read_picture(path, shape) > _UHCS_THRESHOLD)[None]

    digest = digest_files([file for pair in pictures for file in pair], settings.path)
    return PhaseMaps(pictures, ("cementite",), MappingProxyType(parts), read, digest)


def read_labels(path: Path, shape: tuple[int, int], phases: Sequence[str], *, white_is_1: bool) -> NDArray[np.bool_]:
    """Read a phase map.

    Args:
        path: A picture whose pixels are labels.
        shape: The rows and columns that it must have.
        phases: Names of the labels.
        white_is_1: Whether 255 is read as label 1.

    Returns:
        (phases - 1, H, W) bool, one plane a phase but for the first.

    Raises:
        DataError: The file is missing, of another size, coloured, of 16 bit, or a label is out of range.
    """
    labels = _read_micrograph(path, shape)
    if white_is_1:
        labels = np.where(labels == 255, np.uint8(1), labels)
    if labels.max() >= len(phases):
        row, col = np.unravel_index(int(labels.argmax()), labels.shape)
        known = ", ".join(f"{number} {name}" for number, name in enumerate(phases))
        raise DataError(
            f"phase map {path}: found label {labels.max()} at row {row}, column {col}, expected one of {known}. "
            "Correct the map, or name more phases in data.phases."
        )
    return labels[None] == np.arange(1, len(phases), dtype=np.uint8)[:, None, None]


def _read_micrograph(path: Path, shape: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    try:
        pixels = read_grey(path, pixels=_NO_COLOUR)
    except CameraError as error:
        raise DataError(str(error)) from error
    if shape is not None and pixels.shape != shape:
        raise DataError(
            f"phase map {path}: found {pixels.shape[0]}x{pixels.shape[1]} px, expected {shape[0]}x{shape[1]} as the "
            "micrograph has. Put the map of that picture there."
        )
    return pixels


def _pair(root: Path, who: str) -> list[tuple[Path, Path]]:
    """Every picture with its map; the map's suffix may differ."""
    try:
        images, masks = find_images(root / "images"), find_images(root / "masks")
    except CameraError as error:
        raise DataError(f"{who} {root}: {error}") from error
    if not images:
        raise DataError(f"{who} {root / 'images'}: found no pictures, expected micrographs. Check --data.")
    by_stem = {path.relative_to(root / "masks").with_suffix("").as_posix(): path for path in masks}
    pairs = []
    for image in images:
        stem = image.relative_to(root / "images").with_suffix("").as_posix()
        if stem not in by_stem:
            raise DataError(f"{who} {image}: found no map {stem}.png in {root / 'masks'}, expected one. Add it.")
        pairs.append((image, by_stem[stem]))
    return pairs
