"""What the strip's paper and compact gates share."""

from __future__ import annotations

from torch import Tensor, nn

from train.models.grey import prepare
from train.models.outputs import GateOutput


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
        x = prepare(frames, multiple=self.fold, channels=self.channels, fold=self.fold)
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
