"""Synthetic cracked pipe sections, rendered once into a cache and read from there in every epoch."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from camera.steel.crack import GENERATOR, draw_crack
from runtime.errors import DataError
from train.datasets.base import Sample, Split

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PIXELS, _MASKS, _TIPS, _TIP_STARTS = "pixels.npy", "masks.npy", "tips.npy", "tip_starts.npy"


class SyntheticCrackSettings(BaseModel):
    """Which pictures are drawn. Each seed is a specimen of its own; a split never shares a seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first_seed: int = Field(default=20_000, ge=0, description="seed of the first training picture; the others follow")
    train_pictures: int = Field(default=400, ge=1)
    validation_pictures: int = Field(default=60, ge=1, description="seeds right behind the training pictures")
    test_pictures: int = Field(default=0, ge=0, description="seeds right behind the validation pictures")
    height_px: int = Field(default=512, ge=64)
    width_px: int = Field(default=640, ge=64)
    clean_ratio: float = Field(default=0.1, ge=0, lt=1, description="share of the pictures without a crack")
    branches: float = Field(default=1.6, ge=0, le=20, description="mean number of a main crack's branches")
    separate: float = Field(default=1.2, ge=0, le=20, description="mean number of secondary cracks beside it")
    look_alikes: float = Field(default=1.0, ge=0, le=10, description="scratches, stains and the like; 1 is usual")


class SyntheticCracks:
    """Rendered pictures; pixels and masks lie in memory-mapped files shared by every run that uses them."""

    def __init__(self, settings: SyntheticCrackSettings, folder: Path, digest: str) -> None:
        self._first_seed = settings.first_seed
        self._digest = digest
        self._pixels, self._masks = (np.load(folder / name, mmap_mode="r") for name in (_PIXELS, _MASKS))
        self._tips, self._tip_starts = (np.load(folder / name) for name in (_TIPS, _TIP_STARTS))
        parts, place = {}, 0
        for name, count in _counts(settings).items():
            parts[name] = range(place, place + count)
            place = parts[name].stop
        self._split: Mapping[Split, Sequence[int]] = MappingProxyType(parts)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Crack."""
        return ("crack",)

    @property
    def present(self) -> NDArray[np.bool_]:
        """(pictures, 1) bool: which have tips, and so a crack."""
        return (np.diff(self._tip_starts) > 0)[:, None]

    @property
    def split(self) -> Mapping[Split, Sequence[int]]:
        """By picture."""
        return self._split

    @property
    def digest(self) -> str:
        """Of the settings and of the generator's version."""
        return self._digest

    def __len__(self) -> int:
        return len(self._pixels)

    def sample(self, index: int) -> Sample:
        """Picture `index` with its tips as points, the main crack's first."""
        points = self._tips[self._tip_starts[index] : self._tip_starts[index + 1]]
        return Sample(f"seed{self._first_seed + index}", self._pixels[index], self._masks[index][None], points=points)


def open_synthetic_crack(settings: SyntheticCrackSettings, cache: Path) -> SyntheticCracks:
    """Draw the pictures, or map those that an earlier run with the same settings and generator left.

    Raises:
        DataError: The cache cannot be written.
    """
    digest = hashlib.sha256(f"crack {GENERATOR} {settings.model_dump_json()}".encode()).hexdigest()
    folder = cache / f"synthetic-crack-{digest[:16]}"
    if not folder.is_dir():
        try:
            _render(settings, folder)
        except OSError as error:
            gigabytes = 2 * sum(_counts(settings).values()) * settings.height_px * settings.width_px / 1e9
            raise DataError(
                f"synthetic crack: cache {folder}: {error.strerror or error}, expected a writable folder with "
                f"{gigabytes:.1f} GB free. Set --cache, or draw fewer pictures."
            ) from error
    return SyntheticCracks(settings, folder, digest)


def _counts(settings: SyntheticCrackSettings) -> dict[Split, int]:
    return {
        "train": settings.train_pictures,
        "validation": settings.validation_pictures,
        "test": settings.test_pictures,
    }


def is_clean(number: int, clean_ratio: float) -> bool:
    """Whether a picture has no crack: so many in each stretch, evenly spread.

    >>> [is_clean(number, 0.25) for number in range(8)]
    [False, False, False, True, False, False, False, True]
    """
    return int((number + 1) * clean_ratio) > int(number * clean_ratio)


def _render(settings: SyntheticCrackSettings, folder: Path) -> None:
    """Write the cache beside its place and move it there whole, so that a half-written one is never read."""
    from rich.console import Console
    from rich.progress import track

    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=folder.name, dir=folder.parent))
    try:
        count = sum(_counts(settings).values())
        shape = (count, settings.height_px, settings.width_px)
        pixels = np.lib.format.open_memmap(draft / _PIXELS, mode="w+", dtype=np.uint8, shape=shape)
        masks = np.lib.format.open_memmap(draft / _MASKS, mode="w+", dtype=np.bool_, shape=shape)
        tips: list[NDArray[np.float32]] = [np.empty((0, 2), np.float32)]
        # On standard error, so that a program reading --json meets nothing else.
        for number in track(range(count), "drawing cracked pipes", console=Console(stderr=True)):
            made = draw_crack(
                settings.first_seed + number,
                height_px=settings.height_px,
                width_px=settings.width_px,
                cracked=not is_clean(number, settings.clean_ratio),
                branches=settings.branches,
                separate=settings.separate,
                look_alikes=settings.look_alikes,
            )
            pixels[number], masks[number] = made.pixels, made.mask
            tips.append(made.tips)
        pixels.flush()
        masks.flush()
        np.save(draft / _TIPS, np.concatenate(tips))
        np.save(draft / _TIP_STARTS, np.cumsum([len(each) for each in tips]))
        try:
            draft.replace(folder)
        except OSError:
            if not folder.is_dir():  # another run was faster: its pictures are the same
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
