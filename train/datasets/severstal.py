"""The Severstal competition's layout: `train.csv` with run lengths, and `train_images` beside it."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from camera.base import CameraError
from camera.images import find_images
from runtime.errors import DataError
from runtime.rle import decode
from train.datasets.base import Sample, Split
from train.datasets.pictures import digest_files, read_picture, split_ratio

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CLASS_NAMES = ("pitting", "inclusion", "scratch", "corrosion")
_COLUMNS = ("ImageId", "ClassId", "EncodedPixels")


class SeverstalSettings(BaseModel):
    """Where the set lies and how it is split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path = Field(description="folder with train.csv and train_images")
    height_px: int = Field(default=256, ge=32)
    width_px: int = Field(default=1600, ge=32)
    validation_ratio: float = Field(default=0.1, ge=0, lt=1)
    test_ratio: float = Field(default=0.1, ge=0, lt=1)


class Severstal:
    """Strip frames with the run lengths of their defects; a frame without a row is clean."""

    def __init__(
        self, settings: SeverstalSettings, pictures: list[Path], runs: dict[str, dict[int, str]], digest: str
    ) -> None:
        self._shape = (settings.height_px, settings.width_px)
        self._table = settings.path / "train.csv"
        self._pictures = pictures
        self._runs = runs
        self._digest = digest
        self._present = np.array(
            [[class_id in runs.get(path.name, {}) for class_id in range(1, 5)] for path in pictures], np.bool_
        )
        self._split = split_by_rank([path.stem for path in pictures], settings.validation_ratio, settings.test_ratio)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The paper's names of classes 1 to 4."""
        return _CLASS_NAMES

    @property
    def present(self) -> NDArray[np.bool_]:
        """(frames, 4) bool, from the table's rows."""
        return self._present

    @property
    def split(self) -> Mapping[Split, Sequence[int]]:
        """By the frames' names."""
        return self._split

    @property
    def digest(self) -> str:
        """Of the table and of every picture."""
        return self._digest

    def __len__(self) -> int:
        return len(self._pictures)

    def sample(self, index: int) -> Sample:
        """Frame `index` in natural order of the names."""
        path = self._pictures[index]
        masks = np.zeros((4, *self._shape), np.bool_)
        for class_id, text in self._runs.get(path.name, {}).items():
            masks[class_id - 1] = decode(text, self._shape)
        return Sample(path.stem, read_picture(path, self._shape), masks)


def open_severstal(settings: SeverstalSettings, cache: Path) -> Severstal:  # noqa: ARG001  needs no cache
    """Read the table and check every row of it, so that training never meets a bad one.

    Raises:
        DataError: A file is missing or unreadable, a picture that the table names is absent, a class is unknown or a
            run length leaves the frame; the text names file and row.
    """
    table = settings.path / "train.csv"
    try:
        pictures = find_images(settings.path / "train_images")
    except CameraError as error:
        raise DataError(f"severstal: {error}") from error
    if not pictures:
        raise DataError(f"severstal {settings.path / 'train_images'}: found no pictures, expected JPGs. Check --data.")
    runs = _read_table(table, {path.name for path in pictures}, (settings.height_px, settings.width_px))
    return Severstal(settings, pictures, runs, digest_files([table, *pictures], settings.path))


def split_by_rank(names: Sequence[str], validation_ratio: float, test_ratio: float) -> dict[Split, Sequence[int]]:
    """Split by a hash of each name: the shares are exact, and the order of the folder plays no part.

    >>> {part: len(found) for part, found in split_by_rank([str(n) for n in range(13)], 0.0, 4 / 13).items()}
    {'train': 9, 'validation': 0, 'test': 4}
    """
    order = sorted(range(len(names)), key=lambda index: split_ratio(names[index]))
    tests = round(test_ratio * len(names))
    validations = round(validation_ratio * len(names))
    return {
        "train": tuple(sorted(order[tests + validations :])),
        "validation": tuple(sorted(order[tests : tests + validations])),
        "test": tuple(sorted(order[:tests])),
    }


def _read_table(table: Path, known: set[str], shape: tuple[int, int]) -> dict[str, dict[int, str]]:
    """Run lengths by picture and class. The rows are numbered as an editor numbers the lines of the file."""
    runs: dict[str, dict[int, str]] = {}
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            if tuple(header) != _COLUMNS:
                raise DataError(
                    f"{table}: row 1: found columns {header}, expected {list(_COLUMNS)}. Give the competition's table."
                )
            for row in reader:
                where = f"{table}: row {reader.line_num}"
                picture, class_id, text = _read_row(row, where, known, shape)
                if class_id in runs.setdefault(picture, {}):
                    raise DataError(
                        f"{where}: {picture} has class {class_id} twice, expected one row a class. Merge the rows."
                    )
                runs[picture][class_id] = text
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{table}: {error}, expected a readable table. Check --data.") from error
    return runs


def _read_row(row: list[str], where: str, known: set[str], shape: tuple[int, int]) -> tuple[str, int, str]:
    if len(row) != len(_COLUMNS):
        raise DataError(f"{where}: found {len(row)} fields, expected {len(_COLUMNS)}. Correct the row.")
    picture, class_id, text = row
    if picture not in known:
        raise DataError(f"{where}: no picture {picture!r} in train_images, expected one. Fetch it, or drop the row.")
    if class_id not in {"1", "2", "3", "4"}:
        raise DataError(f"{where}: unknown class {class_id!r}, expected 1 to 4. Correct the row.")
    try:
        decoded = decode(text, shape)
    except ValueError as error:
        raise DataError(f"{where}: {picture}, class {class_id}: {error}") from error
    if not decoded.any():
        raise DataError(f"{where}: {picture}, class {class_id}: found no pixels, expected some. Drop the row.")
    return picture, int(class_id), text
