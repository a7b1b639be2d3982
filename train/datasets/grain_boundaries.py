"""Real micrographs with their grain boundaries: TBM (MLOgraphy++), and NIST's two of the grain size tools."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from camera.base import CameraError
from camera.images import PixelSettings, find_images
from runtime.errors import DataError
from train.datasets.base import Sample, Split
from train.datasets.pictures import digest_files, read_picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

Grey = Literal["luma", "red", "green", "blue"]
"""How a colour becomes a grey level: its luminance, or what a colour filter before the camera lets through."""

_WHITE = 127  # the masks are antialiased: brighter than this is boundary
_FEWEST, _MOST = 0.005, 0.6
"""The least and the most of a micrograph that can be boundary."""

# Samples of the test part, chosen once so that coarse and fine ones are among them; never by tile, for tiles of one
# sample show the same etching.
_TBM_TEST = (10, 14, 18, 22, 27)
_TBM_VALIDATION = (12, 20, 25)
_TBM_JUDGED: tuple[Grey, ...] = ("luma",)
_NIST: tuple[tuple[str, str, str], ...] = (
    (
        "steel_image_original.tif",
        "steel_mask.tif",
        "intercepts_optical_etched_grains_steel_highlighted_distances_line_grid.csv",
    ),
    (
        "ti64_sem_image.tif",
        "ti64_sem_mask.tif",
        "intercepts_sem_polished_sem_alpha_beta_ti_6al_4v_distances_line_grid.csv",
    ),
)


class TbmSettings(BaseModel):
    """Texture Boundary in Metallography: 256x256 tiles of 21 samples, named SAMPLE-ROW-COL."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path = Field(description="folder with train and test, each with images and masks, as published")
    validation_samples: tuple[int, ...] = Field(default=_TBM_VALIDATION, description="by the number before the dash")
    test_samples: tuple[int, ...] = Field(
        default=_TBM_TEST, description="likewise; the authors' own split mixes tiles of one sample"
    )
    train_greys: tuple[Grey, ...] = Field(
        default=("luma",),
        min_length=1,
        description="training tiles are given once in each, for grains of one luminance may differ in colour; the "
        "other parts are luminance",
    )


class NistGrainSettings(BaseModel):
    """One etched steel and one Ti-6Al-4V of NIST's grain size analysis tools; both are the test part."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path = Field(description="folder with the pictures, the masks and the measured intercepts")


@dataclass(frozen=True, slots=True)
class _Micrograph:
    name: str
    image: Path
    mask: Path
    figures: Mapping[str, float]
    grey: Grey = "luma"


class GrainBoundaries:
    """Micrographs and boundary masks, each read when it is asked for."""

    def __init__(
        self, micrographs: Sequence[_Micrograph], split: Mapping[Split, Sequence[int]], root: Path, who: str
    ) -> None:
        self._micrographs = micrographs
        self._split = split
        self._who = who
        files = [file for each in micrographs for file in (each.image, each.mask)]
        self._digest = digest_files(files, root)
        for index in range(len(micrographs)):
            self.sample(index)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The one plane of the masks."""
        return ("boundary",)

    @property
    def present(self) -> NDArray[np.bool_]:
        """(micrographs, 1) bool: every one has boundaries."""
        return np.ones((len(self), 1), np.bool_)

    @property
    def split(self) -> Mapping[Split, Sequence[int]]:
        """By sample."""
        return self._split

    @property
    def digest(self) -> str:
        """Of every picture and mask."""
        return self._digest

    def __len__(self) -> int:
        return len(self._micrographs)

    def sample(self, index: int) -> Sample:
        """Micrograph `index`, in natural order of the names."""
        micrograph = self._micrographs[index]
        pixels = read_picture(micrograph.image, pixels=PixelSettings(grey=micrograph.grey))
        boundary = read_picture(micrograph.mask, (pixels.shape[0], pixels.shape[1])) > _WHITE
        share = float(boundary.mean())
        if not _FEWEST <= share <= _MOST:
            raise DataError(
                f"{self._who} {micrograph.mask}: found {share:.1%} of the picture marked, expected lines of "
                f"{_FEWEST:.1%} to {_MOST:.0%}, white on black. Put the mask of the boundaries there."
            )
        return Sample(micrograph.name, pixels, boundary[None], micrograph.figures)


def open_tbm(settings: TbmSettings, cache: Path) -> GrainBoundaries:  # noqa: ARG001  needs no cache
    """Find the tiles of both published folders and split them anew by sample.

    Raises:
        DataError: A folder is missing or empty, a tile has no mask, a name has no sample, or a mask is of another size
            or marks too little or too much.
    """
    micrographs: list[_Micrograph] = []
    parts: dict[Split, list[int]] = {"train": [], "validation": [], "test": []}
    for sample, image, mask in _tbm_tiles(settings.path):
        part = _tbm_part(sample, settings)
        for grey in settings.train_greys if part == "train" else _TBM_JUDGED:
            name = image.stem if grey == "luma" else f"{image.stem}-{grey}"
            parts[part].append(len(micrographs))
            micrographs.append(_Micrograph(name, image, mask, MappingProxyType({"sample": float(sample)}), grey))
    if not parts["train"]:
        raise DataError(f"tbm {settings.path}: every sample is kept for tests, expected some to train on. Name fewer.")
    return GrainBoundaries(micrographs, MappingProxyType(parts), settings.path, "tbm")


def _tbm_tiles(root: Path) -> Iterator[tuple[int, Path, Path]]:
    """Sample, picture and mask of every tile of both published folders."""
    count = 0
    for folder in ("train", "test"):
        images, masks = root / folder / "images", root / folder / "masks"
        try:
            pictures = find_images(images)
        except CameraError as error:
            raise DataError(f"tbm {root}: {error}") from error
        for image in pictures:
            sample, dash, _ = image.stem.partition("-")
            if not dash or not sample.isdecimal():
                raise DataError(f"tbm {image}: found no sample in the name, expected SAMPLE-ROW-COL. Rename it.")
            mask = masks / image.name
            if not mask.is_file():
                raise DataError(f"tbm {image}: found no mask {mask}, expected one. Add it, or leave the tile out.")
            count += 1
            yield int(sample), image, mask
    if not count:
        raise DataError(f"tbm {root}: found no tiles, expected some in train/images. Check --data.")


def _tbm_part(sample: int, settings: TbmSettings) -> Split:
    if sample in settings.test_samples:
        return "test"
    return "validation" if sample in settings.validation_samples else "train"


def open_nist_grain(settings: NistGrainSettings, cache: Path) -> GrainBoundaries:  # noqa: ARG001  needs no cache
    """Both pictures with NIST's mean intercept as figure `mean_intercept_px`, edge to edge of the boundaries.

    Raises:
        DataError: A file is missing or unreadable, or holds no distances.
    """
    micrographs = []
    for image, mask, table in _NIST:
        path = settings.path / table
        try:
            distances = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)[:, 1]
        except (OSError, ValueError, IndexError) as error:
            raise DataError(f"nist {path}: {error}, expected angles and distances in px. Check --data.") from error
        if not len(distances) or not np.isfinite(distances).all() or distances.min() <= 0:
            raise DataError(f"nist {path}: found {len(distances)} distances, expected lengths above 0. Check the file.")
        figures = MappingProxyType({"mean_intercept_px": float(distances.mean())})
        micrographs.append(_Micrograph(Path(image).stem, settings.path / image, settings.path / mask, figures))
    split: dict[Split, Sequence[int]] = {"train": (), "validation": (), "test": range(len(micrographs))}
    return GrainBoundaries(micrographs, MappingProxyType(split), settings.path, "nist")
