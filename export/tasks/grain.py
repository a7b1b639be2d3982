"""The export of grain networks: the number or the grades' probabilities, the map, and how far both may be off."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from camera.steel.austenite import GRADES, MM_PER_PX, make_micrograph
from export.parity import Comparison
from export.tasks.base import MODEL, Choices, ExportTask, GraphEnd, Output, Report, TaskChoices
from runtime.errors import BundleError
from runtime.facts import Facts
from runtime.golden.grain import compare_grades, compare_number
from runtime.heads.grain import MAP, NUMBER, PROBABILITY, GrainRules, GrainSettings, chance_spread, field_means, judge

if TYPE_CHECKING:
    from torch import Tensor

    from export.trained import TrainedGraph
    from train.datasets.base import Sample

GOLDEN_SEED = 910_000
"""The first of the pictures that nothing is trained or tested on."""
_GOLDEN_GRADES = (7.0, 2.5, 12.0, 4.5, 10.0)
_LEAST_PICTURES = 20
_LEAST_DUPLEX_G = 1.0
_PROVISIONAL: Mapping[str, Any] = {"error_g": 0.0, "duplex_g": _LEAST_DUPLEX_G}

LIMITS: Mapping[str, float] = {"number_g": 0.05, "map_g": 0.1}
FP32_LIMITS: Mapping[str, float] = {"number_g": 0.005, "map_g": 0.01}
"""The largest value of each figure that a regression may have, in ASTM G.

- `number_g`: of the number of any picture.
- `map_g`: of the map, mean of the absolute difference over all cells.
"""
CLASS_LIMITS: Mapping[str, float] = {"probability_max_abs": 0.02, "flipped_ratio": 0.02}
"""The same for a classification: of any probability, and the share of cells whose grade is another."""


class GrainChoices(TaskChoices):
    """What a person may decide about a grain export."""

    mm_per_px: float = Field(
        default=MM_PER_PX, gt=0, description="scale of the training's pictures; by default the synthetic ones'"
    )
    coverage: float = Field(
        default=0.97,
        ge=0.95,
        lt=1,
        description="share of validation numbers that the 95 % interval must hold; more than 0.95, for they are few",
    )
    field_px: int = Field(default=256, ge=32, description="side of the fields that are compared, about")


def finish_number(output: Any) -> tuple[Tensor, ...]:
    """`grain_number` (N,) float32 and `grain_map` (N, h, w) float32, the number at each cell."""
    return output.scores.float()[:, 0], output.cams.float()[:, 0]


def finish_grades(output: Any) -> tuple[Tensor, ...]:
    """`grade_probability` (N, K) float32 and `grain_map` (N, h, w) float32, the paper's argmax GradCAM (section VI).

    The map holds the place of the grade whose class activation is highest at each cell.
    """
    return output.scores.float().softmax(1), output.cams.float().argmax(1).float()


def golden_frames(count: int, size_px: tuple[int, int]) -> NDArray[np.uint8]:
    """(count, 1, H, W) uint8 micrographs from coarse to fine, every third of mixed grain."""
    height_px, width_px = size_px
    frames = []
    for number in range(count):
        grade = _GOLDEN_GRADES[number % len(_GOLDEN_GRADES)]
        mixed = (grade, min(13.0, grade + 3.0)) if number % 3 == 2 else (grade,)
        frames.append(make_micrograph(GOLDEN_SEED + number, mixed, height_px=height_px, width_px=width_px).pixels[None])
    return np.stack(frames)


def choose_settings(
    trained: Mapping[str, TrainedGraph], own: GrainChoices, choices: Choices, report: Report
) -> GrainSettings:
    """Scale and geometry, and what the run's own validation pictures, each of one grain size, say of the errors.

    Raises:
        BundleError: There are too few validation pictures.
        DataError: They are missing or unreadable.
    """
    from export.to_onnx import torch_outputs

    graph = trained[MODEL]
    regression = graph.class_names == ("G",)
    grades = tuple(graph.recipe["data"].get("grades") or GRADES) if regression else tuple(map(float, graph.class_names))
    cell_px = getattr(graph.network, "cell_px", None)
    basis = {
        "method": "regression" if regression else "classification",
        "grades": () if regression else grades,
        "mm_per_px": own.mm_per_px,
        "cell_px": cell_px if isinstance(cell_px, int) else None,
        "field_px": own.field_px,
        "lowest_g": min(grades),
        "highest_g": max(grades),
    }
    settings = GrainSettings.model_validate({**basis, **_PROVISIONAL})
    end = NUMBER_END if regression else GRADES_END
    errors, intervals, spreads = [], [], []
    for sample in _validation(graph, choices, report):
        pixels = np.ascontiguousarray(sample.pixels)
        outputs = torch_outputs(graph.network, end, pixels[None, None])
        raw = {name: array[0] for name, array in outputs.items()}
        _, result = judge(raw, pixels, Facts(), settings, GrainRules())
        errors.append(abs(result.grain_number - sample.figures["grain_number"]))
        intervals.append(result.uncertainty)
        spreads.append(_beyond_chance(raw[MAP], pixels.shape, result.grain_number, result.spread, settings))
    if len(errors) < _LEAST_PICTURES:
        raise BundleError(
            f"export: found {len(errors)} validation pictures, expected {_LEAST_PICTURES} or more, so that the "
            "interval of a grain size number can be told. Train with a larger validation part."
        )
    return GrainSettings.model_validate(
        {
            **basis,
            "error_g": least_error(np.array(errors), np.array(intervals), own.coverage),
            "duplex_g": max(_LEAST_DUPLEX_G, round(1.1 * max(spreads), 2)),
        }
    )


def least_error(errors: NDArray[np.float64], intervals: NDArray[np.float64], coverage: float) -> float:
    """The least error of the network's own beside the fields' interval, so that their sum in squares holds so many.

    >>> least_error(np.array([0.1, 0.5, 5.0]), np.array([0.2, 0.4, 0.4]), 0.6)
    0.3
    """
    missing = np.sqrt(np.clip(errors**2 - intervals**2, 0.0, None))
    held = max(1, math.ceil(coverage * len(missing) - 1e-9))
    return math.ceil(1000.0 * float(np.sort(missing)[held - 1]) - 1e-6) / 1000.0


def _beyond_chance(
    grain_map: NDArray[Any], shape: tuple[int, ...], number: float, spread: float, settings: GrainSettings
) -> float:
    """Spread between the fields of an even picture that the number of its grains does not explain."""
    fields = len(field_means(grain_map, (shape[0], shape[1]), settings))
    chance = chance_spread(number, fields, shape[0] * shape[1] * settings.mm_per_px**2)
    return math.sqrt(max(0.0, spread**2 - chance**2))


def _validation(graph: TrainedGraph, choices: Choices, report: Report) -> Iterator[Sample]:
    from export.trained import validation_samples

    doing = "learning how far numbers are off"
    for step, sample in enumerate(
        validation_samples(graph, choices.cache, choices.validation_frames, _validation_part(graph))
    ):
        report(doing, step, choices.validation_frames)
        yield sample
    report(doing, choices.validation_frames, choices.validation_frames)


def _validation_part(graph: TrainedGraph) -> dict[str, Any] | None:
    """The same validation pictures behind one training picture a grade, not all, which would take minutes."""
    data = graph.recipe["data"]
    if data["kind"] != "synthetic-grain":
        return None
    from train.datasets.synthetic_grain import SyntheticGrainSettings

    settings = SyntheticGrainSettings.model_validate({key: data[key] for key in data if key != "kind"})
    return {
        **settings.model_dump(mode="json"),
        "kind": data["kind"],
        "first_seed": settings.first_seed + (settings.train_per_grade - 1) * len(settings.grades),
        "train_per_grade": 1,
        "test_per_grade": 0,
    }


NUMBER_END = GraphEnd(
    outputs=(Output(NUMBER, "float32", ("N",)), Output(MAP, "float32", ("N", "h", "w"))),
    finish=finish_number,
    comparison=Comparison(compare_number, LIMITS, FP32_LIMITS),
    arithmetic="fp32",
)
GRADES_END = GraphEnd(
    outputs=(Output(PROBABILITY, "float32", ("N", "K")), Output(MAP, "float32", ("N", "h", "w"))),
    finish=finish_grades,
    comparison=Comparison(compare_grades, CLASS_LIMITS),
    arithmetic="fp32",
)


def _task(end: GraphEnd) -> ExportTask:
    return ExportTask(
        name="grain",
        graphs={MODEL: end},
        choices=GrainChoices,
        settings=choose_settings,
        golden=golden_frames,
        golden_size_px=(384, 512),
        free_size=True,
    )


TASK = _task(NUMBER_END)
CLASSES_TASK = _task(GRADES_END)
