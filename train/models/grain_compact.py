"""The grain size of a micrograph for CPUs: residual blocks on a folded picture, one FC layer on every cell.

A grain of G 13 is five pixels wide, one of G 2.5 two hundred. The picture is folded (each 4x4 block of pixels becomes
sixteen channels), which loses nothing of the finest grains and costs a sixteenth, and the last cells of 32x32 px see
320 px around them. Every cell gives a grain size number, or a logit for each grade, of its own; the picture's is their
mean, so the class activation map is exact, as with the paper's single FC layer (section VI).
"""

from __future__ import annotations

from types import MappingProxyType

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from train.encoder_weights import EncoderWeights
from train.models.blueprint import Blueprint, Blueprints, without_encoder_weights
from train.models.grey import covered, prepare
from train.models.outputs import GrainOutput

_FOLD = 4
_CELL_PX = 32
_MIDDLE_G = 8.0
"""A regression learns how far a grain size number is from here: in half precision small numbers are exact."""


class GrainCells(nn.Module):
    """A score for each cell of 32x32 px and, as their mean, for the picture.

    Args:
        features: (N, 16, h, w) float32 to (N, channels, h / 8, w / 8).
        channels: Of the last feature map.
        outputs: 1 for the grain size number, else one logit a grade.
    """

    def __init__(self, features: nn.Module, channels: int, outputs: int) -> None:
        super().__init__()
        self.features = features
        self.fully_connected = nn.Conv2d(channels, outputs, 1)
        self.cell_px = _CELL_PX
        self.middle = _MIDDLE_G if outputs == 1 else 0.0

    def forward(self, frames: Tensor) -> GrainOutput:
        """Rate frames (N, 1, H, W), grey levels 0..255, of any size."""
        cells = self.embed(frames)
        cams = self.fully_connected(cells).float() + self.middle
        share = covered(frames, _CELL_PX)
        return GrainOutput((cams * share).mean((2, 3)) / share.mean((2, 3)), cams)

    def embed(self, frames: Tensor) -> Tensor:
        """The last feature map (N, channels, h, w), of which a mean is the picture's feature vector."""
        return self.features(prepare(frames, multiple=_CELL_PX, fold=_FOLD))


def _stage(channels_in: int, channels_out: int, stride: int) -> nn.Module:
    shortcut = None
    if stride != 1 or channels_in != channels_out:
        shortcut = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
        )
    return BasicBlock(channels_in, channels_out, stride, shortcut)


def _resnet12(classes: int, weights: EncoderWeights) -> nn.Module:
    without_encoder_weights("grain resnet12-cells", weights)
    features = nn.Sequential(
        nn.Conv2d(_FOLD * _FOLD, 40, 3, padding=1, bias=False),
        nn.BatchNorm2d(40),
        nn.ReLU(),
        _stage(40, 40, 1),
        _stage(40, 80, 2),
        _stage(80, 112, 2),
        _stage(112, 136, 2),
        _stage(136, 136, 1),
    )
    return GrainCells(features, 136, classes)


COMPACT_GRAIN: Blueprints = MappingProxyType({"resnet12-cells": Blueprint("compact", _resnet12)})
