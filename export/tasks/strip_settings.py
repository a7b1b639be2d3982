"""What may be decided about a strip export, and the head's settings that follow from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from pydantic import Field

from export.tasks.base import Choices, Report, TaskChoices
from export.tasks.strip_graphs import ENDS
from export.tasks.strip_tune import (
    MIN_SIZES_PX,
    PIXEL_THRESHOLDS,
    ClassChoice,
    ClassTuner,
    MinSizeRule,
    choose_gate_threshold,
)
from runtime.errors import BundleError
from runtime.heads.strip import GATE, SEGMENTER, StripSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from export.trained import TrainedGraph
    from train.datasets.base import Sample

T = TypeVar("T")


class StripChoices(TaskChoices):
    """What a person may decide about a strip export."""

    recall: float = Field(
        default=0.99, ge=0.5, le=1, description="share of defective validation frames that the gate lets through"
    )
    gate_threshold: float | None = Field(default=None, ge=0, le=1, description="instead of the one that recall gives")
    gate_mode: Literal["hard", "soft"] = Field(
        default="hard", description="skip clean frames, or raise their pixel thresholds"
    )
    min_size_rule: MinSizeRule = Field(default="component", description="what must reach a class's minimum size")
    pixel_thresholds: Literal["tune"] | tuple[float, ...] = Field(
        default="tune",
        description="class probability from which a pixel counts: the best on validation frames, or your own, one for "
        "all classes or one a class",
    )
    min_sizes_px: Literal["tune", "gate"] | tuple[int, ...] = Field(
        default="tune",
        description="minimum size of each class: the best on validation frames, the least truth that the gate was "
        "taught to call a defect, or your own",
    )


def choose_settings(
    trained: Mapping[str, TrainedGraph], own: StripChoices, choices: Choices, report: Report
) -> StripSettings:
    """The head's settings, from each run's own validation frames.

    Raises:
        BundleError: The validation frames do not tell defective from clean.
        DataError: They are missing or unreadable.
    """
    names = trained[SEGMENTER].class_names
    sizes = _size_candidates(trained, own)
    threshold = own.gate_threshold
    if threshold is None:
        threshold = _gate_threshold(trained[GATE], own.recall, choices, report)
    levels = _threshold_candidates(trained, own)
    picked = tuple(ClassChoice(level[0], size[0], float("nan")) for level, size in zip(levels, sizes, strict=True))
    if "tune" in (own.pixel_thresholds, own.min_sizes_px):
        tuner = ClassTuner(own.min_size_rule, sizes, levels)
        picked = _class_choices(trained, threshold, tuner, choices, report)
    return StripSettings.model_validate(
        {
            "class_names": names,
            "gate_mode": own.gate_mode,
            "gate_threshold": round(threshold, 4),
            "pixel_thresholds": [each.pixel_threshold for each in picked],
            "min_size_px": [each.min_size_px for each in picked],
            "min_size_rule": own.min_size_rule,
        }
    )


def least_truth_px(gate: TrainedGraph) -> tuple[int, ...]:
    """Truth pixels that make a frame defective, one for all classes or one a class, as the gate was taught.

    A frame that has some, but too few of every class, is neither defective nor clean.

    Raises:
        ConfigError: The run's settings are not those of a gate.
    """
    from train.recipe import check
    from train.tasks.strip_gate import GateSettings

    return check(GateSettings, gate.recipe["settings"], "run of the gate: settings").min_truth_px


def _size_candidates(trained: Mapping[str, TrainedGraph], own: StripChoices) -> tuple[Sequence[int], ...]:
    """The minimum sizes to choose from, a row for each class.

    Raises:
        BundleError: Not one size for each class.
    """
    classes = len(trained[SEGMENTER].class_names)
    given = own.min_sizes_px
    if given == "tune":
        return (MIN_SIZES_PX,) * classes
    sizes = least_truth_px(trained[GATE]) if given == "gate" else given
    return _one_each(sizes, trained[SEGMENTER].class_names, "min_sizes_px")


def _threshold_candidates(trained: Mapping[str, TrainedGraph], own: StripChoices) -> tuple[Sequence[float], ...]:
    """The pixel thresholds to choose from, a row for each class.

    Raises:
        BundleError: Not one threshold for each class.
    """
    names = trained[SEGMENTER].class_names
    if own.pixel_thresholds == "tune":
        return (PIXEL_THRESHOLDS,) * len(names)
    return _one_each(own.pixel_thresholds, names, "pixel_thresholds")


def _one_each(given: tuple[T, ...], class_names: Sequence[str], key: str) -> tuple[tuple[T], ...]:
    values = given * len(class_names) if len(given) == 1 else given
    if len(values) != len(class_names):
        raise BundleError(
            f"export: found {len(values)} {key} for the classes {', '.join(class_names)}, expected one, or one for "
            f"each. Give --set {key}=[...]."
        )
    return tuple((value,) for value in values)


def _gate_threshold(gate: TrainedGraph, recall: float, choices: Choices, report: Report) -> float:
    least_px = least_truth_px(gate)
    probability: list[float] = []
    defective: list[bool] = []
    for sample in _validation(gate, choices, report, "choosing the gate's threshold"):
        true_px = np.count_nonzero(sample.masks, axis=(1, 2))
        enough = bool((true_px >= least_px).any())
        if true_px.any() and not enough:
            continue
        defective.append(enough)
        probability.append(float(_outputs(gate, sample)["defect_probability"][0]))
    return choose_gate_threshold(np.array(probability), np.array(defective, np.bool_), recall)


def _class_choices(
    trained: Mapping[str, TrainedGraph], threshold: float, tuner: ClassTuner, choices: Choices, report: Report
) -> tuple[ClassChoice, ...]:
    segmenter = trained[SEGMENTER]
    for sample in _validation(segmenter, choices, report, "choosing thresholds and sizes"):
        passed = _outputs(trained[GATE], sample)["defect_probability"][0] >= threshold
        found = _outputs(segmenter, sample)["class_probability"][0] if passed else None
        tuner.add(found, sample.masks)
    return tuner.choose()


def _outputs(trained: TrainedGraph, sample: Sample) -> Mapping[str, NDArray[Any]]:
    """What the graph of a network will say of one frame."""
    from export.to_onnx import torch_outputs

    return torch_outputs(trained.network, ENDS[trained.role], np.asarray(sample.pixels)[None, None])


def _validation(trained: TrainedGraph, choices: Choices, report: Report, doing: str) -> Iterator[Sample]:
    from export.trained import validation_samples

    data = trained.recipe["data"]
    chosen = _validation_strips(data) if data["kind"] == "synthetic" else data
    most = choices.validation_frames
    for step, sample in enumerate(validation_samples(trained, choices.cache, most, chosen)):
        report(doing, step, most)
        yield sample
    report(doing, most, most)


def _validation_strips(data: Mapping[str, Any]) -> dict[str, Any]:
    """The same validation strips without the training strips before them, which would take minutes to render."""
    from train.datasets.synthetic import SyntheticSettings

    settings = SyntheticSettings.model_validate({key: value for key, value in data.items() if key != "kind"})
    first = settings.first_seed + settings.train_strips - 1
    return {**settings.model_dump(), "kind": "synthetic", "first_seed": first, "train_strips": 1}
