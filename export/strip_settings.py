"""What may be decided about a strip export, and the head's settings that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from export.tune import MIN_SIZES_PX, PIXEL_THRESHOLDS, ClassChoice, ClassTuner, MinSizeRule, choose_gate_threshold
from runtime.errors import BundleError
from runtime.heads.strip import GATE, SEGMENTER, StripSettings

if TYPE_CHECKING:
    from export.to_onnx import TrainedGraph

Report = Callable[[str, int, int], None]
"""Told what is being done, how many of its steps are done, and how many there are."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What a person may decide about an export.

    Attributes:
        name: Of the bundle; None takes its folder's.
        size_px: Height and width of the frames; None takes those of the runs' data.
        min_recall: Share of defective validation frames that the gate must let through.
        gate_threshold: Instead of the one that `min_recall` gives.
        gate_mode: `hard` or `soft`.
        min_size_rule: `component` or `class_total`.
        tune: Choose pixel thresholds on validation frames, otherwise 0.5.
        min_sizes_px: Minimum size of each class; `gate` takes the least truth that the gate was taught to call a
            defect; None chooses on validation frames.
        validation_frames: At most so many of each run's validation frames.
        golden_frames: How many frames parity is measured on.
        golden_kept: How many of them `golden.npz` keeps; None keeps all.
        golden_from_data: Take them from the gate's validation data instead of synthetic strip.
        weights: The runs' best weights by their validation figure, or those of their last epochs.
        ship: Leave out the FP32 files.
        replace: Write over a bundle that is there.
        cache: Where rendered strips are kept.
    """

    name: str | None = None
    size_px: tuple[int, int] | None = None
    min_recall: float = 0.99
    gate_threshold: float | None = None
    gate_mode: str = "hard"
    min_size_rule: MinSizeRule = "component"
    tune: bool = True
    min_sizes_px: tuple[int, ...] | Literal["gate"] | None = None
    validation_frames: int = 320
    golden_frames: int = 16
    golden_kept: int | None = 3
    golden_from_data: bool = False
    weights: Literal["best", "last"] = "best"
    ship: bool = False
    replace: bool = False
    cache: Path = Path("runs/cache")


def choose_settings(trained: Mapping[str, TrainedGraph], choices: Choices, report: Report) -> StripSettings:
    """The head's settings, from each run's own validation frames.

    Raises:
        BundleError: The validation frames do not tell defective from clean.
        DataError: They are missing or unreadable.
    """
    names = trained[SEGMENTER].class_names
    sizes = _size_candidates(trained, choices)
    threshold = choices.gate_threshold
    if threshold is None:
        threshold = _gate_threshold(trained[GATE], choices, report)
    picked = tuple(ClassChoice(0.5, each[0], float("nan")) for each in sizes)
    if choices.tune or choices.min_sizes_px is None:
        thresholds = PIXEL_THRESHOLDS if choices.tune else (0.5,)
        tuner = ClassTuner(choices.min_size_rule, sizes, thresholds)
        picked = _class_choices(trained, threshold, tuner, choices, report)
    return StripSettings.model_validate(
        {
            "class_names": names,
            "gate_mode": choices.gate_mode,
            "gate_threshold": round(threshold, 4),
            "pixel_thresholds": [each.pixel_threshold for each in picked],
            "min_size_px": [each.min_size_px for each in picked],
            "min_size_rule": choices.min_size_rule,
        }
    )


def _size_candidates(trained: Mapping[str, TrainedGraph], choices: Choices) -> tuple[Sequence[int], ...]:
    """The minimum sizes to choose from, a row for each class.

    Raises:
        BundleError: Not one size for each class.
    """
    classes = len(trained[SEGMENTER].class_names)
    given = choices.min_sizes_px
    if given is None:
        return (MIN_SIZES_PX,) * classes
    sizes = trained[GATE].least_truth_px if given == "gate" else given
    if len(sizes) == 1:
        sizes *= classes
    if len(sizes) != classes:
        raise BundleError(
            f"export: found {len(sizes)} minimum sizes for the classes {', '.join(trained[SEGMENTER].class_names)}, "
            "expected one, or one for each. Set --min-sizes."
        )
    return tuple((size,) for size in sizes)


def _gate_threshold(gate: TrainedGraph, choices: Choices, report: Report) -> float:
    from export.to_onnx import torch_outputs, validation_examples

    probability: list[float] = []
    defective: list[bool] = []
    for step, example in enumerate(validation_examples(gate, choices.cache, choices.validation_frames)):
        report("choosing the gate's threshold", step, choices.validation_frames)
        true_px = np.count_nonzero(example.truth, axis=(1, 2))
        enough = bool((true_px >= gate.least_truth_px).any())
        if true_px.any() and not enough:
            continue
        defective.append(enough)
        outputs = torch_outputs(gate.network, GATE, example.frame[None, None])
        probability.append(float(outputs["defect_probability"][0]))
    report("choosing the gate's threshold", choices.validation_frames, choices.validation_frames)
    return choose_gate_threshold(np.array(probability), np.array(defective, np.bool_), choices.min_recall)


def _class_choices(
    trained: Mapping[str, TrainedGraph], threshold: float, tuner: ClassTuner, choices: Choices, report: Report
) -> tuple[ClassChoice, ...]:
    from export.to_onnx import torch_outputs, validation_examples

    segmenter = trained[SEGMENTER]
    for step, example in enumerate(validation_examples(segmenter, choices.cache, choices.validation_frames)):
        report("choosing thresholds and sizes", step, choices.validation_frames)
        frame = example.frame[None, None]
        passed = torch_outputs(trained[GATE].network, GATE, frame)["defect_probability"][0] >= threshold
        found = torch_outputs(segmenter.network, SEGMENTER, frame)["class_probability"][0] if passed else None
        tuner.add(found, example.truth)
    report("choosing thresholds and sizes", choices.validation_frames, choices.validation_frames)
    return tuner.choose()
