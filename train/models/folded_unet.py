"""A U-Net over a folded picture, for CPUs: lines as fine as the picture, and no convolution at its full size.

The picture is folded (each 2x2 block of pixels becomes four channels, nothing is lost), and the last convolution writes
all four pixels of a block.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

FOLD = 2
"""Side of the blocks of pixels that become channels, and of those that the output's channels become."""


class FoldedUnet(nn.Module):
    """(N, 4, h, w) to (N, 4, h, w): logits of the four pixels of each cell.

    Height and width of the folded picture divide by 2 for each stage down, that of the picture by `multiple`.

    Args:
        channels: Of each stage, from the top down.
        rare_logit: Where the output begins: a head that says at once how rare what it looks for is saves the first
            epochs.
    """

    def __init__(self, channels: tuple[int, ...], rare_logit: float) -> None:
        super().__init__()
        first, deepest = channels[0], channels[-1]
        self.multiple = FOLD * 2 ** (len(channels) - 1)
        self.stem = nn.Sequential(*_conv(FOLD * FOLD, first), *_conv(first, first))
        self.down = nn.ModuleList(
            nn.Sequential(nn.MaxPool2d(2), *_conv(above, below), *_conv(below, below))
            for above, below in pairwise(channels)
        )
        self.context = nn.Sequential(*_conv(deepest, deepest, dilation=2), *_conv(deepest, deepest, dilation=4))
        self.up = nn.ModuleList(
            nn.Sequential(*_conv(above + below, above), *_conv(above, above))
            for above, below in reversed(tuple(pairwise(channels)))
        )
        self.head = nn.Conv2d(first, FOLD * FOLD, 3, padding=1)
        nn.init.constant_(self.head.bias, rare_logit)  # type: ignore[arg-type]  # it has one

    def forward(self, x: Tensor) -> Tensor:
        """Down, around, up."""
        skips = [self.stem(x)]
        for stage in self.down:
            skips.append(stage(skips[-1]))
        x = self.context(skips.pop())
        for stage in self.up:
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = stage(torch.cat((x, skips.pop()), dim=1))
        return self.head(x)


def _conv(inputs: int, outputs: int, dilation: int = 1) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
