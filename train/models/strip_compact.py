"""The strip's networks for CPUs.

The frame is folded (each 2x2 block of pixels becomes four channels, nothing is lost), the encoder is a narrow ResNet-10
of plain convolutions, and the decoder stops at a quarter of the frame's resolution, from where one convolution writes
all 4x4 pixels of a cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import timm
import torch
from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn
from torch.nn import functional

from train.encoder_weights import EncoderWeights, encoder_state, load_encoder
from train.models.blueprint import Blueprint, Blueprints, expect_outputs
from train.models.outputs import SegmenterOutput
from train.models.pixelwise import Pixelwise
from train.models.strip_parts import Gate

_RARE_LOGIT = -4.0


class CellGrid(nn.Module):
    """Judges each cell of 16x16 network pixels, from what lies in it and from what lies around.

    A frame is defective where its worst cell is. A mean over the frame would drown a defect of a thousandth of it, and
    a cell can be taught by where the defects are, which a label of the frame cannot say.
    """

    def __init__(self, encoder: nn.Module, channels: tuple[int, int]) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Sequential(
            nn.Conv2d(sum(channels), 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 1, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) to (N, 1, H / 16, W / 16)."""
        near, far = self.encoder(x)
        far = functional.interpolate(far, scale_factor=2.0, mode="nearest")
        # A size that does not divide by 32 leaves the upsampled map one cell too long.
        far = far[..., : near.shape[-2], : near.shape[-1]]
        return self.head(torch.cat((near, far), dim=1))


class ShortUnet(nn.Module):
    """A U-Net of smp's parts whose decoder stops at the encoder's first skip, for a head that unfolds the rest.

    smp's own U-Net doubles the resolution once more behind its last skip; that block sees nothing new and costs as much
    as the rest of the decoder.
    """

    def __init__(self, encoder: nn.Module, decoder_channels: tuple[int, ...], out_channels: int) -> None:
        super().__init__()
        skips: list[int] = encoder.out_channels  # type: ignore[assignment]  # smp's encoders carry it untyped
        self.encoder = encoder
        self.decoder = UnetDecoder(skips, decoder_channels, n_blocks=len(decoder_channels))
        self.segmentation_head = SegmentationHead(decoder_channels[-1], out_channels, kernel_size=1)
        # Defects are about a hundredth of the pixels; a head that says so at once saves the first epochs.
        for name, parameter in self.segmentation_head.named_parameters():
            if name.endswith("bias"):
                nn.init.constant_(parameter, _RARE_LOGIT)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) to (N, out_channels, h / 2, w / 2)."""
        return self.segmentation_head(self.decoder(self.encoder(x)))


_NARROW: Mapping[str, Any] = MappingProxyType({"channels": (32, 64, 128, 192), "stem_width": 16})


def _compact_gate(classes: int, weights: EncoderWeights) -> nn.Module:
    expect_outputs("gate resnet10-cells", classes, 1)
    encoder = timm.create_model("resnet10t", in_chans=4, features_only=True, out_indices=(3, 4), **_NARROW)
    if state := encoder_state(weights):
        # A segmenter's encoder, which knows the steel already, ends before the last stage: that one starts fresh.
        load_encoder(encoder, state, ignore_prefix=("fc.", "layer4."), source=weights)
    near, far = encoder.feature_info.channels()  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue] - timm's own
    return Gate(CellGrid(encoder, (near, far)), channels=1, fold=2)


def _compact_unet(classes: int, weights: EncoderWeights) -> nn.Module:
    encoder = get_encoder("tu-resnet10t", in_channels=4, depth=4, weights=None, **_NARROW)
    if state := encoder_state(weights):
        load_encoder(encoder.model, state, ignore_prefix=(), source=weights)
    network = ShortUnet(encoder, (96, 64, 32), classes * 16)
    return Pixelwise(network, SegmenterOutput, fold=2, unfold=4, multiple=32)


COMPACT_GATES: Blueprints = MappingProxyType({"resnet10-cells": Blueprint("compact", _compact_gate)})
COMPACT_SEGMENTERS: Blueprints = MappingProxyType({"unet-resnet10-narrow": Blueprint("compact", _compact_unet)})
