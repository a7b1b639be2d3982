"""How a frame's grey levels become a network's input; the same for every network, so training and backends agree."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

GREY_MEAN = 114.5
"""Mean grey level subtracted from every pixel: ImageNet's (0.449 of 255), so that its weights fit."""
GREY_STD = 57.6
"""Grey levels of one unit at a network's input: ImageNet's standard deviation (0.226 of 255)."""


def scale_grey(frames: Tensor) -> Tensor:
    """Grey levels 0..255 of any dtype, (N, 1, H, W), to the float32 that the networks see."""
    return (frames.float() - GREY_MEAN) * (1.0 / GREY_STD)


def pad_to_multiple(frames: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until height and width divide by `multiple`; (N, C, H, W) any size."""
    down, across = -frames.shape[-2] % multiple, -frames.shape[-1] % multiple
    if down == 0 and across == 0:
        return frames
    return functional.pad(frames, (0, across, 0, down), mode="replicate")


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
