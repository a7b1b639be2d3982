"""The grain paper's networks: ResNet18 or AlexNet, each with either of two heads, for classification or regression.

The heads are one fully connected layer (fc) or one behind two intermediate layers (ext; Fig. 3 of the paper, which
leaves their sizes open: here 512 and 256, because its section VI speaks of features in 256 dimensions). One output is
the grain size number (regression), several are the logits of grades (classification). The network for CPUs is in
`grain_compact`.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torchvision
from torch import Tensor, nn

from train.encoder_weights import EncoderWeights, encoder_state, load_encoder
from train.models.blueprint import Blueprint, Blueprints
from train.models.grey import prepare
from train.models.outputs import GrainOutput

_EXTENSION = (512, 256)
_MIDDLE_GRADE = 7.0
"""Where a regression begins: amid the grades, so that its first steps are not spent on getting there."""


class GradCamHead(nn.Module):
    """Fully connected layers over a pooled feature map, with the GradCAM of every output (section VI).

    With ReLUs between them the layers are linear around any picture, so the gradients that GradCAM asks for are
    products of weight matrices and need no backward pass: the maps can live inside an exported graph. Each map is
    shifted so that its mean over the picture is its score, bias and all; then a regression's map is in grades, and the
    largest of a classification's maps is a place's grade.

    Args:
        grid: Rows and columns that the feature map is pooled to; AlexNet's are 6 x 6, a global average pool's 1 x 1.
        layers: Fully connected, with a ReLU after each but the last.
        dropout: Share of inputs of each but the last layer that training drops.
    """

    def __init__(self, grid: tuple[int, int], layers: Sequence[nn.Linear], dropout: float = 0.0) -> None:
        super().__init__()
        self.grid = grid
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(layers)

    def forward(self, maps: Tensor) -> GrainOutput:
        """Score feature maps (N, C, h, w)."""
        maps = maps.float()
        *hidden, last = self._chain()
        x = pool_to(maps, self.grid).flatten(1)
        passed: list[Tensor] = []
        for layer in hidden:
            x = layer(self.dropout(x)).float()
            passed.append((x > 0).to(x.dtype))
            x = x * passed[-1]
        scores = last(x).float()
        gradient = last.weight.expand(len(x), -1, -1)
        for layer, gate in zip(reversed(hidden), reversed(passed), strict=True):
            gradient = (gradient * gate.unsqueeze(1)) @ layer.weight
        weights = gradient.unflatten(2, (maps.shape[1], -1)).sum(3)
        deviation = (maps - maps.mean((2, 3), keepdim=True)).flatten(2)
        cams = (weights @ deviation).unflatten(2, maps.shape[2:]) + scores[..., None, None]
        return GrainOutput(scores, cams.float())

    def _chain(self) -> list[nn.Linear]:
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]


class GrainNet(nn.Module):
    """Grey frames of any size to `GrainOutput`.

    Args:
        encoder: (N, 3, H, W) to its last feature map.
        head: From there to the output.
    """

    def __init__(self, encoder: nn.Module, head: GradCamHead) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, frames: Tensor) -> GrainOutput:
        """Judge frames (N, 1, H, W), grey levels 0..255."""
        return self.head(self.encoder(prepare(frames, channels=3)))


def pool_to(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """Average pooling of (N, C, h, w) to (N, C, *grid), as torch's `adaptive_avg_pool2d`, for any size in a graph.

    ONNX has no adaptive pooling; but it is a product with a matrix for the rows and one for the columns.
    """
    if grid == (1, 1):
        return maps.mean((2, 3), keepdim=True)
    rows, columns = (_shares(maps, axis, cells) for axis, cells in zip((2, 3), grid, strict=True))
    return rows @ maps @ columns.mT


def _shares(maps: Tensor, axis: int, cells: int) -> Tensor:
    """(cells, size) float32: how much each row (or column) counts in each cell; cells may share one."""
    size = maps.shape[axis]
    cell = torch.arange(cells, device=maps.device)[:, None]
    place = torch.arange(size, device=maps.device)
    within = (place >= cell * size // cells) & (place < ((cell + 1) * size + cells - 1) // cells)
    share = within.to(maps.dtype)
    return share / share.sum(1, keepdim=True)


@dataclass(frozen=True, slots=True)
class _Encoder:
    """A network that was made for ImageNet, up to its features.

    Attributes:
        convolutions: (N, 3, H, W) to the last feature map.
        grid: What that map is pooled to.
        dense: Fully connected layers that belong to the features.
        features: Their number, for the head.
        dropout: Before each dense layer but the last of all.
    """

    convolutions: nn.Module
    grid: tuple[int, int]
    dense: tuple[nn.Linear, ...]
    features: int
    dropout: float


def _resnet18(weights: EncoderWeights) -> _Encoder:
    whole = torchvision.models.resnet18(weights=None)
    if state := encoder_state(weights, torchvision_name="resnet18"):
        load_encoder(whole, state, ignore_prefix=("fc.",), source=weights)
    *layers, _pool, _unit = whole.named_children()
    return _Encoder(nn.Sequential(OrderedDict(layers)), (1, 1), (), whole.fc.in_features, 0.0)


def _alexnet(weights: EncoderWeights) -> _Encoder:
    """AlexNet to its 4096 features, which lie behind two fully connected layers."""
    whole = torchvision.models.alexnet(weights=None)
    if state := encoder_state(weights, torchvision_name="alexnet"):
        load_encoder(whole, state, ignore_prefix=("classifier.6.",), source=weights)
    *dense, unit = (layer for layer in whole.classifier if isinstance(layer, nn.Linear))
    return _Encoder(whole.features, (6, 6), tuple(dense), unit.in_features, 0.5)


_ENCODERS: Mapping[str, Callable[[EncoderWeights], _Encoder]] = MappingProxyType(
    {"resnet18": _resnet18, "alexnet": _alexnet}
)
_HEADS: Mapping[str, tuple[int, ...]] = MappingProxyType({"fc": (), "ext": _EXTENSION})


def _grain_net(encoder_name: str, head_name: str) -> Callable[[int, EncoderWeights], nn.Module]:
    def build_net(classes: int, weights: EncoderWeights) -> nn.Module:
        encoder = _ENCODERS[encoder_name](weights)
        widths = (encoder.features, *_HEADS[head_name], classes)
        fresh = [nn.Linear(*pair) for pair in itertools.pairwise(widths)]
        if classes == 1:
            nn.init.constant_(fresh[-1].bias, _MIDDLE_GRADE)
        return GrainNet(encoder.convolutions, GradCamHead(encoder.grid, (*encoder.dense, *fresh), encoder.dropout))

    return build_net


BLUEPRINTS: Blueprints = MappingProxyType(
    {
        f"{encoder}-{head}": Blueprint("paper", _grain_net(encoder, head))
        for encoder in ("resnet18", "alexnet")
        for head in ("fc", "ext")
    }
)
"""The grain size number, or a logit a grade; the outputs are `GrainOutput`."""
