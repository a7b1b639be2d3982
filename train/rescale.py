"""The grain paper's augmentation: a piece of a micrograph at another magnification has another grain size number.

A zoom by s makes every grain s^2 larger in area, so N = 2^(G-1) grains per square inch at 100x become N / s^2, and G
moves by -2 log2 s (section IV).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from numpy.typing import NDArray


def zoom_of(moved: float) -> float:
    """The zoom that moves a grain size number by `moved`.

    >>> zoom_of(-2.0)
    2.0
    """
    return 2.0 ** (-moved / 2.0)


@dataclass(frozen=True, slots=True)
class View:
    """How a piece is seen: turned, mirrored and zoomed about its middle.

    Attributes:
        zoom: Above 1 grains are larger.
        angle_rad: Rotation, counter-clockwise.
        mirrored: Left and right exchanged, before the rotation.
    """

    zoom: float = 1.0
    angle_rad: float = 0.0
    mirrored: bool = False

    def reach(self, size: tuple[int, int]) -> tuple[float, float]:
        """Height and width in px of the upright rectangle of the picture that a piece of this size needs."""
        sine, cosine = abs(math.sin(self.angle_rad)), abs(math.cos(self.angle_rad))
        height, width = size
        return (height * cosine + width * sine) / self.zoom, (height * sine + width * cosine) / self.zoom


def look(pixels: NDArray[np.uint8], middle: tuple[float, float], size: tuple[int, int], view: View) -> Tensor:
    """A piece of a picture, sampled once with bilinear weights; beyond its edges the picture is mirrored.

    Args:
        pixels: (H, W) uint8.
        middle: Row and column, in px from the upper left corner, that the piece is centred on.
        size: Height and width of the piece.
        view: Zoom, rotation, mirror.

    Returns:
        (1, h, w) float32, 0..255.
    """
    height, width = pixels.shape
    rows = (torch.arange(size[0]) + 0.5 - size[0] / 2) / view.zoom
    cols = (torch.arange(size[1]) + 0.5 - size[1] / 2) / view.zoom
    if view.mirrored:
        cols = -cols
    sine, cosine = math.sin(view.angle_rad), math.cos(view.angle_rad)
    down = middle[0] + rows[:, None] * cosine - cols * sine
    across = middle[1] + rows[:, None] * sine + cols * cosine
    grid = torch.stack((across * (2 / width) - 1, down * (2 / height) - 1), dim=-1)
    picture = torch.from_numpy(pixels.astype(np.float32))[None, None]
    return functional.grid_sample(picture, grid[None], padding_mode="reflection", align_corners=False)[0]
