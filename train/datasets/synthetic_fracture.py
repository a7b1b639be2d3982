"""Synthetic fracture surfaces, each of its own size, rendered once into a cache and read from there in every epoch."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from camera.steel.fracture import GENERATOR, fracture_surface
from runtime.errors import DataError
from train.datasets.base import Sample, Split

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PIXELS, _MAPS, _TABLE = "pixels.npy", "maps.npy", "specimens.json"


class SyntheticFractureSettings(BaseModel):
    """Which specimens are broken. Each seed is a specimen of its own; a split never shares a seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first_seed: int = Field(default=10_000, ge=0, description="seed of the first training specimen; the others follow")
    train_specimens: int = Field(default=700, ge=1)
    validation_specimens: int = Field(default=79, ge=1, description="seeds right behind the training specimens")
    test_specimens: int = Field(default=0, ge=0, description="seeds right behind the validation specimens")
    height_px: int | None = Field(default=None, ge=64, description="of every picture; none: each its own")
    width_px: int | None = Field(default=None, ge=64, description="of every picture; none: each its own")


class SyntheticFractures:
    """Rendered specimens; pictures and maps lie in memory-mapped files shared by every run that uses them."""

    def __init__(self, settings: SyntheticFractureSettings, folder: Path, digest: str) -> None:
        self._first_seed = settings.first_seed
        self._digest = digest
        self._pixels, self._maps = (np.load(folder / name, mmap_mode="r") for name in (_PIXELS, _MAPS))
        self._specimens = json.loads((folder / _TABLE).read_text(encoding="utf-8"))
        ends = np.cumsum([each["height_px"] * each["width_px"] for each in self._specimens])
        self._starts = (0, *ends.tolist())
        parts, place = {}, 0
        for name, count in _counts(settings).items():
            parts[name] = range(place, place + count)
            place = parts[name].stop
        self._split: Mapping[Split, Sequence[int]] = MappingProxyType(parts)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Brittle."""
        return ("brittle",)

    @property
    def present(self) -> NDArray[np.bool_]:
        """(specimens, 1) bool."""
        return np.array([[each["brittle_ratio"] > 0.0] for each in self._specimens], np.bool_)

    @property
    def split(self) -> Mapping[Split, Sequence[int]]:
        """By specimen."""
        return self._split

    @property
    def digest(self) -> str:
        """Of the settings and of the generator's version."""
        return self._digest

    def __len__(self) -> int:
        return len(self._specimens)

    def sample(self, index: int) -> Sample:
        """Specimen `index`, with `brittle_ratio` (0..1), `mm_per_px` and `thickness_mm` among its figures."""
        specimen = self._specimens[index]
        shape = specimen["height_px"], specimen["width_px"]
        span = slice(self._starts[index], self._starts[index + 1])
        return Sample(
            f"seed{self._first_seed + index}",
            self._pixels[span].reshape(shape),
            self._maps[span].reshape(1, *shape),
            MappingProxyType({name: specimen[name] for name in ("brittle_ratio", "mm_per_px", "thickness_mm")}),
        )


def open_synthetic_fracture(settings: SyntheticFractureSettings, cache: Path) -> SyntheticFractures:
    """Break the specimens, or map those that an earlier run with the same settings and generator left.

    Raises:
        DataError: The cache cannot be written.
    """
    digest = hashlib.sha256(f"fracture {GENERATOR} {settings.model_dump_json()}".encode()).hexdigest()
    folder = cache / f"synthetic-fracture-{digest[:16]}"
    if not folder.is_dir():
        try:
            _render(settings, folder)
        except OSError as error:
            gigabytes = sum(_counts(settings).values()) * 2 * 676 * 810 / 1e9
            raise DataError(
                f"synthetic fracture: cache {folder}: {error.strerror or error}, expected a writable folder with "
                f"{gigabytes:.1f} GB free. Set --cache, or render fewer specimens."
            ) from error
    return SyntheticFractures(settings, folder, digest)


def _counts(settings: SyntheticFractureSettings) -> dict[Split, int]:
    return {
        "train": settings.train_specimens,
        "validation": settings.validation_specimens,
        "test": settings.test_specimens,
    }


def _render(settings: SyntheticFractureSettings, folder: Path) -> None:
    """Write the cache beside its place and move it there whole, so that a half-written one is never read."""
    from rich.console import Console
    from rich.progress import track

    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=folder.name, dir=folder.parent))
    try:
        pixels, maps, specimens = [], [], []
        seeds = range(settings.first_seed, settings.first_seed + sum(_counts(settings).values()))
        # On standard error, so that a program reading --json meets nothing else.
        for seed in track(seeds, "breaking synthetic specimens", console=Console(stderr=True)):
            made = fracture_surface(seed, height_px=settings.height_px, width_px=settings.width_px)
            pixels.append(made.pixels.ravel())
            maps.append(made.brittle.ravel())
            height_px, width_px = made.pixels.shape
            specimens.append(
                {
                    "height_px": height_px,
                    "width_px": width_px,
                    "view": made.view,
                    "brittle_ratio": made.brittle_ratio,
                    "mm_per_px": made.mm_per_px,
                    "thickness_mm": made.thickness_mm,
                }
            )
        np.save(draft / _PIXELS, np.concatenate(pixels))
        np.save(draft / _MAPS, np.concatenate(maps))
        (draft / _TABLE).write_text(json.dumps(specimens), encoding="utf-8")
        try:
            draft.replace(folder)
        except OSError:
            if not folder.is_dir():  # another run was faster: its specimens are the same
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
