"""The fracture paper's networks: VR-net on each backbone of its Table 2, and the VU-Net that it is compared with.

VR-net is a classifier's convolutions, a global average pool and one fully connected unit, which gives the brittle
fracture ratio. VGG's max pools become average pools (II.B). The class activation map is the last feature map weighted
by the unit's weights (Fig. 5). Pictures have the size of their specimen and are never resized; sizes that do not divide
lose the last rows and columns of an odd map, as torch's pooling does. The network for CPUs is in `fracture_compact`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import DenseNet, ResNet
from torchvision.models.vgg import cfgs, make_layers

from train.encoder_weights import EncoderWeights, encoder_state, load_encoder
from train.models.blueprint import Blueprint, Blueprints, expect_outputs
from train.models.grey import prepare
from train.models.outputs import FractureOutput
from train.models.parts import bilinear_upsampler, initialise_he

_VGG: Mapping[str, str] = MappingProxyType({"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"})
"""The letters of VGG's own paper."""


class VrNet(nn.Module):
    """The brittle fracture ratio by regression, with the map of what made it.

    Args:
        encoder: (N, 3, H, W) to its last feature map (N, channels, h, w).
        channels: Of that map.
    """

    def __init__(self, encoder: nn.Module, channels: int) -> None:
        super().__init__()
        self.encoder = encoder
        # The unit's weights as a 1x1 convolution: the mean of a weighted map is the weighted mean of the map.
        self.weights = nn.Conv2d(channels, 1, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, frames: Tensor) -> FractureOutput:
        """Judge frames (N, 1, H, W), grey levels 0..255."""
        activation = self.weights(self.encoder(prepare(frames, channels=3))).float()[:, 0]
        return FractureOutput(activation.mean((1, 2)) + self.bias, activation)


class VuNet(nn.Module):
    """The baseline: FCN-8s on VGG19, two classes a pixel; the ratio is the share of brittle pixels (equation 2)."""

    def __init__(self, features: nn.Sequential) -> None:
        super().__init__()
        pools = [place for place, layer in enumerate(features) if isinstance(layer, nn.AvgPool2d)]
        self.to_pool3 = features[: pools[2] + 1]
        self.to_pool4 = features[pools[2] + 1 : pools[3] + 1]
        self.to_pool5 = features[pools[3] + 1 :]
        self.middle = nn.Sequential(
            nn.Conv2d(512, 4096, 7, padding=3),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Conv2d(4096, 4096, 1),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Conv2d(4096, 2, 1),
        )
        self.up_to_pool4 = bilinear_upsampler(2, 512, 2)
        self.up_to_pool3 = bilinear_upsampler(512, 256, 2)
        self.up_to_frame = bilinear_upsampler(256, 2, 8)

    def forward(self, frames: Tensor) -> FractureOutput:
        """Judge frames (N, 1, H, W), grey levels 0..255; the activation is each pixel's probability of brittle."""
        height, width = frames.shape[-2:]
        pool3 = self.to_pool3(prepare(frames, multiple=32, channels=3))
        pool4 = self.to_pool4(pool3)
        x = self.up_to_pool4(self.middle(self.to_pool5(pool4))) + pool4
        x = self.up_to_frame(self.up_to_pool3(x) + pool3).float()[..., :height, :width]
        # A softmax over two is a sigmoid of the difference.
        brittle = torch.sigmoid(x[:, 1] - x[:, 0])
        return FractureOutput((brittle > 0.5).float().mean((1, 2)), brittle)


def _vgg(name: str) -> nn.Sequential:
    """VGG's convolutions by torchvision, with 2x2 average pools for its max pools and without its large classifier."""
    features = make_layers(cfgs[_VGG[name]])
    for place, layer in enumerate(features):
        if isinstance(layer, nn.MaxPool2d):
            features[place] = nn.AvgPool2d(2)
    initialise_he(features)
    return features


class _Normed(nn.Module):
    """DenseNet's features with the ReLU that torchvision applies outside of them."""

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.features(x))


def _load(encoder: nn.Module, weights: EncoderWeights, name: str, *, ignore: tuple[str, ...]) -> None:
    if state := encoder_state(weights, torchvision_name=name):
        load_encoder(encoder, state, ignore_prefix=ignore, source=weights)


def _vgg_net(name: str, finish: Callable[[nn.Sequential], nn.Module]) -> Callable[[int, EncoderWeights], nn.Module]:
    def build_net(classes: int, weights: EncoderWeights) -> nn.Module:
        expect_outputs(f"fracture {name}", classes, 1)
        features = _vgg(name)
        _load(nn.ModuleDict({"features": features}), weights, name, ignore=("classifier.",))
        return finish(features)

    return build_net


def _vr_densenet(name: str) -> Callable[[int, EncoderWeights], nn.Module]:
    def build_net(classes: int, weights: EncoderWeights) -> nn.Module:
        expect_outputs(f"fracture {name}", classes, 1)
        whole: DenseNet = torchvision.models.get_model(name, weights=None)  # type: ignore[assignment]
        encoder = _Normed(whole.features)
        _load(encoder, weights, name, ignore=("classifier.",))
        return VrNet(encoder, whole.classifier.in_features)

    return build_net


def _vr_resnet(name: str) -> Callable[[int, EncoderWeights], nn.Module]:
    def build_net(classes: int, weights: EncoderWeights) -> nn.Module:
        expect_outputs(f"fracture {name}", classes, 1)
        whole: ResNet = torchvision.models.get_model(name, weights=None)  # type: ignore[assignment]
        _load(whole, weights, name, ignore=("fc.",))
        *layers, _pool, _unit = whole.named_children()
        return VrNet(nn.Sequential(OrderedDict(layers)), whole.fc.in_features)

    return build_net


def _vr_vgg(features: nn.Sequential) -> nn.Module:
    return VrNet(features, 512)


BLUEPRINTS: Blueprints = MappingProxyType(
    {
        "vr-vgg19": Blueprint("paper", _vgg_net("vgg19", _vr_vgg)),
        "vr-vgg16": Blueprint("paper", _vgg_net("vgg16", _vr_vgg)),
        "vr-vgg13": Blueprint("paper", _vgg_net("vgg13", _vr_vgg)),
        "vr-vgg11": Blueprint("paper", _vgg_net("vgg11", _vr_vgg)),
        "vr-densenet121": Blueprint("paper", _vr_densenet("densenet121")),
        "vr-densenet161": Blueprint("paper", _vr_densenet("densenet161")),
        "vr-resnet18": Blueprint("paper", _vr_resnet("resnet18")),
        "vr-resnet34": Blueprint("paper", _vr_resnet("resnet34")),
        "vu-vgg19": Blueprint("paper", _vgg_net("vgg19", VuNet)),
    }
)
"""The brittle fracture ratio and its map; the outputs are `FractureOutput`."""
