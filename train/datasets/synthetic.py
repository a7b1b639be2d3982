"""Synthetic steel strip, rendered once into a cache and read from there in every epoch."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from camera.steel import strip
from runtime.errors import DataError
from train.datasets.base import Sample, Split

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CLASS_NAMES = ("pitting", "inclusion", "scratch", "corrosion")
_BITS = np.array([1, 2, 4, 8], np.uint8)


class SyntheticSettings(BaseModel):
    """Which strips are rendered. Each seed is a strip of its own; a split never shares a seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first_seed: int = Field(default=1000, ge=0, description="seed of the first training strip; the others follow")
    train_strips: int = Field(default=60, ge=1)
    validation_strips: int = Field(default=8, ge=1, description="seeds right behind the training strips")
    test_strips: int = Field(default=0, ge=0, description="seeds right behind the validation strips")
    frames_per_strip: int = Field(default=50, ge=1)
    frame_step: int = Field(default=3, ge=1, description="frames from one that is used to the next, for variety")
    height_px: int = Field(default=256, ge=64)
    width_px: int = Field(default=1600, ge=64)
    defects_per_frame: float = Field(default=0.8, ge=0, le=50)
    look_alikes_per_frame: float = Field(default=1.5, ge=0, le=50)


class SyntheticStrips:
    """Rendered strips; pixels and masks lie in memory-mapped files shared by every run that uses them."""

    def __init__(
        self, settings: SyntheticSettings, pixels: NDArray[np.uint8], bits: NDArray[np.uint8], digest: str
    ) -> None:
        self._settings = settings
        self._pixels = pixels
        self._bits = bits
        self._digest = digest
        parts, place = {}, 0
        for name, strips in _strips(settings).items():
            parts[name] = range(place, place + strips * settings.frames_per_strip)
            place = parts[name].stop
        self._split: Mapping[Split, Sequence[int]] = parts
        self._present = np.stack([np.bitwise_or.reduce(frame, axis=None) & _BITS > 0 for frame in bits])

    @property
    def class_names(self) -> tuple[str, ...]:
        """Pitting, inclusion, scratch, corrosion: the paper's four."""
        return _CLASS_NAMES

    @property
    def present(self) -> NDArray[np.bool_]:
        """(frames, 4) bool."""
        return self._present

    @property
    def split(self) -> Mapping[Split, Sequence[int]]:
        """By strip."""
        return self._split

    @property
    def digest(self) -> str:
        """Of the settings and of the generator's version."""
        return self._digest

    def __len__(self) -> int:
        return len(self._pixels)

    def sample(self, index: int) -> Sample:
        """Frame `index`, strip by strip."""
        strip_number, frame = divmod(index, self._settings.frames_per_strip)
        name = f"seed{self._settings.first_seed + strip_number}-frame{frame * self._settings.frame_step}"
        return Sample(name, self._pixels[index], (self._bits[index] & _BITS[:, None, None]) > 0)


def open_synthetic(settings: SyntheticSettings, cache: Path) -> SyntheticStrips:
    """Render the strips, or map the frames that an earlier run with the same settings and generator left.

    Raises:
        DataError: The cache cannot be written.
    """
    digest = _digest(settings)
    folder = cache / f"synthetic-{digest[:16]}"
    if not folder.is_dir():
        try:
            _render(settings, folder)
        except OSError as error:
            raise DataError(
                f"synthetic strips: cache {folder}: {error.strerror or error}, expected a writable folder with "
                f"{_bytes(settings) / 1e9:.1f} GB free. Set --cache, or render fewer strips."
            ) from error
    pixels, bits = (np.load(folder / name, mmap_mode="r") for name in ("pixels.npy", "bits.npy"))
    return SyntheticStrips(settings, pixels, bits, digest)


def _strips(settings: SyntheticSettings) -> dict[Split, int]:
    return {
        "train": settings.train_strips,
        "validation": settings.validation_strips,
        "test": settings.test_strips,
    }


def _bytes(settings: SyntheticSettings) -> int:
    frames = sum(_strips(settings).values()) * settings.frames_per_strip
    return 2 * frames * settings.height_px * settings.width_px


def _digest(settings: SyntheticSettings) -> str:
    """The pictures are a function of the settings and of the generator, so both are digested."""
    return hashlib.sha256(f"strip {strip.GENERATOR} {settings.model_dump_json()}".encode()).hexdigest()


def _render(settings: SyntheticSettings, folder: Path) -> None:
    """Write the cache beside its place and move it there whole, so that a half-written one is never read."""
    from rich.console import Console
    from rich.progress import track

    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=folder.name, dir=folder.parent))
    try:
        strips = sum(_strips(settings).values())
        shape = (strips * settings.frames_per_strip, settings.height_px, settings.width_px)
        pixels, bits = (
            np.lib.format.open_memmap(draft / name, mode="w+", dtype=np.uint8, shape=shape)
            for name in ("pixels.npy", "bits.npy")
        )
        # On standard error, so that a program reading --json meets nothing else.
        for number in track(range(strips), "rendering synthetic strips", console=Console(stderr=True)):
            source = strip.SyntheticStrip(
                settings.first_seed + number,
                height_px=settings.height_px,
                width_px=settings.width_px,
                defects_per_frame=settings.defects_per_frame,
                look_alikes_per_frame=settings.look_alikes_per_frame,
            )
            for frame in range(settings.frames_per_strip):
                made = source.frame(frame * settings.frame_step)
                place = number * settings.frames_per_strip + frame
                pixels[place] = made.pixels
                bits[place] = (made.truth * _BITS[:, None, None]).sum(axis=0, dtype=np.uint8)
        pixels.flush()
        bits.flush()
        try:
            draft.replace(folder)
        except OSError:
            if not folder.is_dir():  # another run was faster: its frames are the same
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
