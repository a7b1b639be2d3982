"""The figures by which weights are chosen and tasks are judged."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import (
    BinaryAUROC,
    BinaryConfusionMatrix,
    BinarySpecificityAtSensitivity,
    MulticlassJaccardIndex,
)


class CompetitionDice(Metric):
    """Severstal's score: the Dice coefficient of each frame and class, averaged; empty on empty counts 1.

    Because most frames show most classes not at all, a model that finds nothing scores high; so the mean over the pairs
    that do show a defect stands beside it.
    """

    full_state_update = False
    total: Tensor
    pairs: Tensor
    defective_total: Tensor
    defective_pairs: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "pairs", "defective_total", "defective_pairs"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, found: Tensor, truth: Tensor) -> None:
        """Count masks found and true, both (N, C, H, W) bool."""
        both, either = (found & truth).sum((2, 3)).double(), found.sum((2, 3)) + truth.sum((2, 3))
        dice = torch.where(either > 0, 2.0 * both / either.clamp(min=1), 1.0)
        defective = truth.any(dim=3).any(dim=2)
        self.total += dice.sum()
        self.pairs += dice.numel()
        self.defective_total += dice[defective].sum()
        self.defective_pairs += defective.sum()

    def compute(self) -> dict[str, float]:
        """`dice`, and `dice_defective` over the pairs with truth (0 where there are none)."""
        return {
            "dice": float(self.total / self.pairs.clamp(min=1)),
            "dice_defective": float(self.defective_total / self.defective_pairs.clamp(min=1)),
        }


class PooledIou:
    """Intersection over union of background and each class, all pixels of all frames pooled.

    Overlapping classes are resolved to the likeliest, and a pixel where none reaches a half is background.
    """

    def __init__(self, class_names: tuple[str, ...], device: torch.device) -> None:
        self._names = ("background", *class_names)
        self._jaccard = MulticlassJaccardIndex(len(self._names), average="none", validate_args=False).to(device)

    def update(self, probability: Tensor, truth: Tensor) -> None:
        """Count probabilities (N, C, H, W) against truth (N, C, H, W) bool."""
        self._jaccard.update(label_map(probability, probability > 0.5), label_map(truth.float(), truth))

    def compute(self) -> dict[str, float]:
        """`mean_iou` over background and all classes, and `iou_NAME` of each."""
        each = self._jaccard.compute().tolist()
        return {"mean_iou": sum(each) / len(each)} | {
            f"iou_{name}": value for name, value in zip(self._names, each, strict=True)
        }


def label_map(score: Tensor, present: Tensor) -> Tensor:
    """The class of each pixel, (N, H, W) int64: 0 where none is present, else 1 + the class of the highest score."""
    best = score.masked_fill(~present, -1.0).argmax(dim=1) + 1
    return torch.where(present.any(dim=1), best, 0)


class GateFigures:
    """How well a gate keeps defects in and clean frames out."""

    def __init__(self, min_recall: float, device: torch.device) -> None:
        self._confusion = BinaryConfusionMatrix().to(device)
        self._auroc = BinaryAUROC().to(device)
        self._at_recall = BinarySpecificityAtSensitivity(min_recall).to(device)

    def update(self, probability: Tensor, defective: Tensor) -> None:
        """Count probabilities (N,) against labels (N,) bool."""
        for metric in (self._confusion, self._auroc, self._at_recall):
            metric.update(probability, defective.int())

    def compute(self) -> dict[str, float]:
        """Counts at 0.5, recall and false gate ratio there, and the same at the threshold that the recall asks for."""
        (tn, fp), (fn, tp) = self._confusion.compute().tolist()
        specificity, threshold = self._at_recall.compute()
        return {
            "recall": tp / max(1, tp + fn),
            "false_gate_ratio": fp / max(1, fp + tn),
            "auroc": float(self._auroc.compute()),
            "threshold_at_recall": float(threshold),
            "specificity_at_recall": float(specificity),
            "tp": tp,
            "fn": fn,
            "fp": fp,
            "tn": tn,
        }
