"""The export of fracture networks: ratio and map, and how sure the head may be of what it reads from the map."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from camera.steel.fracture import fracture_surface
from export.parity import Comparison
from export.tasks.base import MODEL, Choices, ExportTask, GraphEnd, Output, Report, TaskChoices
from runtime.delivery.wire import Box
from runtime.errors import BundleError
from runtime.golden.fracture import compare
from runtime.heads.fracture import ACTIVATION, RATIO, FractureSettings, Rating, rate

if TYPE_CHECKING:
    from torch import Tensor

    from export.trained import TrainedGraph
    from train.datasets.base import Sample

GOLDEN_SEED = 900_000
"""The first of the specimens that nothing is trained or tested on."""
_GOLDEN_RATIOS = (0.35, 0.0, 1.0, 0.1, 0.7, 0.5)

LIMITS: Mapping[str, float] = {"ratio_points": 0.2, "part_points": 0.3, "map_points": 1.5}
FP32_LIMITS: Mapping[str, float] = {"ratio_points": 0.05, "part_points": 0.05, "map_points": 0.2}
"""The largest value of each figure that a bundle may have, in points of brittle fracture ratio.

- `ratio_points`: of the ratio of any picture.
- `part_points`: of the map's mean over the middle third, about what is rated of a specimen.
- `map_points`: of the map, mean of the absolute difference over all cells.
"""
_HELD_RATIO, _CONFIDENCE = 0.95, 0.9


class FractureChoices(TaskChoices):
    """What a person may decide about a fracture export."""

    floor_percent: float = Field(
        default=1.0,
        ge=LIMITS["part_points"],
        le=20,
        description="half of the 95 % interval of a rating where the map has no doubt, in points",
    )


def finish(output: Any) -> tuple[Tensor, ...]:
    """`brittle_ratio` (N,) float32, 0..1, and `activation` (N, h, w) float32."""
    return output.ratio.float().clamp(0.0, 1.0), output.activation.float()


def golden_frames(count: int, size_px: tuple[int, int]) -> NDArray[np.uint8]:
    """(count, 1, H, W) uint8 specimens: part brittle, ductile and wholly brittle ones first."""
    height_px, width_px = size_px
    return np.stack(
        [
            fracture_surface(
                GOLDEN_SEED + number,
                view="rated",
                brittle_ratio=_GOLDEN_RATIOS[number % len(_GOLDEN_RATIOS)],
                height_px=height_px,
                width_px=width_px,
            ).pixels[None]
            for number in range(count)
        ]
    )


def choose_settings(
    trained: Mapping[str, TrainedGraph], own: FractureChoices, choices: Choices, report: Report
) -> FractureSettings:
    """The map's geometry, and an interval that holds on the run's own validation specimens.

    Raises:
        BundleError: There are too few validation specimens to say how far a rating may be off.
        DataError: They are missing or unreadable.
    """
    from train.tasks.fracture import cell_size

    graph = trained[MODEL]
    cell_px = cell_size(graph.network)
    slopes: list[float] = []
    for sample in _validation(graph, choices, report):
        asked = (
            slope_asked(100.0 * abs(rating.brittle_ratio - truth), rating.doubt_percent, own.floor_percent)
            for rating, truth in _ratings(graph, sample, cell_px)
        )
        slopes.append(max(asked))
    slope = tolerance_limit(slopes)
    if slope is None:
        raise BundleError(
            f"export: found {len(slopes)} validation specimens, expected {least_specimens()} or more, so that the "
            "interval of a rating can be told. Train with a larger validation part."
        )
    return FractureSettings(
        cell_px=cell_px,
        uncertainty_floor_percent=own.floor_percent,
        uncertainty_per_soft=math.ceil(100.0 * slope) / 100.0,
    )


def slope_asked(error_percent: float, doubt_percent: float, floor_percent: float) -> float:
    """The slope with which the half interval floor + slope x doubt holds an error.

    A line's backend may move a rating by as much as parity lets it, so that much is added to the error.

    >>> slope_asked(2.7, 2.0, 1.0), slope_asked(0.5, 0.0, 1.0)
    (1.0, 0.0)
    """
    beyond = error_percent + LIMITS["part_points"] - floor_percent
    return max(0.0, beyond) / max(doubt_percent, 1e-3)


def tolerance_limit(values: Sequence[float]) -> float | None:
    """The value below which 95 % of all specimens lie, with 90 % confidence, whatever their distribution (Wilks 1941).

    A quantile of few specimens would hold less than it promises every other time.

    Returns:
        One of the values; None where they are too few.

    >>> tolerance_limit(list(range(44))), tolerance_limit(list(range(45))), tolerance_limit(list(range(79)))
    (None, 44, 77)
    """
    from scipy.stats import binom

    count = len(values)
    # The r-th smallest lies above the quantile where fewer than r of all lie below it.
    held = next((r for r in range(1, count + 1) if binom.cdf(r - 1, count, _HELD_RATIO) >= _CONFIDENCE), None)
    return None if held is None else sorted(values)[held - 1]


def least_specimens() -> int:
    """How few specimens have a tolerance limit at all."""
    return math.ceil(math.log(1.0 - _CONFIDENCE) / math.log(_HELD_RATIO))


def _ratings(graph: TrainedGraph, sample: Sample, cell_px: int | None) -> Iterator[tuple[Rating, float]]:
    """Ratings of a specimen with their truth: the whole picture, and the part between its outer thirds."""
    from export.to_onnx import torch_outputs

    pixels = np.ascontiguousarray(sample.pixels)
    activation = torch_outputs(graph.network, _END, pixels[None, None])[ACTIVATION][0]
    height, width = pixels.shape
    for first, stop in ((0, width), (width // 3, width - width // 3)):
        region = Box(first_row=0, first_col=first, stop_row=height, stop_col=stop)
        truth = float(sample.masks[0, :, first:stop].mean())
        yield rate(activation, (height, width), cell_px, region), truth


def _validation(graph: TrainedGraph, choices: Choices, report: Report) -> Sequence[Sample]:
    from export.trained import validation_samples

    samples = []
    for sample in validation_samples(graph, choices.cache, choices.validation_frames, _validation_part(graph)):
        report("learning how far ratings are off", len(samples), choices.validation_frames)
        samples.append(sample)
    report("learning how far ratings are off", choices.validation_frames, choices.validation_frames)
    return samples


def _validation_part(graph: TrainedGraph) -> dict[str, Any] | None:
    """The same validation specimens without the training ones before them, which would take minutes to render."""
    data = graph.recipe["data"]
    if data["kind"] != "synthetic-fracture":
        return None
    from train.datasets.synthetic_fracture import SyntheticFractureSettings

    settings = SyntheticFractureSettings.model_validate({key: data[key] for key in data if key != "kind"})
    first = settings.first_seed + settings.train_specimens - 1
    return {
        **settings.model_dump(),
        "kind": data["kind"],
        "first_seed": first,
        "train_specimens": 1,
        "test_specimens": 0,
    }


_END = GraphEnd(
    outputs=(Output(RATIO, "float32", ("N",)), Output(ACTIVATION, "float32", ("N", "h", "w"))),
    finish=finish,
    comparison=Comparison(compare, LIMITS, FP32_LIMITS),
)

TASK = ExportTask(
    name="fracture",
    graphs={MODEL: _END},
    choices=FractureChoices,
    settings=choose_settings,
    golden=golden_frames,
    golden_size_px=(320, 448),
    free_size=True,
)
