"""The crack U-Net for CPUs: the paper's shape on a folded picture, in a third of its weights.

The picture is folded (each 2x2 block of pixels becomes four channels, nothing is lost), so that no convolution runs at
full size; the last one writes all four pixels of a block, and the mask is as fine as the picture. One stage more than
the paper's, and a dilated convolution at the bottom, see 200 px around: a crack is told from a stain's rim by where it
leads.
"""

from __future__ import annotations

from itertools import pairwise
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.encoder_weights import EncoderWeights
from train.models.blueprint import Blueprint, Blueprints, expect_outputs, without_encoder_weights
from train.models.outputs import CrackOutput
from train.models.pixelwise import Pixelwise

_FOLD = 2
_CHANNELS = (24, 40, 64, 96)
_RARE_LOGIT = -3.0


class FoldedUnet(nn.Module):
    """(N, 4, h, w) to (N, 4, h, w): logits of the four pixels of each cell; height and width divide by 8."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        first, deepest = channels[0], channels[-1]
        self.stem = nn.Sequential(*_conv(_FOLD * _FOLD, first), *_conv(first, first))
        self.down = nn.ModuleList(
            nn.Sequential(nn.MaxPool2d(2), *_conv(above, below), *_conv(below, below))
            for above, below in pairwise(channels)
        )
        self.context = nn.Sequential(*_conv(deepest, deepest, dilation=2), *_conv(deepest, deepest, dilation=4))
        self.up = nn.ModuleList(
            nn.Sequential(*_conv(above + below, above), *_conv(above, above))
            for above, below in reversed(tuple(pairwise(channels)))
        )
        self.head = nn.Conv2d(first, _FOLD * _FOLD, 3, padding=1)
        # A hundredth of the pixels is crack; a head that says so at once saves the first epochs.
        nn.init.constant_(self.head.bias, _RARE_LOGIT)  # type: ignore[arg-type]  # it has one

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


def _folded_unet(classes: int, weights: EncoderWeights) -> nn.Module:
    expect_outputs("crack unet-folded", classes, 1)
    without_encoder_weights("crack unet-folded", weights)
    return Pixelwise(FoldedUnet(_CHANNELS), CrackOutput, fold=_FOLD, unfold=_FOLD, multiple=_FOLD * 8)


COMPACT_CRACK: Blueprints = MappingProxyType({"unet-folded": Blueprint("compact", _folded_unet)})
