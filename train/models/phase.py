"""The ferrite and pearlite paper's networks: U-Net, SegNet, and DeepLabv3+ on three backbones (its Table 2).

They are MATLAB's, to the last parameter and layer of the paper's appendix: every convolution has a bias, batch norm
behind it or not. Frames are grey and repeated to three channels, of any size. DeepLabv3+ is in `deeplab`, the network
for CPUs in `phase_compact`.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from train.encoder_weights import EncoderWeights, encoder_state, load_encoder
from train.models.blueprint import Blueprint, Blueprints, expect_outputs, without_encoder_weights
from train.models.deeplab import BACKBONES, DeepLab
from train.models.outputs import PhaseOutput
from train.models.parts import FirstOfBlock, conv_relu, initialise_he, unpool
from train.models.pixelwise import Pixelwise


class PhaseUnet(nn.Module):
    """MATLAB's U-Net of depth 3 (46 layers): ReLU behind the up-convolutions too, dropout at the bottom."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(
            nn.Sequential(*conv_relu(inputs, outputs), *conv_relu(outputs, outputs))
            for inputs, outputs in ((3, 64), (64, 128), (128, 256))
        )
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(0.5)
        self.bridge = nn.Sequential(*conv_relu(256, 512), *conv_relu(512, 512))
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(2 * outputs, outputs, 2, stride=2), nn.ReLU(inplace=True))
            for outputs in (256, 128, 64)
        )
        self.decoder = nn.ModuleList(
            nn.Sequential(*conv_relu(2 * outputs, outputs), *conv_relu(outputs, outputs)) for outputs in (256, 128, 64)
        )
        self.head = nn.Conv2d(64, classes, 1)
        initialise_he(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, classes, H, W); height and width divide by 8."""
        skips: list[Tensor] = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
            # The last stage's dropout lies before its pool, and its skip sees it too.
            if len(skips) == len(self.encoder):
                skips[-1] = x = self.dropout(x)
            x = self.pool(x)
        x = self.dropout(self.bridge(x))
        for up, stage in zip(self.up, self.decoder, strict=True):
            x = stage(torch.cat((skips.pop(), up(x)), dim=1))
        return self.head(x)


class SegNet(nn.Module):
    """VGG16 with batch norm, and its mirror image, which puts each value back where the encoder's maximum was.

    The mirror ends in a ReLU like all its stages (91 layers), so the logits are never below zero.

    Args:
        features: torchvision's VGG16 with batch norm, all its layers.
        classes: Outputs.
    """

    def __init__(self, features: nn.Sequential, classes: int) -> None:
        super().__init__()
        self.features = features
        self.pool = FirstOfBlock()
        ends = [place for place, layer in enumerate(features) if isinstance(layer, nn.MaxPool2d)]
        self._stages = list(zip([0, *(end + 1 for end in ends[:-1])], ends, strict=True))
        self.decoder = nn.ModuleList()
        for number, (first, end) in enumerate(reversed(self._stages)):
            convolutions = [layer for layer in features[first:end] if isinstance(layer, nn.Conv2d)]
            widths = [layer.in_channels for layer in reversed(convolutions)]
            if number == len(self._stages) - 1:
                widths[-1] = classes
            inputs = [convolutions[-1].out_channels, *widths[:-1]]
            self.decoder.append(
                nn.Sequential(*(each for pair in zip(inputs, widths, strict=True) for each in _conv_norm_relu(*pair)))
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, classes, H, W); height and width divide by 32."""
        places: list[Tensor] = []
        for first, end in self._stages:
            x, maxima = self.pool(self.features[first:end](x))
            places.append(maxima)
        for stage in self.decoder:
            x = stage(unpool(x, places.pop()))
        return x


def _conv_norm_relu(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
    initialise_he(convolution)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)


def _build_unet(classes: int, weights: EncoderWeights) -> nn.Module:
    expect_outputs("phase unet", classes, 2)
    without_encoder_weights("phase unet", weights)
    return Pixelwise(PhaseUnet(classes), PhaseOutput, channels=3, multiple=8)


def _build_segnet(classes: int, weights: EncoderWeights) -> nn.Module:
    expect_outputs("phase segnet", classes, 2)
    features = make_layers(cfgs["D"], batch_norm=True)
    initialise_he(features)
    network = SegNet(features, classes)
    if state := encoder_state(weights, torchvision_name="vgg16_bn"):
        load_encoder(nn.ModuleDict({"features": network.features}), state, ignore_prefix="classifier.", source=weights)
    return Pixelwise(network, PhaseOutput, channels=3, multiple=32)


def _deeplab(name: str) -> Callable[[int, EncoderWeights], nn.Module]:
    def build_deeplab(classes: int, weights: EncoderWeights) -> nn.Module:
        expect_outputs(f"phase deeplab-{name}", classes, 2)
        return Pixelwise(DeepLab(BACKBONES[name](weights), classes), PhaseOutput, channels=3, multiple=16)

    return build_deeplab


BLUEPRINTS: Blueprints = MappingProxyType(
    {
        **{f"deeplab-{name}": Blueprint("paper", _deeplab(name)) for name in BACKBONES},
        "unet": Blueprint("paper", _build_unet),
        "segnet": Blueprint("paper", _build_segnet),
    }
)
"""Ferrite or pearlite, at each pixel; the outputs are `PhaseOutput`."""
