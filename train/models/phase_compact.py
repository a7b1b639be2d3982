"""Ferrite and pearlite for CPUs: a narrow U-Net over a folded picture, that sees no farther than it must.

The picture is folded (each 2x2 block of pixels becomes four channels) and the deepest level lies at an eighth of it.
What tells pearlite from ferrite is the texture within some ten lamellae, so a pixel's answer depends on nothing more
than `RADIUS_PX` away: a large micrograph cut into tiles with that much overlap gives the very same map.
"""

from __future__ import annotations

from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.encoder_weights import EncoderWeights
from train.models.blueprint import Blueprint, Blueprints, expect_outputs, without_encoder_weights
from train.models.outputs import PhaseOutput
from train.models.pixelwise import Pixelwise

RADIUS_PX = 56
"""How far away a pixel may lie that has a say in another's answer, at most."""
STRIDE_PX = 8
"""Tiles must begin at a multiple of this, or the pools would fall elsewhere than in the whole picture."""
_WIDTHS = (24, 48, 96)


class NarrowUnet(nn.Module):
    """Three levels, two convolutions each, on the way down and up again."""

    def __init__(self, channels: int, outputs: int, widths: tuple[int, int, int]) -> None:
        super().__init__()
        near, middle, far = widths
        self.near = nn.Sequential(_block(channels, near), _block(near, near))
        self.middle = nn.Sequential(_block(near, middle), _block(middle, middle))
        self.far = nn.Sequential(_block(middle, far), _block(far, far, dilation=2))
        self.up_middle = nn.Sequential(_block(far + middle, middle), _block(middle, middle))
        self.up_near = nn.Sequential(_block(middle + near, near), _block(near, near))
        self.head = nn.Conv2d(near, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) to (N, outputs, h, w); height and width divide by 4."""
        near = self.near(x)
        middle = self.middle(functional.max_pool2d(near, 2))
        far = self.far(functional.max_pool2d(middle, 2))
        middle = self.up_middle(torch.cat((_double(far), middle), dim=1))
        return self.head(self.up_near(torch.cat((_double(middle), near), dim=1)))


def _double(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


def _block(channels_in: int, channels_out: int, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=dilation, dilation=dilation, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


def _narrow_unet(classes: int, weights: EncoderWeights) -> nn.Module:
    expect_outputs("phase unet-narrow", classes, *range(2, 9))
    without_encoder_weights("phase unet-narrow", weights)
    network = NarrowUnet(4, classes * 4, _WIDTHS)
    return Pixelwise(network, PhaseOutput, fold=2, unfold=2, multiple=STRIDE_PX)


COMPACT_PHASE: Blueprints = MappingProxyType({"unet-narrow": Blueprint("compact", _narrow_unet)})
