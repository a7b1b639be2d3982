"""Synthetic austenite of known grain size, etched once into a cache and read from there in every epoch."""

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
from pydantic import BaseModel, ConfigDict, Field, field_validator

from camera.steel import austenite, etching, tessellation
from camera.steel.austenite import GRADES, HALF_GRADES, HIGHEST_GRADE, LOWEST_GRADE, make_micrograph
from runtime.errors import DataError
from train.datasets.base import Sample, Split

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PIXELS, _BOUNDARIES, _TABLE = "pixels.npy", "boundaries.npy", "pictures.json"


class SyntheticGrainSettings(BaseModel):
    """Which micrographs are made. Each is a specimen of its own, and a split never shares a seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first_seed: int = Field(default=40_000, ge=0, description="seed of the first training picture; the others follow")
    train_per_grade: int = Field(default=30, ge=1)
    validation_per_grade: int = Field(default=6, ge=1)
    test_per_grade: int = Field(default=0, ge=0)
    grades: tuple[float, ...] = Field(default=GRADES, min_length=1, description="ASTM G of training and validation")
    test_grades: tuple[float, ...] = Field(
        default=HALF_GRADES, description="ASTM G of the test part: by default half grades, which are never trained on"
    )
    height_px: int = Field(default=512, ge=64)
    width_px: int = Field(default=640, ge=64)

    @field_validator("grades", "test_grades")
    @classmethod
    def _grades_can_be_made(cls, grades: tuple[float, ...]) -> tuple[float, ...]:
        wrong = [grade for grade in grades if not LOWEST_GRADE <= grade <= HIGHEST_GRADE]
        if wrong or len(set(grades)) != len(grades):
            raise ValueError(f"found {wrong or grades}, expected different ASTM G of {LOWEST_GRADE} to {HIGHEST_GRADE}")
        return grades


class SyntheticGrains:
    """Made micrographs; pixels and boundaries lie in memory-mapped files shared by every run that uses them."""

    def __init__(self, settings: SyntheticGrainSettings, folder: Path, digest: str) -> None:
        self._first_seed = settings.first_seed
        self._digest = digest
        self._pixels, self._boundaries = (np.load(folder / name, mmap_mode="r") for name in (_PIXELS, _BOUNDARIES))
        self._pictures = json.loads((folder / _TABLE).read_text(encoding="utf-8"))
        self._grades = np.array([each["grade"] for each in self._pictures])
        parts, place = {}, 0
        for name, grades in _parts(settings).items():
            parts[name] = range(place, place + len(grades))
            place = parts[name].stop
        self._split: Mapping[Split, Sequence[int]] = parts

    @property
    def class_names(self) -> tuple[str, ...]:
        """The one plane of the masks."""
        return ("boundary",)

    @property
    def present(self) -> NDArray[np.bool_]:
        """(pictures, 1) bool: every one has boundaries."""
        return np.ones((len(self), 1), np.bool_)

    @property
    def grades(self) -> NDArray[np.float64]:
        """(pictures,), the grade that each was made to have, as a steel mill would label it."""
        return self._grades

    @property
    def split(self) -> Mapping[Split, Sequence[int]]:
        """By seed."""
        return self._split

    @property
    def digest(self) -> str:
        """Of the settings and of the generator's source."""
        return self._digest

    def __len__(self) -> int:
        return len(self._pictures)

    def sample(self, index: int) -> Sample:
        """Picture `index`, with `grain_number` (counted) and `grade` (asked for) among its figures."""
        picture = self._pictures[index]
        return Sample(
            f"seed{self._first_seed + index}-G{picture['grade']:g}",
            self._pixels[index],
            self._boundaries[index][None],
            MappingProxyType(picture),
        )


def open_synthetic_grain(settings: SyntheticGrainSettings, cache: Path) -> SyntheticGrains:
    """Etch the specimens, or map those that an earlier run with the same settings and generator left.

    Raises:
        DataError: The cache cannot be written.
    """
    digest = _digest(settings)
    folder = cache / f"synthetic-grain-{digest[:16]}"
    if not folder.is_dir():
        try:
            _render(settings, folder)
        except OSError as error:
            pictures = sum(len(grades) for grades in _parts(settings).values())
            raise DataError(
                f"synthetic grain: cache {folder}: {error.strerror or error}, expected a writable folder with "
                f"{2 * pictures * settings.height_px * settings.width_px / 1e9:.1f} GB free. Set --cache, or make "
                "fewer pictures."
            ) from error
    return SyntheticGrains(settings, folder, digest)


def _parts(settings: SyntheticGrainSettings) -> dict[Split, tuple[float, ...]]:
    """The grade of each picture."""
    return {
        "train": settings.grades * settings.train_per_grade,
        "validation": settings.grades * settings.validation_per_grade,
        "test": settings.test_grades * settings.test_per_grade,
    }


def _digest(settings: SyntheticGrainSettings) -> str:
    """The pictures are a function of the settings and of the generator's code, so both are digested."""
    digest = hashlib.sha256(settings.model_dump_json().encode())
    for module in (austenite, etching, tessellation):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()


def _render(settings: SyntheticGrainSettings, folder: Path) -> None:
    """Write the cache beside its place and move it there whole, so that a half-written one is never read."""
    from rich.console import Console
    from rich.progress import track

    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=folder.name, dir=folder.parent))
    try:
        grades = [grade for part in _parts(settings).values() for grade in part]
        shape = (len(grades), settings.height_px, settings.width_px)
        pixels = np.lib.format.open_memmap(draft / _PIXELS, mode="w+", dtype=np.uint8, shape=shape)
        boundaries = np.lib.format.open_memmap(draft / _BOUNDARIES, mode="w+", dtype=np.bool_, shape=shape)
        pictures = []
        # On standard error, so that a program reading --json meets nothing else.
        for number in track(range(len(grades)), "etching synthetic austenite", console=Console(stderr=True)):
            made = make_micrograph(
                settings.first_seed + number,
                [grades[number]],
                height_px=settings.height_px,
                width_px=settings.width_px,
            )
            pixels[number], boundaries[number] = made.pixels, made.boundary
            pictures.append({"grain_number": made.grain_number, "grade": grades[number]})
        pixels.flush()
        boundaries.flush()
        (draft / _TABLE).write_text(json.dumps(pictures), encoding="utf-8")
        try:
            draft.replace(folder)
        except OSError:
            if not folder.is_dir():  # another run was faster: its pictures are the same
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
