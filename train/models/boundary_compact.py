"""Grain boundaries for CPUs: the folded U-Net (`folded_unet`), wider than the one for cracks.

Where the etchant colours grains and marks no line, a boundary is the seam between two textures: each pixel needs to
know what lies on both sides, so the lower stages have more channels.
"""

from __future__ import annotations

from types import MappingProxyType

from torch import nn

from train.encoder_weights import EncoderWeights
from train.models.blueprint import Blueprint, Blueprints, expect_outputs, without_encoder_weights
from train.models.folded_unet import FOLD, FoldedUnet
from train.models.outputs import BoundaryOutput
from train.models.pixelwise import Pixelwise

_CHANNELS = (32, 48, 64, 96)
_RARE_LOGIT = -1.5  # a sixth of the pixels is boundary


def _folded_unet(classes: int, weights: EncoderWeights) -> nn.Module:
    expect_outputs("boundary unet-folded", classes, 1)
    without_encoder_weights("boundary unet-folded", weights)
    network = FoldedUnet(_CHANNELS, _RARE_LOGIT)
    return Pixelwise(network, BoundaryOutput, fold=FOLD, unfold=FOLD, multiple=network.multiple)


COMPACT_BOUNDARY: Blueprints = MappingProxyType({"unet-folded": Blueprint("compact", _folded_unet)})
