"""What a dataset gives to training, whatever it is read from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture with its truth.

    Attributes:
        name: Unique within the dataset.
        pixels: (H, W) uint8; may be read-only and shared.
        masks: (C, H, W) bool, one plane a class; classes may overlap, and a clean picture has none set.
    """

    name: str
    pixels: NDArray[np.uint8]
    masks: NDArray[np.bool_]


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
