"""The export of fracture networks: ratio and map, and how sure the head may be of what it reads from the map."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from camera.steel.fracture import fracture_surface
from export.parity import Comparison, Figures, largest
from export.tasks.base import MODEL, Choices, ExportTask, GraphEnd, Output, Report, TaskChoices
from runtime.errors import BundleError
from runtime.heads.fracture import ACTIVATION, RATIO, FractureSettings, Rating, rate
from runtime.wire import Box

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
_LEAST_PICTURES = 20
_FLOORS_PERCENT = np.round(np.arange(0.2, 4.01, 0.1), 2)


class FractureChoices(TaskChoices):
    """What a person may decide about a fracture export."""

    coverage: float = Field(
        default=0.97,
        ge=0.95,
        lt=1,
        description="share of validation ratings that the 95 % interval must hold; more than 0.95, for they are few",
    )


def finish(output: Any) -> tuple[Tensor, ...]:
    """`brittle_ratio` (N,) float32, 0..1, and `activation` (N, h, w) float32."""
    return output.ratio.float().clamp(0.0, 1.0), output.activation.float()


def compare(
    found: Mapping[str, NDArray[Any]], torch: Mapping[str, NDArray[Any]], settings: Mapping[str, Any]
) -> Figures:
    """Differences in points, of ratio (n,) and map (n, h, w)."""
    del settings  # no threshold at which a decision could flip
    ours, theirs = (each[ACTIVATION].astype(np.float64) for each in (found, torch))
    third = slice(ours.shape[2] // 3, -(-2 * ours.shape[2] // 3))
    return {
        "ratio_points": 100.0 * largest(np.abs(found[RATIO].astype(np.float64) - torch[RATIO])),
        "part_points": 100.0 * largest(np.abs((ours - theirs)[:, :, third].mean(axis=(1, 2)))),
        "map_points": 100.0 * largest(np.abs(ours - theirs).mean(axis=(1, 2))),
    }


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
    """The map's geometry, and the narrowest interval that holds on the run's own validation specimens.

    Raises:
        BundleError: There are too few validation specimens to say how far a rating may be off.
        DataError: They are missing or unreadable.
    """
    from train.tasks.fracture import cell_size

    graph = trained[MODEL]
    cell_px = cell_size(graph.network)
    errors_percent: list[float] = []
    doubts_percent: list[float] = []
    for sample in _validation(graph, choices, report):
        for rating, truth in _ratings(graph, sample, cell_px):
            errors_percent.append(100.0 * abs(rating.brittle_ratio - truth))
            doubts_percent.append(rating.doubt_percent)
    if len(errors_percent) < _LEAST_PICTURES:
        raise BundleError(
            f"export: found {len(errors_percent)} validation specimens, expected {_LEAST_PICTURES} or more, so that the "
            "interval of a rating can be told. Train with a larger validation part."
        )
    floor, slope = narrowest_interval(np.array(errors_percent), np.array(doubts_percent), own.coverage)
    return FractureSettings(cell_px=cell_px, uncertainty_floor_percent=floor, uncertainty_per_soft=slope)


def narrowest_interval(
    errors_percent: NDArray[np.float64], doubts_percent: NDArray[np.float64], coverage: float
) -> tuple[float, float]:
    """Floor and slope of the half interval max(floor, slope x doubt), the narrowest that holds so many errors.

    Args:
        errors_percent: (n,) absolute errors, in points.
        doubts_percent: (n,) the map's doubt, in points.
        coverage: Share of the errors that lie within.

    Returns:
        Both rounded up, so that they hold no less.

    >>> narrowest_interval(np.array([0.1, 0.2, 2.0]), np.array([1.0, 2.0, 20.0]), 0.95)
    (0.2, 0.1)
    """
    best = (float("inf"), 0.0, 0.0)
    for floor in _FLOORS_PERCENT.tolist():
        # Errors below the floor are held already; each of the others asks for a slope of its own.
        asked = np.where(errors_percent <= floor, 0.0, errors_percent / np.maximum(doubts_percent, 1e-3))
        held = max(1, int(np.ceil(coverage * len(asked) - 1e-9)))
        slope = float(np.ceil(100.0 * np.sort(asked)[held - 1] - 1e-9) / 100.0)
        width = float(np.maximum(floor, slope * doubts_percent).mean())
        best = min(best, (width, floor, slope))
    return best[1], best[2]


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
