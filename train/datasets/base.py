"""What a dataset gives to training, whatever it is read from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture with its truth.

    Attributes:
        name: Unique within the dataset.
        pixels: (H, W) uint8; may be read-only and shared.
        masks: (C, H, W) bool, one plane a class; classes may overlap, and a clean picture has none set.
        figures: What is known of the whole picture, by name: `brittle_ratio`, `grain_number`.
        points: (k, 2) float32, row and column in px, of places that matter: the tips of a crack, the main one first.
    """

    name: str
    pixels: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    figures: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    points: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 2), np.float32))


class Dataset(Protocol):
    """Pictures with masks, in a fixed order and with a fixed split."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of the masks' planes."""
        ...

    @property
    def present(self) -> NDArray[np.bool_]:
        """(pictures, C) bool: which classes each picture shows, known without reading the pictures."""
        ...

    @property
    def split(self) -> Mapping[Split, Sequence[int]]:
        """Picture numbers of each part; the same whenever the same data is opened."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of all that decides pictures, masks and split."""
        ...

    def __len__(self) -> int: ...

    def sample(self, index: int) -> Sample:
        """Picture `index` of 0 to len - 1.

        Raises:
            DataError: The picture or its label is unreadable.
        """
        ...
