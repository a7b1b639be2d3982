"""The crack U-Net for CPUs: the paper's shape on a folded picture (`folded_unet`), in a third of its weights.

One stage more than the paper's, and a dilated convolution at the bottom, see 200 px around: a crack is told from a
stain's rim by where it leads.
"""

from __future__ import annotations

from types import MappingProxyType

from torch import nn

from train.encoder_weights import EncoderWeights
from train.models.blueprint import Blueprint, Blueprints, expect_outputs, without_encoder_weights
from train.models.folded_unet import FOLD, FoldedUnet
from train.models.outputs import CrackOutput
from train.models.pixelwise import Pixelwise

_CHANNELS = (24, 40, 64, 96)
_RARE_LOGIT = -3.0  # a hundredth of the pixels is crack


def _folded_unet(classes: int, weights: EncoderWeights) -> nn.Module:
    expect_outputs("crack unet-folded", classes, 1)
    without_encoder_weights("crack unet-folded", weights)
    network = FoldedUnet(_CHANNELS, _RARE_LOGIT)
    return Pixelwise(network, CrackOutput, fold=FOLD, unfold=FOLD, multiple=network.multiple)


COMPACT_CRACK: Blueprints = MappingProxyType({"unet-folded": Blueprint("compact", _folded_unet)})
