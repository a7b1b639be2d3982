"""The strip's gate and segmenter: the networks of the Severstal cascade to the last parameter.

ResNet gates by timm, U-Nets by segmentation_models_pytorch; the networks for CPUs are in `strip_compact`.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import segmentation_models_pytorch as smp
import timm
from torch import nn

from train.encoder_weights import EncoderWeights, encoder_state, load_encoder
from train.models.blueprint import Blueprint, Blueprints, expect_outputs
from train.models.outputs import SegmenterOutput
from train.models.pixelwise import Pixelwise
from train.models.strip_compact import COMPACT_GATES, COMPACT_SEGMENTERS
from train.models.strip_parts import Gate, OneCell


def _paper_gate(name: str) -> Callable[[int, EncoderWeights], nn.Module]:
    def build_gate(classes: int, weights: EncoderWeights) -> nn.Module:
        expect_outputs(f"gate {name}", classes, 1)
        network = timm.create_model(name, num_classes=1, in_chans=3)
        if state := encoder_state(weights, timm_name=name):
            load_encoder(network, state, ignore_prefix="fc.", source=weights)
        return Gate(OneCell(network), channels=3, fold=1)

    return build_gate


def _paper_unet(encoder_name: str) -> Callable[[int, EncoderWeights], nn.Module]:
    def build_unet(classes: int, weights: EncoderWeights) -> nn.Module:
        network = smp.Unet(encoder_name, encoder_weights=None, in_channels=3, classes=classes)
        if state := encoder_state(weights, smp_name=encoder_name):
            load_encoder(network.encoder, state, ignore_prefix=("fc.", "_fc."), source=weights)
        return Pixelwise(network, SegmenterOutput, channels=3, multiple=32)

    return build_unet


GATES: Blueprints = MappingProxyType(
    {
        "resnet50": Blueprint("paper", _paper_gate("resnet50")),
        "resnet34": Blueprint("paper", _paper_gate("resnet34")),
        **COMPACT_GATES,
    }
)
"""Defective or clean; the outputs are `GateOutput`."""

SEGMENTERS: Blueprints = MappingProxyType(
    {
        "unet-efficientnet-b3": Blueprint("paper", _paper_unet("efficientnet-b3")),
        "unet-resnet34": Blueprint("paper", _paper_unet("resnet34")),
        "unet-resnet50": Blueprint("paper", _paper_unet("resnet50")),
        **COMPACT_SEGMENTERS,
    }
)
"""Independent classes at each pixel; the outputs are `SegmenterOutput`."""
