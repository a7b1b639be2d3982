"""Synthetic micrographs of ferrite and pearlite, rendered once into a cache and read from there in every epoch."""

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

from camera.steel.micrograph import GENERATOR, draw_settings, make_micrograph
from runtime.errors import DataError
from train.datasets.base import Sample, Split

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PIXELS, _PEARLITE = "pixels.npy", "pearlite.npy"


class SyntheticPhaseSettings(BaseModel):
    """Which micrographs are rendered. Each seed is a steel, a preparation and a microscope of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first_seed: int = Field(default=20_000, ge=0, description="seed of the first training micrograph; others follow")
    train_micrographs: int = Field(default=320, ge=1)
    validation_micrographs: int = Field(default=32, ge=1, description="seeds right behind the training micrographs")
    test_micrographs: int = Field(default=0, ge=0, description="seeds right behind the validation micrographs")
    height_px: int = Field(default=448, ge=64)
    width_px: int = Field(default=448, ge=64)
    min_pearlite_ratio: float = Field(default=0.08, ge=0, le=1)
    max_pearlite_ratio: float = Field(default=0.9, ge=0, le=1)


class SyntheticMicrographs:
    """Rendered micrographs; pixels and masks lie in memory-mapped files shared by every run that uses them."""

    def __init__(self, settings: SyntheticPhaseSettings, folder: Path, digest: str) -> None:
        self._first_seed = settings.first_seed
        self._digest = digest
        self._pixels, self._pearlite = (np.load(folder / name, mmap_mode="r") for name in (_PIXELS, _PEARLITE))
        parts, place = {}, 0
        for name, count in _counts(settings).items():
            parts[name] = range(place, place + count)
            place = parts[name].stop
        self._split: Mapping[Split, Sequence[int]] = MappingProxyType(parts)
        self._present = self._pearlite.any(axis=(1, 2))[:, None]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Pearlite; what is not is ferrite."""
        return ("pearlite",)

    @property
    def present(self) -> NDArray[np.bool_]:
        """(micrographs, 1) bool."""
        return self._present

    @property
    def split(self) -> Mapping[Split, Sequence[int]]:
        """By micrograph."""
        return self._split

    @property
    def digest(self) -> str:
        """Of the settings and of the generator's version."""
        return self._digest

    def __len__(self) -> int:
        return len(self._pixels)

    def sample(self, index: int) -> Sample:
        """Micrograph `index`, with the share of its pixels that are pearlite as figure `pearlite_ratio`."""
        pearlite = self._pearlite[index]
        figures = MappingProxyType({"pearlite_ratio": float(pearlite.mean())})
        return Sample(f"seed{self._first_seed + index}", self._pixels[index], pearlite[None], figures)


def open_synthetic_phase(settings: SyntheticPhaseSettings, cache: Path) -> SyntheticMicrographs:
    """Render the micrographs, or map those that an earlier run with the same settings and generator left.

    Raises:
        DataError: The cache cannot be written, or the settings contradict each other.
    """
    if settings.min_pearlite_ratio > settings.max_pearlite_ratio:
        raise DataError(
            f"synthetic phase: found min_pearlite_ratio {settings.min_pearlite_ratio} above max_pearlite_ratio "
            f"{settings.max_pearlite_ratio}, expected the smaller one first. Swap them."
        )
    digest = hashlib.sha256(f"phase {GENERATOR} {settings.model_dump_json()}".encode()).hexdigest()
    folder = cache / f"synthetic-phase-{digest[:16]}"
    if not folder.is_dir():
        try:
            _render(settings, folder)
        except OSError as error:
            gigabytes = 2 * sum(_counts(settings).values()) * settings.height_px * settings.width_px / 1e9
            raise DataError(
                f"synthetic phase: cache {folder}: {error.strerror or error}, expected a writable folder with "
                f"{gigabytes:.1f} GB free. Set --cache, or render fewer micrographs."
            ) from error
    return SyntheticMicrographs(settings, folder, digest)


def _counts(settings: SyntheticPhaseSettings) -> dict[Split, int]:
    return {
        "train": settings.train_micrographs,
        "validation": settings.validation_micrographs,
        "test": settings.test_micrographs,
    }


def _render(settings: SyntheticPhaseSettings, folder: Path) -> None:
    """Write the cache beside its place and move it there whole, so that a half-written one is never read."""
    from rich.console import Console
    from rich.progress import track

    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=folder.name, dir=folder.parent))
    try:
        count = sum(_counts(settings).values())
        size_px = (settings.height_px, settings.width_px)
        pixels, pearlite = (
            np.lib.format.open_memmap(draft / name, mode="w+", dtype=dtype, shape=(count, *size_px))
            for name, dtype in ((_PIXELS, np.uint8), (_PEARLITE, np.bool_))
        )
        ratios = (settings.min_pearlite_ratio, settings.max_pearlite_ratio)
        # On standard error, so that a program reading --json meets nothing else.
        for place in track(range(count), "etching synthetic micrographs", console=Console(stderr=True)):
            seed = settings.first_seed + place
            made = make_micrograph(seed, draw_settings(seed, size_px, ratios))
            pixels[place], pearlite[place] = made.pixels, made.pearlite
        pixels.flush()
        pearlite.flush()
        try:
            draft.replace(folder)
        except OSError:
            if not folder.is_dir():  # another run was faster: its micrographs are the same
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
