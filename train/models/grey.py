"""How a frame's grey levels become a network's input; the same for every network, so training and backends agree."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

GREY_MEAN = 114.5
"""Mean grey level subtracted from every pixel: ImageNet's (0.449 of 255), so that its weights fit."""
GREY_STD = 57.6
"""Grey levels of one unit at a network's input: ImageNet's standard deviation (0.226 of 255)."""


def scale_grey(frames: Tensor) -> Tensor:
    """Grey levels 0..255 of any dtype, (N, 1, H, W), to the float32 that the networks see."""
    return (frames.float() - GREY_MEAN) * (1.0 / GREY_STD)


def padding_px(size_px: int, multiple: int) -> int:
    """How much is missing until a height or width divides by `multiple`.

    Not `-size % multiple`, which is the same: TensorRT cannot follow a free size through a remainder.
    """
    return (size_px + multiple - 1) // multiple * multiple - size_px


def pad_to_multiple(frames: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until height and width divide by `multiple`; (N, C, H, W) any size."""
    down, across = (padding_px(size_px, multiple) for size_px in frames.shape[-2:])
    if down == 0 and across == 0:
        return frames
    return functional.pad(frames, (0, across, 0, down), mode="replicate")


def covered(frames: Tensor, cell_px: int) -> Tensor:
    """(1, 1, h, w) float32, 0..1: how much of each cell is picture, where the last ones reach beyond it."""
    height, width = frames.shape[-2:]
    # Not from the frames themselves: TensorRT cannot cut bytes.
    inside = torch.ones((1, 1, height, width), device=frames.device)
    missing = (0, padding_px(width, cell_px), 0, padding_px(height, cell_px))
    return functional.avg_pool2d(functional.pad(inside, missing), cell_px)


def prepare(frames: Tensor, *, multiple: int = 1, channels: int = 1, fold: int = 1) -> Tensor:
    """Frames as a network wants them: scaled, padded, repeated, folded.

    Args:
        frames: (N, 1, H, W), grey levels 0..255.
        multiple: Height and width are padded until they divide by this.
        channels: 3 repeats the grey level, for networks made for colour; 1 does not.
        fold: Side of the pixel blocks that become channels; divides `multiple`.

    Returns:
        (N, channels * fold * fold, H' / fold, W' / fold) float32, with H' and W' the padded sizes.
    """
    x = pad_to_multiple(scale_grey(frames), multiple).expand(-1, channels, -1, -1)
    return functional.pixel_unshuffle(x, fold) if fold > 1 else x
