"""CrackForest: cracks in asphalt, `images/NNN.jpg` with `masks/NNN.png`, split by blocks of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from runtime.errors import DataError
from train.datasets.base import Sample, Split
from train.datasets.pictures import digest_files, read_picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

_THRESHOLD = 127
"""Masks are 0 and 255; islands that a crack encloses are 0."""


class CrackForestSettings(BaseModel):
    """Where the set lies and how it is split. Neighbouring numbers overlap, so a part is a block of numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path = Field(description="folder with images/*.jpg and masks/*.png")
    last_train: int = Field(default=72, ge=1, description="number of the last picture that is not for testing")
    last_learnt: int = Field(
        default=62, ge=1, description="number of the last training picture; from here to last_train is validation"
    )

    @model_validator(mode="after")
    def _parts_follow_each_other(self) -> CrackForestSettings:
        if self.last_learnt > self.last_train:
            raise ValueError(f"last_learnt is {self.last_learnt}, expected at most last_train, {self.last_train}")
        return self


class CrackForest:
    """Pictures in the order of their numbers."""

    def __init__(self, pictures: Sequence[Path], masks: Sequence[Path], settings: CrackForestSettings) -> None:
        self._pictures = pictures
        self._masks = masks
        self._digest = digest_files([*pictures, *masks], settings.path)
        parts: dict[Split, list[int]] = {"train": [], "validation": [], "test": []}
        for index, picture in enumerate(pictures):
            number = int(picture.stem)
            learnt: Split = "train" if number <= settings.last_learnt else "validation"
            parts[learnt if number <= settings.last_train else "test"].append(index)
        self._split: Mapping[Split, Sequence[int]] = MappingProxyType(
            {name: tuple(each) for name, each in parts.items()}
        )
        if not parts["train"]:
            raise DataError(
                f"crackforest {settings.path}: found numbers {pictures[0].stem} to {pictures[-1].stem}, expected some "
                f"up to {settings.last_learnt} to learn from. Set data.last_learnt."
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Crack."""
        return ("crack",)

    @property
    def present(self) -> NDArray[np.bool_]:
        """(pictures, 1) bool: every picture shows a crack."""
        return np.ones((len(self._pictures), 1), np.bool_)

    @property
    def split(self) -> Mapping[Split, Sequence[int]]:
        """By number."""
        return self._split

    @property
    def digest(self) -> str:
        """Of every picture and mask."""
        return self._digest

    def __len__(self) -> int:
        return len(self._pictures)

    def sample(self, index: int) -> Sample:
        """Picture `index`, by number; nobody marked where its cracks end."""
        pixels = read_picture(self._pictures[index])
        mask = read_picture(self._masks[index], (pixels.shape[0], pixels.shape[1])) > _THRESHOLD
        return Sample(self._pictures[index].stem, pixels, mask[None])


def open_crackforest(settings: CrackForestSettings, cache: Path) -> CrackForest:  # noqa: ARG001
    """List the pictures and check that each has its mask.

    Raises:
        DataError: A folder is missing or empty, a picture has no mask, or a name is no number.
    """
    pictures = sorted((settings.path / "images").glob("*.jpg"))
    if not pictures:
        raise DataError(f"crackforest {settings.path}: found no images/*.jpg, expected pictures. Check --data.")
    masks = [settings.path / "masks" / f"{each.stem}.png" for each in pictures]
    for picture, mask in zip(pictures, masks, strict=True):
        if not picture.stem.isdecimal():
            raise DataError(f"crackforest: {picture}: expected a number for a name, like 001.jpg. Rename it.")
        if not mask.is_file():
            raise DataError(f"crackforest: {picture}: found no mask {mask}, expected one. Put it there.")
    return CrackForest(pictures, masks, settings)
