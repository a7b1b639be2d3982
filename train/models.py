"""The networks, by role and architecture, and the one way in which grey levels are scaled.

Every model takes frames as a camera gives them, (N, 1, H, W) with grey levels 0..255 as uint8 or float32, and scales
them itself: `(frames - GREY_MEAN) / GREY_STD`. Nothing else in the project scales pixels, so training, export and every
backend agree. Every model returns one named tuple, always of logits; an export adds sigmoid and quantisation behind it.

Paper variants are the networks of the Severstal cascade to the last parameter: ResNet gates by timm, U-Nets by
segmentation_models_pytorch. Compact variants are for CPUs: the frame is folded (each 2x2 block of pixels becomes four
channels, nothing is lost), the encoder is a narrow ResNet-10 of plain convolutions, and the decoder stops at a quarter
of the frame's resolution, from where one convolution writes all 4x4 pixels of a cell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import segmentation_models_pytorch as smp
import timm
import torch
from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn
from torch.nn import functional

from runtime.errors import ConfigError
from train.encoder_weights import EncoderWeights, encoder_state, load_encoder

GREY_MEAN = 114.5
"""Mean grey level subtracted from every pixel: ImageNet's (0.449 of 255), so that its weights fit."""
GREY_STD = 57.6
"""Grey levels of one unit at a network's input: ImageNet's standard deviation (0.226 of 255)."""

_RARE_LOGIT = -4.0

Role = Literal["gate", "segmenter"]
Variant = Literal["paper", "compact"]


class GateOutput(NamedTuple):
    """What a gate says, as logits: above 0 where a defect is more likely than none.

    Attributes:
        logit: (N,) float32, of the whole frame.
        cell_logits: (N, h, w) float32, of each cell of a grid over the frame; a gate that does not look at parts has
            one cell, the frame.
    """

    logit: Tensor
    cell_logits: Tensor


class SegmenterOutput(NamedTuple):
    """What a segmenter says: `logits` (N, C, H, W) float32, one independent sigmoid a class."""

    logits: Tensor


def scale_grey(frames: Tensor) -> Tensor:
    """Grey levels 0..255 of any dtype, (N, 1, H, W), to the float32 that the networks see."""
    return (frames.float() - GREY_MEAN) * (1.0 / GREY_STD)


def pad_to_multiple(frames: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until height and width divide by `multiple`; (N, C, H, W) any size."""
    down, across = -frames.shape[-2] % multiple, -frames.shape[-1] % multiple
    if down == 0 and across == 0:
        return frames
    return functional.pad(frames, (0, across, 0, down), mode="replicate")


class Gate(nn.Module):
    """Defective or clean, from the whole frame.

    Args:
        network: (N, channels * fold * fold, H / fold, W / fold) float32 to (N, 1, h, w).
        channels: 3 repeats the grey level, for networks made for colour; 1 does not.
        fold: Side of the pixel blocks that become channels.
    """

    def __init__(self, network: nn.Module, *, channels: int, fold: int) -> None:
        super().__init__()
        self.network = network
        self.channels = channels
        self.fold = fold

    def forward(self, frames: Tensor) -> GateOutput:
        """Judge frames (N, 1, H, W), grey levels 0..255."""
        x = pad_to_multiple(scale_grey(frames), self.fold).expand(-1, self.channels, -1, -1)
        if self.fold > 1:
            x = functional.pixel_unshuffle(x, self.fold)
        cell_logits = self.network(x).float().flatten(0, -3)
        return GateOutput(cell_logits.amax((1, 2)), cell_logits)


class OneCell(nn.Module):
    """A classifier of the whole frame, (N, channels, H, W) to (N, 1), as a grid of one cell."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        """To (N, 1, 1, 1)."""
        return self.classifier(x)[..., None, None]


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


class Segmenter(nn.Module):
    """A probability of each class at each pixel, as logits.

    Args:
        network: (N, channels * fold * fold, h, w) to (N, C * unfold * unfold, ...), such that unfolding gives the
            frame's own size.
        channels: 3 repeats the grey level, 1 does not.
        fold: Side of the pixel blocks that become channels at the input.
        unfold: Side of the pixel blocks that the output's channels become.
        multiple: Height and width that the network needs divisible by this; other sizes are padded inside.
    """

    def __init__(self, network: nn.Module, *, channels: int, fold: int, unfold: int, multiple: int) -> None:
        super().__init__()
        self.network = network
        self.channels = channels
        self.fold = fold
        self.unfold = unfold
        self.multiple = multiple

    def forward(self, frames: Tensor) -> SegmenterOutput:
        """Segment frames (N, 1, H, W), grey levels 0..255."""
        height, width = frames.shape[-2:]
        x = pad_to_multiple(scale_grey(frames), self.multiple).expand(-1, self.channels, -1, -1)
        if self.fold > 1:
            x = functional.pixel_unshuffle(x, self.fold)
        logits = self.network(x).float()
        if self.unfold > 1:
            logits = functional.pixel_shuffle(logits, self.unfold)
        return SegmenterOutput(logits[..., :height, :width])


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


def _paper_gate(name: str) -> Callable[[int, EncoderWeights], nn.Module]:
    def build_gate(classes: int, weights: EncoderWeights) -> nn.Module:
        if classes != 1:
            raise ConfigError(f"gate {name}: {classes} outputs were asked for, expected 1. Train a segmenter instead.")
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
        return Segmenter(network, channels=3, fold=1, unfold=1, multiple=32)

    return build_unet


_NARROW: Mapping[str, Any] = MappingProxyType({"channels": (32, 64, 128, 192), "stem_width": 16})


def _compact_gate(classes: int, weights: EncoderWeights) -> nn.Module:
    if classes != 1:
        raise ConfigError(f"gate resnet10-cells: {classes} outputs were asked for, expected 1.")
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
    return Segmenter(network, channels=1, fold=2, unfold=4, multiple=32)


@dataclass(frozen=True, slots=True)
class Blueprint:
    """How a network is built.

    Attributes:
        variant: `paper` or `compact`.
        build: From the number of outputs and the source of the encoder's weights.
    """

    variant: Variant
    build: Callable[[int, EncoderWeights], nn.Module]


ARCHITECTURES: Mapping[Role, Mapping[str, Blueprint]] = MappingProxyType(
    {
        "gate": MappingProxyType(
            {
                "resnet50": Blueprint("paper", _paper_gate("resnet50")),
                "resnet34": Blueprint("paper", _paper_gate("resnet34")),
                "resnet10-cells": Blueprint("compact", _compact_gate),
            }
        ),
        "segmenter": MappingProxyType(
            {
                "unet-efficientnet-b3": Blueprint("paper", _paper_unet("efficientnet-b3")),
                "unet-resnet34": Blueprint("paper", _paper_unet("resnet34")),
                "unet-resnet50": Blueprint("paper", _paper_unet("resnet50")),
                "unet-resnet10-narrow": Blueprint("compact", _compact_unet),
            }
        ),
    }
)
"""Every network by role and architecture; the first of a variant is its default."""


def find_blueprint(role: Role, architecture: str) -> Blueprint:
    """The table's entry.

    Raises:
        ConfigError: No such architecture for the role.
    """
    try:
        return ARCHITECTURES[role][architecture]
    except KeyError:
        raise ConfigError(
            f"{role}: no architecture {architecture!r}, expected one of {', '.join(ARCHITECTURES[role])}. "
            "Set model.architecture to one of these."
        ) from None


def build(role: Role, architecture: str, *, classes: int = 1, encoder_weights: EncoderWeights = "none") -> nn.Module:
    """A fresh network in float32 on the CPU.

    Args:
        role: `gate` or `segmenter`.
        architecture: A key of `ARCHITECTURES[role]`.
        classes: Outputs: 1 for a gate, one a class for a segmenter.
        encoder_weights: `none`, `imagenet` (downloaded by the library that made the encoder) or a file.

    Returns:
        A module from frames (N, 1, H, W) to `GateOutput` or `SegmenterOutput`.

    Raises:
        ConfigError: No such architecture, or the encoder's weights cannot be had or do not fit.
    """
    return find_blueprint(role, architecture).build(classes, encoder_weights)


def count_parameters(model: nn.Module) -> int:
    """Trainable parameters, as papers count them."""
    return sum(each.numel() for each in model.parameters() if each.requires_grad)


def load_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.

    Raises:
        ConfigError: The file is missing or no safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"weights {path}: {error}, expected a safetensors file. Give best.safetensors of a run folder."
        ) from error


def fine_tune_from(model: nn.Module, path: Path) -> tuple[str, ...]:
    """Take over every tensor of a run's weights that fits, for training on from there.

    Returns:
        The names of tensors that stayed fresh, because the number of classes differs.

    Raises:
        ConfigError: The file is unreadable, or is of another architecture.
    """
    found, own = load_weights(path), model.state_dict()
    fitting = {name: tensor for name, tensor in found.items() if name in own and own[name].shape == tensor.shape}
    fresh = tuple(name for name in own if name not in fitting)
    if len(fresh) > 0.1 * len(own):
        raise ConfigError(
            f"weights {path}: {len(fitting)} of {len(own)} tensors fit the network, expected all but the last layer. "
            "Give weights of the same architecture."
        )
    model.load_state_dict(fitting, strict=False)
    return fresh
