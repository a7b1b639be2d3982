"""What networks that say something of each pixel share: the way from frames to the network and back to their size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from train.models.grey import prepare


class Pixelwise(nn.Module):
    """Logits at each pixel of frames of any size.

    Args:
        network: (N, channels * fold * fold, h, w) to (N, C * unfold * unfold, ...), such that unfolding gives the
            frame's own size.
        output: The task's named tuple, made of logits (N, C, H, W) float32.
        channels: 3 repeats the grey level, 1 does not.
        fold: Side of the pixel blocks that become channels at the input.
        unfold: Side of the pixel blocks that the output's channels become.
        multiple: Height and width that the network needs divisible by this; other sizes are padded inside.
    """

    def __init__(
        self,
        network: nn.Module,
        output: Callable[[Tensor], Any],
        *,
        channels: int = 1,
        fold: int = 1,
        unfold: int = 1,
        multiple: int = 1,
    ) -> None:
        super().__init__()
        self.network = network
        self.output = output
        self.channels = channels
        self.fold = fold
        self.unfold = unfold
        self.multiple = multiple

    def forward(self, frames: Tensor) -> Any:
        """Judge each pixel of frames (N, 1, H, W), grey levels 0..255."""
        height, width = frames.shape[-2:]
        x = prepare(frames, multiple=self.multiple, channels=self.channels, fold=self.fold)
        logits = self.network(x).float()
        if self.unfold > 1:
            logits = functional.pixel_shuffle(logits, self.unfold)
        return self.output(logits[..., :height, :width])
