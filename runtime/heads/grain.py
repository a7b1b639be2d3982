"""The grain head: ASTM G of a micrograph, how sure it is, and whether the specimen has one grain size at all.

The network gives the number and a map of it, whose mean the number is. The map is averaged over fields, as one who
looks through a microscope moves from field to field (ASTM E112, section 15): their spread gives the interval, and where
it is wider than one grain size can be by chance, the specimen is inhomogeneous, what ASTM E1181 calls duplex.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from runtime.decide import read_rules
from runtime.delivery.wire import Raster
from runtime.errors import BundleError
from runtime.picture_answers import Judgement, PictureAnswerer
from runtime.scored import GrainResult, Score
from runtime.single import MODEL, SinglePipeline, open_single

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from camera.base import Frame
    from runtime.albums.grain import GrainAlbum
    from runtime.bundle import Bundle
    from runtime.engine import EngineSettings
    from runtime.facts import Facts
    from runtime.messages import ModelIdentity
    from runtime.pipeline import OverlayChoice
    from runtime.spec import ModelSpec, Precision

NUMBER, PROBABILITY, MAP = "grain_number", "grade_probability", "grain_map"
"""The outputs of a graph: (N,) float32 of a regression, or (N, K) float32 of a classification; and (N, h, w) float32,
the number at each cell, or there the place, counted from 0, of the grade with the highest class activation."""

MAP_STEP = 1.0 / 16
"""Of G, from one level of a published map to the next."""
_LOW_SHARE, _HIGH_SHARE = 10.0, 90.0
_SPREAD_DEVIATIONS = 2.563  # from the 10th to the 90th percentile of a normal distribution
_AREA_DEVIATION = 0.66  # of the areas of sectioned grains, as a share of their mean
_TWO_SIDED_95 = 1.96
_BEYOND_G = 0.5  # a number so far from what was learnt is an extrapolation
_LEAST_CONTRAST = 1.5  # deviation in grey levels: less is no micrograph, but a lens cap or a lamp
_MOST_CORRECTION_G = 10.0  # another scale by a factor of 32 is a mistake
_MM2_AT_1X = 645.16e-4


class GrainSettings(BaseModel):
    """The `settings` of a grain bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["regression", "classification"]
    grades: tuple[float, ...] = Field(default=(), description="ASTM G of each probability of a classification, rising")
    mm_per_px: float = Field(gt=0, description="scale of the pictures that the network learnt from")
    cell_px: int | None = Field(
        ge=1,
        description="side of a map cell in px, the first of which begins at the first pixel; null where the cells "
        "spread evenly over the picture",
    )
    lowest_g: float = Field(description="coarsest grain that the network learnt, as its pictures show it")
    highest_g: float = Field(description="finest grain that the network learnt")
    field_px: int = Field(default=256, ge=32, description="side of the fields that are compared, about")
    error_g: float = Field(ge=0, description="half of the 95 % interval of the network's error on whole pictures")
    duplex_g: float = Field(
        gt=0, description="spread of G between fields, beyond chance, from which a specimen is inhomogeneous"
    )

    @model_validator(mode="after")
    def _grades_are_those_of_a_classification(self) -> GrainSettings:
        if (self.method == "classification") != bool(self.grades):
            raise ValueError(f"a {self.method} has {len(self.grades)} grades")
        if list(self.grades) != sorted(set(self.grades)):
            raise ValueError(f"grades must rise, found {self.grades}")
        return self


class GrainRules(BaseModel):
    """Which grain sizes are accepted; without a limit nothing is rated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_grain_number: float | None = Field(default=None, ge=-3, le=16, description="no coarser than this")
    max_grain_number: float | None = Field(default=None, ge=-3, le=16, description="no finer than this")
    allow_inhomogeneous: bool = Field(default=True, description="whether a specimen of mixed grain may be accepted")

    @model_validator(mode="after")
    def _limits_leave_room(self) -> GrainRules:
        if (
            self.min_grain_number is not None
            and self.max_grain_number is not None
            and self.min_grain_number > self.max_grain_number
        ):
            raise ValueError(f"min_grain_number {self.min_grain_number} is above max_grain_number")
        return self


def settings_of(spec: ModelSpec) -> GrainSettings:
    """The head's settings of a bundle, checked against its graph.

    Raises:
        BundleError: A key is missing, unknown or out of range, or the graph is not a grain network's.
    """
    try:
        settings = GrainSettings.model_validate(spec.settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in ("settings", *first["loc"]))
        raise BundleError(f"bundle {spec.name}: {place}: {first['msg']}. Export the bundle again.") from error
    wanted = {NUMBER if settings.method == "regression" else PROBABILITY, MAP}
    graph = spec.graphs.get(MODEL)
    if graph is None or wanted - {tensor.name for tensor in graph.outputs}:
        raise BundleError(
            f"bundle {spec.name}: found graphs {sorted(spec.graphs)}, expected a {MODEL!r} that gives "
            f"{' and '.join(sorted(wanted))}. Use a bundle of a grain network."
        )
    return settings


def shares(pixels: int, cells: int, cell_px: int | None, parts: int) -> NDArray[np.float64]:
    """How much of each of `parts` equal stretches of an axis each cell covers.

    Returns:
        (parts, cells) float64, rows summing to 1.

    >>> shares(6, 2, 4, 3).tolist()
    [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    """
    step = pixels / cells if cell_px is None else float(cell_px)
    first, last = np.arange(cells) * step, np.minimum((np.arange(cells) + 1) * step, pixels)
    edges = np.linspace(0.0, pixels, parts + 1)
    covered = np.minimum(edges[1:, None], last) - np.maximum(edges[:-1, None], first)
    covered = np.clip(covered, 0.0, None)
    return covered / covered.sum(axis=1, keepdims=True)


def resampled(
    grain_map: NDArray[np.floating], shape: tuple[int, int], cell_px: int | None, parts: tuple[int, int]
) -> NDArray[np.float64]:
    """The map's mean over `parts` rows and columns of equal rectangles of the picture, float64."""
    rows, cols = (
        shares(pixels, cells, cell_px, count)
        for pixels, cells, count in zip(shape, grain_map.shape, parts, strict=True)
    )
    return rows @ grain_map @ cols.T


def field_means(grain_map: NDArray[np.floating], shape: tuple[int, int], settings: GrainSettings) -> NDArray[Any]:
    """G of each field (k,): whole fields of about `field_px`, at least two along either side."""
    parts = tuple(max(2, round(side / settings.field_px)) for side in shape)
    return resampled(grain_map, shape, settings.cell_px, (parts[0], parts[1])).ravel()


def chance_spread(grain_number: float, fields: int, area_mm2: float) -> float:
    """How far apart, 10th to 90th percentile, fields of one grain size lie by chance: each holds few grains.

    The count of n grains whose areas deviate by two thirds of their mean is off by 0.66 / sqrt(n) of itself, and G by
    that over ln 2.
    """
    grains = 2.0 ** (grain_number - 1.0) / _MM2_AT_1X * area_mm2 / fields
    return _SPREAD_DEVIATIONS * _AREA_DEVIATION / (math.log(2.0) * math.sqrt(max(grains, 0.25)))


def doubt(reading: Reading, pixels: NDArray[np.uint8], facts: Facts, settings: GrainSettings) -> str:
    """Why a number should not be relied on; empty where it may be."""
    contrast = float(pixels[::3, ::3].std())
    if contrast < _LEAST_CONTRAST:
        return f"the picture shows nothing: its grey levels deviate by {contrast:.1f}"
    if facts.mm_per_px is not None and abs(scale_correction(facts.mm_per_px, settings)) > _MOST_CORRECTION_G:
        return f"a scale of {facts.mm_per_px:g} mm/px is absurd beside the {settings.mm_per_px:g} of the training"
    apparent = reading.grain_number
    if not settings.lowest_g - _BEYOND_G <= apparent <= settings.highest_g + _BEYOND_G:
        return (
            f"the grains look like G {apparent:.1f}, beyond the {settings.lowest_g:g} to {settings.highest_g:g} that "
            "the network learnt; take another magnification"
        )
    if facts.mm_per_px is None:
        return f"nobody said the scale, {settings.mm_per_px:g} mm/px is assumed"
    return ""


def scale_correction(mm_per_px: float | None, settings: GrainSettings) -> float:
    """What is added to G where a picture has another scale than those of the training.

    Grains that look alike are s times as wide on a specimen where a pixel is s times as wide: G falls by 2 log2 s.
    """
    return 0.0 if mm_per_px is None else -2.0 * math.log2(mm_per_px / settings.mm_per_px)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a graph says of one picture, before any scale.

    Attributes:
        grain_number: ASTM G at the training's scale.
        interval: Half of the 95 % interval that the outputs themselves ask for; 0 for a regression.
        grade_probability: By grade; None for a regression.
    """

    grain_number: float
    interval: float
    grade_probability: Mapping[str, float] | None


def read_number(raw: Mapping[str, NDArray[np.float32]], settings: GrainSettings) -> Reading:
    """The number of a regression, or the likeliest grade of a classification."""
    if settings.method == "regression":
        return Reading(float(raw[NUMBER]), 0.0, None)
    probability = np.clip(np.asarray(raw[PROBABILITY], np.float64), 0.0, 1.0)
    grades = np.array(settings.grades)
    likeliest = float(grades[probability.argmax()])
    deviation = math.sqrt(float(probability @ (grades - likeliest) ** 2) / max(float(probability.sum()), 1e-9))
    named = {f"{grade:g}": float(value) for grade, value in zip(grades, probability, strict=True)}
    return Reading(likeliest, _TWO_SIDED_95 * deviation, named)


def map_of(raw: Mapping[str, NDArray[np.float32]], settings: GrainSettings) -> NDArray[np.float64]:
    """G at each cell, (h, w); a copy, for the engine's own memory ends with the call."""
    if settings.method == "regression":
        return np.array(raw[MAP], np.float64)
    places = np.clip(np.rint(raw[MAP]), 0, len(settings.grades) - 1).astype(np.intp)
    return np.array(settings.grades)[places]


def judge(
    raw: Mapping[str, NDArray[np.float32]],
    pixels: NDArray[np.uint8],
    facts: Facts,
    settings: GrainSettings,
    rules: GrainRules,
) -> tuple[Score, GrainResult]:
    """The verdict on one micrograph, and all that is to be said of it; a pure function.

    A number that should not be relied on is never accepted.

    Args:
        raw: The graph's outputs of the picture.
        pixels: (H, W) uint8.
        facts: Its scale; without one it is taken to have the training's.
        settings: The bundle's.
        rules: What is accepted.
    """
    from scipy.stats import t

    grain_map = map_of(raw, settings)
    shape = pixels.shape[0], pixels.shape[1]
    reading = read_number(raw, settings)
    reason = doubt(reading, pixels, facts, settings)
    fields = field_means(grain_map, shape, settings)
    low, high = np.percentile(fields, (_LOW_SHARE, _HIGH_SHARE))
    count = len(fields)
    chance = chance_spread(reading.grain_number, count, shape[0] * shape[1] * settings.mm_per_px**2)
    inhomogeneous = bool(high - low > math.hypot(settings.duplex_g, chance))
    between = float(t.ppf(0.975, count - 1)) * float(np.std(fields, ddof=1)) / math.sqrt(count)
    correction = scale_correction(facts.mm_per_px, settings)
    number = reading.grain_number + correction
    result = GrainResult(
        method=settings.method,
        grain_number=number,
        uncertainty=math.sqrt(settings.error_g**2 + reading.interval**2 + between**2),
        grade_probability=None if reading.grade_probability is None else dict(reading.grade_probability),
        inhomogeneous=inhomogeneous,
        spread=float(high - low),
        grain_map=Raster.of(_levels(resampled(grain_map, shape, settings.cell_px, _cells(grain_map)))),
        map_first=correction,
        map_step=MAP_STEP,
        scale_correction=correction,
        reason=reason,
    )
    return "unrated" if reason else _verdict(number, inhomogeneous, rules), result


def _verdict(number: float, inhomogeneous: bool, rules: GrainRules) -> Score:
    low, high = rules.min_grain_number, rules.max_grain_number
    if low is None and high is None and rules.allow_inhomogeneous:
        return "unrated"
    within = (low is None or number >= low) and (high is None or number <= high)
    return "accepted" if within and (rules.allow_inhomogeneous or not inhomogeneous) else "rejected"


def _cells(grain_map: NDArray[np.floating]) -> tuple[int, int]:
    return grain_map.shape[0], grain_map.shape[1]


def _levels(grain_map: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.rint(np.clip(grain_map / MAP_STEP, 0.0, 255.0)).astype(np.uint8)


def answering(settings: GrainSettings, rules: GrainRules, model: ModelIdentity, facts: Facts) -> PictureAnswerer:
    """What answers for one picture a frame, by a bundle's settings and a station's rules."""

    def judged(frame: Frame, raw: Mapping[str, NDArray[Any]], known: Facts) -> Judgement:
        return Judgement(*judge(raw, frame.pixels, known, settings, rules))

    return PictureAnswerer(judged, model, facts)


def open_pipeline(
    bundle: Bundle, backend: str, settings: EngineSettings, precision: Precision | None = None
) -> SinglePipeline:
    """Open the network of a bundle; see `runtime.pipeline.Head`."""
    settings_of(bundle.spec)
    return open_single(bundle, backend, settings, precision)


def answerer(spec: ModelSpec, rules: Mapping[str, Any], model: ModelIdentity, facts: Facts) -> PictureAnswerer:
    """What answers for the frames of one run; see `runtime.pipeline.Head`."""
    return answering(settings_of(spec), read_rules(GrainRules, rules), model, facts)


def open_album(out: Path, overlays: OverlayChoice) -> GrainAlbum:
    """The overlays of an inspection; see `runtime.pipeline.Head`."""
    from runtime.albums.grain import GrainAlbum

    return GrainAlbum(out, overlays)
