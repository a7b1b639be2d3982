"""The figures of a cascade on frames whose truth is known; numpy alone, as the line has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from benchmarks.report import Report

if TYPE_CHECKING:
    from numpy.typing import NDArray

SLIVER_RULE = (
    "A frame is defective if its truth has any pixel. It holds only slivers if, for each class it shows, the "
    "truth's pixels of the class are fewer than the class's minimum size in the bundle: the head would "
    "drop such a mask, so the gate's figures are given over all frames and again without these. Dice and IoU "
    "leave no frame out."
)
DICE_RULE = "Competition Dice: the Dice coefficient of each frame and class, averaged over all; empty on empty is 1."
IOU_RULE = (
    "IoU: pixels of all frames pooled; where classes overlap, the likeliest found and the first true one "
    "count; the mean is over background and all classes that are found or true anywhere."
)


class GateFigures(Report):
    """What the gate let through, frame by frame."""

    defective: int
    clean: int
    tp: int = Field(description="defective frames that it passed on")
    fn: int = Field(description="defective frames that it called clean")
    fp: int = Field(description="clean frames that it passed on")
    tn: int = Field(description="clean frames that it called clean")
    recall: float | None = Field(description="tp of the defective frames; null without any")
    false_gate_ratio: float | None = Field(description="fp of the clean frames; null without any")


class ClassFigures(Report):
    """One class alone."""

    pairs: int = Field(description="frames that show it")
    dice: float = Field(description="over all frames, empty on empty is 1")
    dice_defective: float | None = Field(description="over the frames that show it; null without any")
    iou: float | None = Field(description="pixels pooled; null where it is neither found nor true")


class MaskFigures(Report):
    """How well the masks fit."""

    dice: float = Field(description="competition Dice")
    dice_defective: float | None = Field(description="over the frame-class pairs with truth; null without any")
    mean_iou: float = Field(description="over background and the classes that occur")
    background_iou: float | None
    by_class: dict[str, ClassFigures]


@dataclass(frozen=True, slots=True)
class Found:
    """What the head made of one frame.

    Attributes:
        masks: (C, H, W) bool, as published.
        labels: (H, W) uint8: 0 where no mask is set, else 1 + the likeliest class that is.
    """

    masks: NDArray[np.bool_]
    labels: NDArray[np.uint8]


def label_map(masks: NDArray[np.bool_], probability: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """One class a pixel, (H, W) uint8: 0 for none, else 1 + the likeliest class whose mask is set.

    Args:
        masks: (C, H, W) bool.
        probability: (C, H, W) uint8; None takes the first class that is set.

    >>> both = np.array([[[True, False]], [[True, False]]])
    >>> label_map(both, np.array([[[130, 0]], [[200, 0]]], np.uint8)).tolist()
    [[2, 0]]
    """
    score = masks.astype(np.uint16)
    if probability is not None:
        score = np.where(masks, probability.astype(np.uint16) + 1, 0)
    return np.where(masks.any(axis=0), score.argmax(axis=0) + 1, 0).astype(np.uint8)


class MaskScores:
    """Masks against their truth, summed frame by frame; sizes may differ from frame to frame.

    Args:
        class_names: In the order of the planes.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self._names = tuple(class_names)
        self._dice: list[NDArray[np.float64]] = []
        self._shown: list[NDArray[np.bool_]] = []
        self._confusion = np.zeros((len(self._names) + 1,) * 2, np.int64)

    def add(self, truth: NDArray[np.bool_], truth_labels: NDArray[np.uint8], found: Found | None) -> None:
        """Count one frame.

        Args:
            truth: (C, H, W) bool.
            truth_labels: `label_map(truth)`.
            found: None where nothing was found.
        """
        size = len(self._confusion)
        true_px = truth.sum(axis=(1, 2))
        if found is None:
            dice = np.where(true_px > 0, 0.0, 1.0)
            self._confusion[:, 0] += np.bincount(truth_labels.ravel(), minlength=size)
        else:
            either_px = true_px + found.masks.sum(axis=(1, 2))
            both_px = (truth & found.masks).sum(axis=(1, 2))
            dice = np.where(either_px > 0, 2.0 * both_px / np.maximum(either_px, 1), 1.0)
            pairs = truth_labels.ravel() * np.int64(size) + found.labels.ravel()
            self._confusion += np.bincount(pairs, minlength=size * size).reshape(size, size)
        self._dice.append(dice)
        self._shown.append(true_px > 0)

    def figures(self) -> MaskFigures:
        """The sums as figures.

        Raises:
            ValueError: No frame was counted.
        """
        if not self._dice:
            raise ValueError("mask scores: found no frames, expected at least one. Give data with frames.")
        dice, shown = np.stack(self._dice), np.stack(self._shown)
        ious = self._ious()
        known = [iou for iou in ious if iou is not None]
        return MaskFigures(
            dice=_rounded(dice.mean()),
            dice_defective=_mean(dice[shown]),
            mean_iou=_rounded(np.mean(known)),
            background_iou=ious[0],
            by_class={
                name: ClassFigures(
                    pairs=int(shown[:, place].sum()),
                    dice=_rounded(dice[:, place].mean()),
                    dice_defective=_mean(dice[shown[:, place], place]),
                    iou=ious[place + 1],
                )
                for place, name in enumerate(self._names)
            },
        )

    def all_empty_dice(self) -> float:
        """The competition Dice of an answer without any mask: the share of pairs without truth."""
        return _rounded(1.0 - np.stack(self._shown).mean())

    def _ious(self) -> list[float | None]:
        """Of background and each class."""
        both = np.diag(self._confusion)
        either = self._confusion.sum(axis=0) + self._confusion.sum(axis=1) - both
        return [_rounded(b / e) if e else None for b, e in zip(both, either, strict=True)]


def gate_figures(defective: NDArray[np.bool_], passed: NDArray[np.bool_]) -> GateFigures:
    """Count the gate's answers.

    Args:
        defective: (frames,) bool, the truth.
        passed: (frames,) bool, what the gate passed on to the segmenter.

    >>> gate_figures(np.array([True, True, False, False]), np.array([True, False, True, False])).recall
    0.5
    """
    tp, fn = int((defective & passed).sum()), int((defective & ~passed).sum())
    fp, tn = int((~defective & passed).sum()), int((~defective & ~passed).sum())
    return GateFigures(
        defective=tp + fn,
        clean=fp + tn,
        tp=tp,
        fn=fn,
        fp=fp,
        tn=tn,
        recall=_rounded(tp / (tp + fn)) if tp + fn else None,
        false_gate_ratio=_rounded(fp / (fp + tn)) if fp + tn else None,
    )


def only_slivers(true_px: NDArray[np.integer], min_size_px: Sequence[int]) -> bool:
    """Whether a defective frame shows each of its classes with fewer pixels than the class's minimum size.

    Args:
        true_px: (C,) truth pixels by class.
        min_size_px: The bundle's minimum size by class.

    >>> only_slivers(np.array([0, 40]), (600, 600)), only_slivers(np.array([0, 0]), (600, 600))
    (True, False)
    """
    shown = true_px > 0
    return bool(shown.any() and (true_px < np.asarray(min_size_px))[shown].all())


def _mean(values: NDArray[np.float64]) -> float | None:
    return _rounded(values.mean()) if values.size else None


def _rounded(value: float | np.floating) -> float:
    return round(float(value), 6)
