"""The losses of the papers, from logits; equation numbers are those of the Severstal cascade's paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from segmentation_models_pytorch.losses import DiceLoss, TverskyLoss
from torch import Tensor, nn
from torch.nn import functional

Loss = Callable[[Tensor, Tensor], Tensor]
"""From logits and truth (same shape, truth 0 or 1) to a scalar."""


class BceDice(nn.Module):
    """Equation 2: binary cross-entropy plus the Dice loss of the whole batch, averaged over the classes."""

    def __init__(self) -> None:
        super().__init__()
        self.dice = DiceLoss("multilabel", from_logits=True, smooth=1.0)

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Loss of logits (N, C, H, W) float32 against truth (N, C, H, W) 0 or 1."""
        return functional.binary_cross_entropy_with_logits(logits, truth.to(logits.dtype)) + self.dice(logits, truth)


def tversky(alpha: float) -> nn.Module:
    """Equation 3 as a loss, 1 - TP / (TP + alpha * FN + (1 - alpha) * FP), of the batch, averaged over the classes.

    With alpha = 0.3 a false positive costs more than twice a false negative, which is what the paper is after. smp
    calls the weight of false positives alpha and that of false negatives beta.
    """
    return TverskyLoss("multilabel", from_logits=True, smooth=1.0, alpha=1.0 - alpha, beta=alpha)


def masked_bce(logit: Tensor, label: Tensor) -> Tensor:
    """Binary cross-entropy of a gate: logit and label of one shape, label 1 defective, 0 clean, NaN left out.

    NaN stands where a frame cuts off all but a sliver of a defect, and either answer is right.
    """
    known = ~torch.isnan(label)
    if not bool(known.any()):
        return logit.sum() * 0.0
    return functional.binary_cross_entropy_with_logits(logit[known], label[known])


def cell_labels(masks: Tensor, grid: tuple[int, int], min_ratio: float) -> Tensor:
    """What each cell of a grid over the frame is, from where the defects are.

    Args:
        masks: (N, C, H, W), 0 or 1.
        grid: Rows and columns of cells.
        min_ratio: Share of a cell, 0..1, that a defect must cover; less, but some, is neither.

    Returns:
        (N, rows, columns) float32: 1 defective, 0 clean, NaN too little to say.
    """
    covered = functional.adaptive_avg_pool2d(masks.amax(1, keepdim=True).float(), grid)[:, 0]
    label = (covered >= min_ratio).float()
    return torch.where((covered > 0) & (label == 0.0), torch.nan, label)


SEGMENTER_LOSSES: Mapping[str, Callable[[float], Loss]] = MappingProxyType(
    {
        "bce": lambda _alpha: nn.BCEWithLogitsLoss(),
        "bce_dice": lambda _alpha: BceDice(),
        "dice": lambda _alpha: DiceLoss("multilabel", from_logits=True, smooth=1.0),
        "tversky": tversky,
    }
)
"""By the name in a recipe; the argument is the recipe's `tversky_alpha`."""
