"""DeepLabv3+ as MATLAB's `deeplabv3plusLayers` builds it, which the ferrite and pearlite paper used.

Backbones at a sixteenth of the frame's resolution, four branches with dilations 1, 6, 12 and 18, and a decoder that
sees the backbone's low-level features at a quarter. What differs from the usual DeepLabv3+: convolutions carry a bias
beside their batch norm, there is no branch of the picture's mean, and the two upsamplings by four are transposed
convolutions, which begin as bilinear ones. On MobileNetV2 the branches and the decoder's 3x3 convolutions are
separable, the branch of dilation 1 included: its depthwise convolution of 1x1 is a weight and a bias for each of 320
channels, 640 parameters that do nothing a convolution after it could not do, and are part of the paper's count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import timm
import torch
import torchvision
from torch import Tensor, nn

from train.encoder_weights import EncoderWeights, encoder_state, load_encoder
from train.models.parts import bilinear_upsampler, initialise_he

_DILATIONS = (1, 6, 12, 18)


@dataclass(frozen=True, slots=True)
class Backbone:
    """What DeepLabv3+ stands on.

    Attributes:
        module: (N, 3, H, W) to its low-level features at a quarter of the resolution and its last ones at a sixteenth.
        low: Channels of the former.
        high: Channels of the latter.
        separable: Whether the convolutions behind it are.
    """

    module: nn.Module
    low: int
    high: int
    separable: bool


class DeepLab(nn.Module):
    """(N, 3, H, W) to (N, classes, H, W); height and width divide by 16."""

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        conv = _separable if backbone.separable else _plain
        self.backbone = backbone.module
        self.branches = nn.ModuleList(
            conv(backbone.high, 256, 1 if dilation == 1 else 3, dilation) for dilation in _DILATIONS
        )
        self.join = nn.Sequential(_plain(256 * len(_DILATIONS), 256, 1, 1), bilinear_upsampler(256, 256, 4))
        self.low = _plain(backbone.low, 48, 1, 1)
        self.decoder = nn.Sequential(conv(256 + 48, 256, 3, 1), conv(256, 256, 3, 1))
        self.head = nn.Sequential(nn.Conv2d(256, classes, 1), bilinear_upsampler(classes, classes, 4))

    def forward(self, x: Tensor) -> Tensor:
        """Backbone, branches, decoder."""
        low, high = self.backbone(x)
        high = self.join(torch.cat([branch(high) for branch in self.branches], dim=1))
        return self.head(self.decoder(torch.cat((self.low(low), high), dim=1)))


def _plain(inputs: int, outputs: int, side: int, dilation: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, side, padding=dilation * (side // 2), dilation=dilation)
    initialise_he(conv)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _separable(inputs: int, outputs: int, side: int, dilation: int) -> nn.Sequential:
    depthwise = nn.Conv2d(inputs, inputs, side, padding=dilation * (side // 2), dilation=dilation, groups=inputs)
    initialise_he(depthwise)
    return nn.Sequential(depthwise, *_plain(inputs, outputs, 1, 1))


class _MobileNet(nn.Module):
    """MobileNetV2 to its last block, its last stride made a dilation; low-level is the 144 channels inside block 3."""

    _TAP, _LAST_STRIDE, _END = 4, 14, 18

    def __init__(self, features: nn.Sequential) -> None:
        super().__init__()
        for place in range(self._LAST_STRIDE, self._END):
            for each in features[place].modules():
                if isinstance(each, nn.Conv2d) and each.groups > 1:
                    each.stride = (1, 1)
                    if place > self._LAST_STRIDE:
                        each.dilation = each.padding = (2, 2)
        self.features = features[: self._END]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        block: nn.Sequential = self.features[self._TAP].conv  # type: ignore[assignment]  # of an InvertedResidual
        low = block[0](self.features[: self._TAP](x))
        return low, self.features[self._TAP + 1 :](block[1:](low))


def _resnet(name: str, low: int, high: int) -> Callable[[EncoderWeights], Backbone]:
    def build_backbone(weights: EncoderWeights) -> Backbone:
        network = timm.create_model(name, features_only=True, output_stride=16, out_indices=(1, 4))
        if state := encoder_state(weights, timm_name=name):
            load_encoder(network, state, ignore_prefix="fc.", source=weights)
        _give_biases(network)
        return Backbone(network, low, high, separable=False)

    return build_backbone


def _mobilenet(weights: EncoderWeights) -> Backbone:
    network = _MobileNet(torchvision.models.mobilenet_v2(weights=None).features)
    if state := encoder_state(weights, torchvision_name="mobilenet_v2"):
        load_encoder(network, state, ignore_prefix=("features.18.", "classifier."), source=weights)
    _give_biases(network)
    return Backbone(network, 144, 320, separable=True)


def _give_biases(network: nn.Module) -> None:
    """Biases of zero, as MATLAB's pretrained networks have them, on convolutions that were built without."""
    for each in network.modules():
        if isinstance(each, nn.Conv2d) and each.bias is None:
            each.bias = nn.Parameter(torch.zeros(each.out_channels))


BACKBONES: Mapping[str, Callable[[EncoderWeights], Backbone]] = MappingProxyType(
    {
        "mobilenetv2": _mobilenet,
        "resnet18": _resnet("resnet18", 64, 512),
        "resnet50": _resnet("resnet50", 256, 2048),
    }
)
"""By name; each from the source of its weights."""
