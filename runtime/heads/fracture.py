"""The fracture head: brittle fracture ratio and shear of a drop-weight tear test specimen, as ASTM E436 rates it.

The network gives the ratio of the whole picture and a class activation map, whose mean that ratio is. The rated region
is the surface without one thickness behind the notch and one before the hammer side; its ratio is the map's mean there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runtime.decide import read_rules
from runtime.delivery.wire import Box, Raster
from runtime.errors import BundleError
from runtime.heads.exposure import exposure_fault
from runtime.picture_answers import Judgement, PictureAnswerer
from runtime.scored import FractureResult, Score
from runtime.single import MODEL, SinglePipeline, open_single

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from camera.base import Frame
    from runtime.albums.fracture import FractureAlbum
    from runtime.bundle import Bundle
    from runtime.engine import EngineSettings
    from runtime.facts import Facts
    from runtime.messages import ModelIdentity
    from runtime.pipeline import OverlayChoice
    from runtime.spec import ModelSpec, Precision

RATIO, ACTIVATION = "brittle_ratio", "activation"
"""The outputs of the graph: (N,) float32, 0 to 1, and (N, h, w) float32, near 0 where ductile, near 1 where brittle."""

LEAST_RATED_RATIO = 0.05
"""Less of the surface than this between the parts left out is no region to rate."""
THICKNESS_IN_PICTURE = (0.4, 1.2)
"""How many times the picture's extent across the fracture the thickness may be: a surface fills most of its picture."""


class FractureSettings(BaseModel):
    """The `settings` of a fracture bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell_px: int | None = Field(
        ge=1,
        description="side of an activation cell in px, the first of which begins at the first pixel; null where the "
        "cells spread evenly over the picture, whatever its size",
    )
    uncertainty_floor_percent: float = Field(
        ge=0, le=100, description="half of the 95 % interval where the map has no doubt, in points"
    )
    uncertainty_per_soft: float = Field(
        ge=0, description="further points for each point of doubt, the mean of min(a, 1 - a) over the region"
    )


class FractureRules(BaseModel):
    """When a specimen is accepted, and what of its surface is rated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_shear_percent: float = Field(default=85.0, ge=0, le=100, description="shear from which a specimen is accepted")
    verdict_by: Literal["figure", "lower_bound"] = Field(
        default="figure", description="what must reach it: the shear itself, or the lower end of its 95 % interval"
    )
    left_out_thicknesses: float = Field(
        default=1.0,
        ge=0,
        le=2,
        description="thicknesses left out behind the notch and again before the hammer side; 0 where the pictures "
        "show the rated region alone, and then no scale is needed",
    )
    most_left_out_mm: float | None = Field(
        default=None, gt=0, description="leave out no more than this at a side, as API RP 5L3 does (19 mm)"
    )


def settings_of(spec: ModelSpec) -> FractureSettings:
    """The head's settings of a bundle, checked against its graph.

    Raises:
        BundleError: A key is missing, unknown or out of range, or the graph is not a fracture network's.
    """
    try:
        settings = FractureSettings.model_validate(spec.settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in ("settings", *first["loc"]))
        raise BundleError(f"bundle {spec.name}: {place}: {first['msg']}. Export the bundle again.") from error
    graph = spec.graphs.get(MODEL)
    if graph is None or {RATIO, ACTIVATION} - {tensor.name for tensor in graph.outputs}:
        raise BundleError(
            f"bundle {spec.name}: found graphs {sorted(spec.graphs)}, expected a {MODEL!r} that gives {RATIO!r} and "
            f"{ACTIVATION!r}. Use a bundle of a fracture network."
        )
    return settings


@dataclass(frozen=True, slots=True)
class Rating:
    """What the map says of a part of the surface.

    Attributes:
        brittle_ratio: Share that is brittle, 0 to 1.
        doubt_percent: Mean of min(a, 1 - a), in points: 0 where the map is sure everywhere, 50 where nowhere.
    """

    brittle_ratio: float
    doubt_percent: float


def rate(
    activation: NDArray[np.float32], shape: tuple[int, int], cell_px: int | None, region: Box | None = None
) -> Rating:
    """Rate a region of a picture, in whole pixels, whatever the cells' size.

    Args:
        activation: (h, w) float32, one picture's map.
        shape: Rows and columns of the picture.
        cell_px: As in `FractureSettings`.
        region: Half-open, in px; None is the whole picture.
    """
    box = region or Box(first_row=0, first_col=0, stop_row=shape[0], stop_col=shape[1])
    rows = pixel_weights(shape[0], activation.shape[0], cell_px)[box.first_row : box.stop_row].mean(axis=0)
    cols = pixel_weights(shape[1], activation.shape[1], cell_px)[box.first_col : box.stop_col].mean(axis=0)
    # The mean first, the limits after: cells a little beyond 0 and 1 make up for those a little within.
    ratio = float(np.clip(rows @ activation @ cols, 0.0, 1.0))
    sure = np.clip(activation, 0.0, 1.0)
    return Rating(ratio, 100.0 * float(rows @ np.minimum(sure, 1.0 - sure) @ cols))


def pixel_weights(pixels: int, cells: int, cell_px: int | None) -> NDArray[np.float32]:
    """How much each cell along an axis says of each pixel: bilinear between the cells' centres.

    Returns:
        (pixels, cells) float32, rows summing to 1.

    >>> pixel_weights(4, 2, 2).round(2).tolist()
    [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]]
    """
    step = pixels / cells if cell_px is None else float(cell_px)
    return _weights((np.arange(pixels) + 0.5) / step, cells)


def _weights(places: NDArray[np.floating[Any]], cells: int) -> NDArray[np.float32]:
    """What each cell says of places along an axis, in cells from the first one's edge; (places, cells) float32."""
    offset = np.abs(np.clip(places - 0.5, 0.0, cells - 1.0)[:, None] - np.arange(cells)[None, :])
    return np.clip(1.0 - offset, 0.0, 1.0).astype(np.float32)


def even_levels(activation: NDArray[np.float32], shape: tuple[int, int], cell_px: int | None) -> NDArray[np.uint8]:
    """The map as levels of cells that spread evenly over the picture, (h, w) uint8, 255 = wholly brittle.

    Whoever draws it needs no more than the picture's own size.
    """
    axes = []
    for pixels, cells in zip(shape, activation.shape, strict=True):
        # The centres of even cells, in the graph's own.
        centres = (np.arange(cells) + 0.5) * (1.0 if cell_px is None else pixels / (cells * cell_px))
        axes.append(_weights(centres, cells))
    return np.rint(255.0 * np.clip(axes[0] @ activation @ axes[1].T, 0.0, 1.0)).astype(np.uint8)


def rated_region(shape: tuple[int, int], facts: Facts, rules: FractureRules) -> Box | str:
    """What of a picture is rated, or why nothing is.

    Args:
        shape: Rows and columns of the picture, which shows the surface from notch root to hammer edge.
        facts: Scale, thickness and the notch's side.
        rules: How much is left out.
    """
    height, width = shape
    if rules.left_out_thicknesses == 0.0:
        return Box(first_row=0, first_col=0, stop_row=height, stop_col=width)
    missing = [name for name in ("mm_per_px", "thickness_mm", "notch_side") if getattr(facts, name) is None]
    if missing or facts.mm_per_px is None or facts.thickness_mm is None:
        return f"nobody said {', '.join(missing)}"
    along_cols = facts.notch_side in ("left", "right")
    along_px, across_px = (width, height) if along_cols else (height, width)
    thickness_px = facts.thickness_mm / facts.mm_per_px
    if not THICKNESS_IN_PICTURE[0] <= thickness_px / across_px <= THICKNESS_IN_PICTURE[1]:
        return (
            f"a thickness of {facts.thickness_mm:g} mm at {facts.mm_per_px:g} mm/px is {thickness_px:.0f} px, but the "
            f"picture is {across_px} px across"
        )
    left_out_mm = rules.left_out_thicknesses * facts.thickness_mm
    left_out_mm = min(left_out_mm, rules.most_left_out_mm or left_out_mm)
    first = round(left_out_mm / facts.mm_per_px)
    stop = along_px - first
    if stop - first < max(1.0, LEAST_RATED_RATIO * along_px):
        return f"{left_out_mm:g} mm left out at both sides of {along_px * facts.mm_per_px:.1f} mm leave nothing to rate"
    if along_cols:
        return Box(first_row=0, first_col=first, stop_row=height, stop_col=stop)
    return Box(first_row=first, first_col=0, stop_row=stop, stop_col=width)


def half_interval_percent(rating: Rating, settings: FractureSettings) -> float:
    """Half of the 95 % interval of a rating, in points: the less sure the map, the wider."""
    return min(100.0, settings.uncertainty_floor_percent + settings.uncertainty_per_soft * rating.doubt_percent)


def judge(
    activation: NDArray[np.float32],
    brittle_ratio: float,
    shape: tuple[int, int],
    facts: Facts,
    settings: FractureSettings,
    rules: FractureRules,
    fault: str = "",
) -> tuple[Score, FractureResult]:
    """The verdict on one specimen, and all that is to be said of it; a pure function.

    Without a region to rate, or with a fault of the picture, there is no verdict: such a specimen is never accepted.

    Args:
        activation: (h, w) float32, the graph's.
        brittle_ratio: The graph's, of the whole picture.
        shape: Rows and columns of the picture.
        facts: What is known of the picture.
        settings: The bundle's.
        rules: When a specimen is accepted.
        fault: Why the picture cannot be judged; empty where it can.
    """
    activation = np.array(activation, np.float32)  # the engine's own memory ends with the call
    region = fault or rated_region(shape, facts, rules)
    rated = rate(activation, shape, settings.cell_px, region) if isinstance(region, Box) else None
    shear = None if rated is None else 100.0 * (1.0 - rated.brittle_ratio)
    half = half_interval_percent(rated or rate(activation, shape, settings.cell_px), settings)
    result = FractureResult(
        brittle_ratio=min(1.0, max(0.0, brittle_ratio)),
        rated_region=region if isinstance(region, Box) else None,
        rated_brittle_ratio=None if rated is None else rated.brittle_ratio,
        shear_percent=shear,
        uncertainty_percent=half,
        min_shear_percent=rules.min_shear_percent,
        decided_by=rules.verdict_by,
        activation=Raster.of(even_levels(activation, shape, settings.cell_px)),
        reason=region if isinstance(region, str) else "",
    )
    if shear is None:
        return "unrated", result
    reached = shear - (half if rules.verdict_by == "lower_bound" else 0.0)
    return "accepted" if reached >= rules.min_shear_percent else "rejected", result


def answering(settings: FractureSettings, rules: FractureRules, model: ModelIdentity, facts: Facts) -> PictureAnswerer:
    """What answers for one picture a frame, by a bundle's settings and a station's rules."""

    def judged(frame: Frame, raw: Mapping[str, NDArray[Any]], known: Facts) -> Judgement:
        shape = frame.pixels.shape[0], frame.pixels.shape[1]
        fault = exposure_fault(frame.pixels)
        return Judgement(*judge(raw[ACTIVATION], float(raw[RATIO]), shape, known, settings, rules, fault))

    return PictureAnswerer(judged, model, facts)


def open_pipeline(
    bundle: Bundle, backend: str, settings: EngineSettings, precision: Precision | None = None
) -> SinglePipeline:
    """Open the network of a bundle; see `runtime.pipeline.Head`."""
    settings_of(bundle.spec)
    return open_single(bundle, backend, settings, precision)


def answerer(spec: ModelSpec, rules: Mapping[str, Any], model: ModelIdentity, facts: Facts) -> PictureAnswerer:
    """What answers for the frames of one run; see `runtime.pipeline.Head`."""
    return answering(settings_of(spec), read_rules(FractureRules, rules), model, facts)


def open_album(out: Path, overlays: OverlayChoice) -> FractureAlbum:
    """The overlays and specimen reports of an inspection; see `runtime.pipeline.Head`."""
    from runtime.albums.fracture import FractureAlbum

    return FractureAlbum(out, overlays)
