"""What the head says of frames, held against their truth."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from benchmarks.evaluation_data import EvaluationSet, Picture
from benchmarks.report import Report
from benchmarks.scores import (
    DICE_RULE,
    IOU_RULE,
    SLIVER_RULE,
    Found,
    GateFigures,
    MaskFigures,
    MaskScores,
    gate_figures,
    label_map,
    only_slivers,
)
from camera.base import Frame
from runtime import rle
from runtime.cascade import FrameOutput
from runtime.decide import Rules
from runtime.demo.truth import FOUND_SHARE, REACH_PX, compare
from runtime.heads.strip import StripAnswer, StripAnswerer, StripSettings, wanted
from runtime.messages import Defect, Inspected, ModelIdentity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from camera.steel.strip import SyntheticStrip

DEFECT_RULE = (
    f"A planted defect is found when reported masks cover {FOUND_SHARE:.0%} of its true pixels, whatever their "
    f"class. A reported defect is a false alarm when no true pixel lies within {REACH_PX} px of its box, "
    "on whatever frame."
)

RULES = {"dice": DICE_RULE, "iou": IOU_RULE, "slivers": SLIVER_RULE, "defects": DEFECT_RULE}
"""How the figures are counted; goes into every report."""

_EPOCH = "1970-01-01T00:00:00.000000+00:00"
"""In messages that are made to be judged, and go nowhere."""


class DefectFigures(Report):
    """Defects as wholes, across frame borders."""

    planted: int
    found: int
    right_class: int = Field(description="found under their own class")
    found_ratio: float | None = Field(description="null without planted defects")
    frames_clean: int
    false_alarms: int = Field(description="on whatever frame")
    false_alarms_on_clean: int = Field(description="those of them on frames without a true pixel")
    false_alarms_per_200_clean: float | None = Field(description="of the latter; null without clean frames")


class DataFigures(Report):
    """One set of frames."""

    data: str = Field(description="name of the loader")
    source: str
    part: str
    digest: str = Field(description="SHA-256 of all that decides frames and truth")
    seen_in_training: str
    frames: int
    sizes_px: int = Field(description="number of different frame sizes")
    gate: GateFigures
    sliver_frames: int = Field(description="defective frames with nothing but slivers, by the sliver rule")
    gate_without_slivers: GateFigures
    with_gate: MaskFigures
    without_gate: MaskFigures
    all_empty_dice: float = Field(description="competition Dice of an answer without any mask")
    defects: DefectFigures | None = Field(description="null unless the frames are consecutive ones")
    seconds: float


class Judge:
    """Holds the head's answers to one set of frames against the truth.

    Two heads answer: one with the gate's figure, one that is told 1.0, which is the segmenter alone. Frames that do
    not follow each other are answered apart, so that no defect is carried over.

    Args:
        head: The bundle's settings.
        data: The frames and their truth.
        model: Named in the messages.
    """

    def __init__(self, head: StripSettings, data: EvaluationSet, model: ModelIdentity) -> None:
        self.data = data
        self._head = head
        self._gated, self._alone = (StripAnswerer(head, Rules(), model, None) for _ in range(2))
        self._with_gate, self._without_gate = (MaskScores(head.class_names) for _ in range(2))
        self._passed: list[bool] = []
        self._true_px: list[NDArray[np.int64]] = []
        self._messages: list[Inspected] = []

    def add(self, picture: Picture, output: FrameOutput) -> None:
        """Count one frame, with the outputs of both graphs."""
        probability = output.class_probability
        if probability is None:
            raise ValueError("judge: found a frame without the segmenter's output, expected one of each graph.")
        passed = bool(wanted(self._head, np.array([output.gate_probability], np.float32))[0])
        truth_labels = label_map(picture.truth)
        frame = Frame("evaluate", len(self._passed), 0, picture.pixels)
        heard = FrameOutput(output.gate_probability, probability if passed else None)
        for answerer, raw, scores in (
            (self._gated, heard, self._with_gate),
            (self._alone, FrameOutput(1.0, probability), self._without_gate),
        ):
            if self.data.strip is None:
                answerer.gap()
            answer = answerer.answer(frame, raw)
            scores.add(picture.truth, truth_labels, _found(answer.defects, probability))
            if answerer is self._gated and self.data.strip is not None:
                self._messages.append(_message(answer))
        self._passed.append(passed)
        self._true_px.append(picture.truth.sum(axis=(1, 2)))

    def figures(self, seconds: float, sizes_px: int) -> DataFigures:
        """All figures of the set."""
        passed = np.array(self._passed)
        defective = np.array([bool(px.any()) for px in self._true_px])
        slivers = np.array([only_slivers(px, self._head.min_size_px) for px in self._true_px])
        data = self.data
        return DataFigures(
            data=data.kind,
            source=data.source,
            part=data.part,
            digest=data.digest,
            seen_in_training=data.training,
            frames=len(passed),
            sizes_px=sizes_px,
            gate=gate_figures(defective, passed),
            sliver_frames=int(slivers.sum()),
            gate_without_slivers=gate_figures(defective[~slivers], passed[~slivers]),
            with_gate=self._with_gate.figures(),
            without_gate=self._without_gate.figures(),
            all_empty_dice=self._with_gate.all_empty_dice(),
            defects=None if data.strip is None else _defects(data.strip, self._messages),
            seconds=round(seconds, 3),
        )


def _found(defects: Iterable[Defect], probability: NDArray[np.uint8]) -> Found | None:
    """The masks as published: from the messages' run lengths."""
    masks: NDArray[np.bool_] | None = None
    for defect in defects:
        if masks is None:
            masks = np.zeros(probability.shape, bool)
        masks[defect.class_id - 1] |= rle.decode(defect.rle, probability.shape[1:])
    return None if masks is None else Found(masks, label_map(masks, probability))


def _message(answer: StripAnswer) -> Inspected:
    envelope = {"line": "evaluate", "station": "evaluate", "run": "evaluate", "captured_at": _EPOCH}
    return answer.message({**envelope, "sequence": answer.frame_index}, {})


def _defects(strip: SyntheticStrip, messages: list[Inspected]) -> DefectFigures:
    books = compare(strip, messages, strip.height_px)
    planted = len(books.planted)
    on_clean = books.false_alarms_on_clean
    return DefectFigures(
        planted=planted,
        found=len(books.found),
        right_class=len(books.right_class),
        found_ratio=round(len(books.found) / planted, 6) if planted else None,
        frames_clean=books.frames_clean,
        false_alarms=len(books.false_alarms),
        false_alarms_on_clean=on_clean,
        false_alarms_per_200_clean=round(200 * on_clean / books.frames_clean, 4) if books.frames_clean else None,
    )
