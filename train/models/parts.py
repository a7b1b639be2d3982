"""Small things that several of the papers' networks are made of."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn


def conv_relu(inputs: int, outputs: int) -> Iterator[nn.Module]:
    """A 3x3 convolution that keeps the size, with its ReLU."""
    yield nn.Conv2d(inputs, outputs, 3, padding=1)
    yield nn.ReLU(inplace=True)


def initialise_he(network: nn.Module) -> None:
    """He's weights and biases of zero, for networks without batch norm that are trained from nothing."""
    for each in network.modules():
        if isinstance(each, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(each.weight, nonlinearity="relu")
            if each.bias is not None:
                nn.init.zeros_(each.bias)


def bilinear_upsampler(inputs: int, outputs: int, factor: int) -> nn.ConvTranspose2d:
    """A transposed convolution that makes a map `factor` times as large, exactly, and begins as bilinear upsampling.

    Its kernel has twice the factor's side. With as many outputs as inputs, each channel is upsampled by itself at the
    start; with another number, the weights are left as torch draws them.
    """
    layer = nn.ConvTranspose2d(inputs, outputs, 2 * factor, stride=factor, padding=factor // 2)
    if inputs == outputs:
        place = torch.arange(2 * factor) - (factor - 0.5)
        ramp = 1.0 - place.abs() / factor
        with torch.no_grad():
            layer.weight.zero_()
            layer.weight[range(inputs), range(inputs)] = ramp[:, None] * ramp
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # it has one
    return layer


class FirstOfBlock(nn.Module):
    """Max pooling over 2x2 blocks that also says where each maximum was, and the way back.

    Plain comparisons in place of indices: ONNX has no operation that scatters by index and runs everywhere. The answer
    is that of torch's `max_pool2d` and `max_unpool2d`, to the bit: of equal pixels the first counts.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pool (N, C, 2h, 2w).

        Returns:
            The maxima (N, C, h, w), and (N, C, 4, h, w) of x's type, 1 where a block's maximum lay and 0 elsewhere.
        """
        blocks = nn.functional.pixel_unshuffle(x, 2).unflatten(1, (-1, 4))
        top_left, top_right, bottom_left, bottom_right = blocks.unbind(2)
        above, below = torch.maximum(top_left, top_right), torch.maximum(bottom_left, bottom_right)
        upper = above >= below
        first, third = top_left >= top_right, bottom_left >= bottom_right
        places = (upper & first, upper & ~first, ~upper & third, ~upper & ~third)
        return torch.maximum(above, below), torch.stack([each.to(x.dtype) for each in places], 2)


def unpool(x: Tensor, places: Tensor) -> Tensor:
    """Put (N, C, h, w) where the maxima lay, and zero elsewhere: (N, C, 2h, 2w)."""
    return nn.functional.pixel_shuffle((x.unsqueeze(2) * places).flatten(1, 2), 2)
