"""The crack-tip paper's network: a U-Net of 1,735,361 parameters, layer by layer as its parameter table has it.

Grey pictures of any size; ReLU, no batch norm; one sigmoid a pixel, which an export adds. The network for CPUs is in
`crack_compact`.
"""

from __future__ import annotations

from types import MappingProxyType

import torch
from torch import Tensor, nn

from train.encoder_weights import EncoderWeights
from train.models.blueprint import Blueprint, Blueprints, expect_outputs, without_encoder_weights
from train.models.outputs import CrackOutput
from train.models.parts import conv_relu, initialise_he
from train.models.pixelwise import Pixelwise

_ENCODER = ((1, 64, 64), (64, 64, 64), (64, 128, 128))
_BRIDGE = (128, 256, 128)
_DECODER = ((128, 128, 64), (64, 64, 64), (64, 64, 64))  # up-convolution, first and second convolution


class CrackUnet(nn.Module):
    """(N, 1, H, W) to (N, 1, H, W) logits; height and width divide by 8."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(_two(*stage) for stage in _ENCODER)
        self.pool = nn.MaxPool2d(2)
        self.bridge = _two(*_BRIDGE)
        inputs = (_BRIDGE[-1], *(second for *_, second in _DECODER))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(deep, channels, 3, stride=2, padding=1, output_padding=1)
            for deep, (channels, _, _) in zip(inputs, _DECODER, strict=False)
        )
        skips = [stage[-1] for stage in reversed(_ENCODER)]
        self.decoder = nn.ModuleList(
            _two(channels + skip, first, second)
            for skip, (channels, first, second) in zip(skips, _DECODER, strict=True)
        )
        self.head = nn.Conv2d(_DECODER[-1][-1], 1, 3, padding=1)
        initialise_he(self)

    def forward(self, x: Tensor) -> Tensor:
        """Down, across, up."""
        skips: list[Tensor] = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
            x = self.pool(x)
        x = self.bridge(x)
        for up, stage in zip(self.up, self.decoder, strict=True):
            x = stage(torch.cat((up(x), skips.pop()), dim=1))
        return self.head(x)


def _two(inputs: int, first: int, second: int) -> nn.Sequential:
    return nn.Sequential(*conv_relu(inputs, first), *conv_relu(first, second))


def _build_unet(classes: int, weights: EncoderWeights) -> nn.Module:
    expect_outputs("crack unet", classes, 1)
    without_encoder_weights("crack unet", weights)
    return Pixelwise(CrackUnet(), CrackOutput, multiple=8)


BLUEPRINTS: Blueprints = MappingProxyType({"unet": Blueprint("paper", _build_unet)})
"""Crack or not, at each pixel; the outputs are `CrackOutput`."""
