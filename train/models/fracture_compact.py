"""VR-net for CPUs: the paper's idea, a map whose mean is the brittle fracture ratio, in a third of a million weights.

The picture is folded (each 2x2 block of pixels becomes four channels), the convolutions are VGG's, with average pools
as in the paper, and stop at cells of 8x8 pixels, where the paper's are 32x32: what is cleaved is a matter of texture,
which a few dilated convolutions see at that size, and the map keeps its borders.
"""

from __future__ import annotations

from types import MappingProxyType

from torch import Tensor, nn

from train.encoder_weights import EncoderWeights
from train.models.blueprint import Blueprint, Blueprints, expect_outputs, without_encoder_weights
from train.models.grey import covered, prepare
from train.models.outputs import FractureOutput

_FOLD = 2


class CellRegressor(nn.Module):
    """Global average pooling and one fully connected output, which is the mean of that output at every place.

    Attributes:
        cell_px: Side of an activation cell in px. Cell (0, 0) begins at pixel (0, 0); the last ones may reach beyond
            the picture and count by the part of them that lies in it.
    """

    def __init__(self, features: nn.Module, channels: int, cell_px: int) -> None:
        super().__init__()
        self.features = features
        self.fully_connected = nn.Conv2d(channels, 1, 1)
        self.cell_px = cell_px

    def forward(self, frames: Tensor) -> FractureOutput:
        """Rate frames (N, 1, H, W), grey levels 0..255, of any size."""
        x = prepare(frames, multiple=self.cell_px, fold=_FOLD)
        activation = self.fully_connected(self.features(x)).float()[:, 0]
        share = covered(frames, self.cell_px)[:, 0]
        return FractureOutput((activation * share).mean((1, 2)) / share.mean((1, 2)), activation)


def _block(channels_in: int, channels_out: int, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=dilation, dilation=dilation, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


def _vgg_cells(classes: int, weights: EncoderWeights) -> nn.Module:
    expect_outputs("fracture vgg8-cells", classes, 1)
    without_encoder_weights("fracture vgg8-cells", weights)
    features = nn.Sequential(
        _block(_FOLD * _FOLD, 32),
        nn.AvgPool2d(2),
        _block(32, 64),
        _block(64, 64),
        nn.AvgPool2d(2),
        _block(64, 96),
        _block(96, 96, dilation=2),
        _block(96, 96, dilation=4),
        _block(96, 96),
    )
    return CellRegressor(features, 96, cell_px=8)


COMPACT_FRACTURE: Blueprints = MappingProxyType({"vgg8-cells": Blueprint("compact", _vgg_cells)})
