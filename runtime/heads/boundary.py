"""The boundary head: grain boundaries traced on a micrograph, and the grain size that ASTM E112 counts on them.

The network gives how likely each pixel lies between two grains. The lines through it are what a person would draw over
the picture, and everything that is said of the grain size is counted on these lines, so it can be checked by eye.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from runtime import grain_size
from runtime.boundary_lines import trace_lines
from runtime.decide import read_rules
from runtime.delivery.wire import Raster
from runtime.errors import BundleError, DataError
from runtime.grain_size import Procedure
from runtime.heads.exposure import exposure_fault
from runtime.picture_answers import Judgement, PictureAnswerer
from runtime.scored import BoundaryResult, GrainMeasure, Score
from runtime.single import MODEL, SinglePipeline, open_single

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from camera.base import Frame
    from runtime.albums.boundary import BoundaryAlbum
    from runtime.bundle import Bundle
    from runtime.engine import EngineSettings
    from runtime.facts import Facts
    from runtime.messages import ModelIdentity
    from runtime.pipeline import OverlayChoice
    from runtime.spec import ModelSpec, Precision

PROBABILITY = "boundary_probability"
"""The output of the graph: (N, 1, H, W) uint8, 255 = 1.0."""

Shape = tuple[int, int]
_COUNTS: Mapping[Procedure, Callable[[NDArray[np.bool_], float], grain_size.GrainSize]] = MappingProxyType(
    {
        "planimetric": grain_size.planimetric,
        "lines": lambda lines, mm_per_px: grain_size.intercept(
            lines, mm_per_px, grain_size.line_grid(_shape(lines)), "lines"
        ),
        "circles": lambda lines, mm_per_px: grain_size.intercept(
            lines, mm_per_px, grain_size.circles(_shape(lines)), "circles"
        ),
    }
)


class BoundarySettings(BaseModel):
    """The `settings` of a boundary bundle; how lines are traced, see `runtime.boundary_lines.trace_lines`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    certain: float = Field(gt=0, le=1, description="probability that a line must reach somewhere")
    faint: float = Field(gt=0, le=1, description="probability from which a line goes on")
    min_length_px: int = Field(default=10, ge=0, description="shorter lines that touch no other are dropped")
    min_grain_px: int = Field(default=12, ge=0, description="smaller holes in the lines are no grains")

    @model_validator(mode="after")
    def _in_order(self) -> BoundarySettings:
        if self.faint > self.certain:
            raise ValueError(f"faint is {self.faint}, expected at most certain, {self.certain}")
        return self


class BoundaryRules(BaseModel):
    """Which grain sizes are accepted; without a limit nothing is rated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    procedure: Procedure = Field(default="lines", description="whose ASTM G is held against the limits")
    min_grain_number: float | None = Field(default=None, ge=-3, le=16, description="no coarser than this")
    max_grain_number: float | None = Field(default=None, ge=-3, le=16, description="no finer than this")
    verdict_by: Literal["figure", "interval"] = Field(
        default="figure", description="what must lie within: G itself, or the whole of its 95 % interval"
    )

    @model_validator(mode="after")
    def _limits_leave_room(self) -> BoundaryRules:
        low, high = self.min_grain_number, self.max_grain_number
        if low is not None and high is not None and low > high:
            raise ValueError(f"min_grain_number {low} is above max_grain_number {high}")
        return self


def settings_of(spec: ModelSpec) -> BoundarySettings:
    """The head's settings of a bundle, checked against its graph.

    Raises:
        BundleError: A key is missing, unknown or out of range, or the graph is not a boundary network's.
    """
    try:
        settings = BoundarySettings.model_validate(spec.settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in ("settings", *first["loc"]))
        raise BundleError(f"bundle {spec.name}: {place}: {first['msg']}. Export the bundle again.") from error
    graph = spec.graphs.get(MODEL)
    if graph is None or PROBABILITY not in {tensor.name for tensor in graph.outputs}:
        raise BundleError(
            f"bundle {spec.name}: found graphs {sorted(spec.graphs)}, expected a {MODEL!r} that gives {PROBABILITY!r}. "
            "Use a bundle of a boundary network."
        )
    return settings


def lines_of(probability: NDArray[np.uint8], settings: BoundarySettings) -> NDArray[np.bool_]:
    """(H, W) bool: the lines of a map of probability (H, W) uint8, as the bundle traces them."""
    return trace_lines(
        probability,
        certain=settings.certain,
        faint=settings.faint,
        min_length_px=settings.min_length_px,
        min_grain_px=settings.min_grain_px,
    )


def measure(lines: NDArray[np.bool_], mm_per_px: float | None, fault: str = "") -> BoundaryResult:
    """What E112 counts on traced boundaries; a pure function.

    Args:
        lines: (H, W) bool, one pixel wide.
        mm_per_px: Scale; None where nobody said it.
        fault: Why the picture cannot be judged; empty where it can.
    """
    reasons = [fault] if fault else []
    measures: list[GrainMeasure] = []
    if mm_per_px is None:
        reasons.append("nobody said mm_per_px, and a grain size number needs a scale")
    else:
        measures, missing = _counted(lines, mm_per_px)
        reasons += missing
    try:
        in_px: float | None = _COUNTS["lines"](lines, 1.0).mean_intercept_mm
    except DataError:
        in_px = None
    return BoundaryResult(
        lines=Raster.of(lines.astype(np.uint8)),
        mean_intercept_px=in_px,
        measures=tuple(measures),
        reason="; ".join(reasons),
    )


def _counted(lines: NDArray[np.bool_], mm_per_px: float) -> tuple[list[GrainMeasure], list[str]]:
    """What each procedure counts, and why some of them do not: where one finds too little, others may find enough."""
    measures, missing = [], []
    for procedure, count in _COUNTS.items():
        try:
            found = count(lines, mm_per_px)
        except DataError as error:
            missing.append(str(error))
            continue
        measures.append(
            GrainMeasure(
                procedure=procedure,
                grain_number=found.grain_number,
                interval=found.interval,
                counted=found.counted,
                fields=found.fields,
                mean_intercept_mm=found.mean_intercept_mm,
            )
        )
    return measures, missing


def judge(result: BoundaryResult, rules: BoundaryRules, fault: str = "") -> Score:
    """The verdict on a micrograph; a pure function.

    There is none without a limit, where the picture cannot be judged, or where the procedure that the rules name found
    too little to count.
    """
    limits = rules.min_grain_number, rules.max_grain_number
    found = next((each for each in result.measures if each.procedure == rules.procedure), None)
    if fault or found is None or limits == (None, None):
        return "unrated"
    half = found.interval if rules.verdict_by == "interval" else 0.0
    low, high = (each if each is not None else end for each, end in zip(limits, (-np.inf, np.inf), strict=True))
    return "accepted" if low <= found.grain_number - half and found.grain_number + half <= high else "rejected"


def _shape(lines: NDArray[np.bool_]) -> Shape:
    return lines.shape[0], lines.shape[1]


def answering(settings: BoundarySettings, rules: BoundaryRules, model: ModelIdentity, facts: Facts) -> PictureAnswerer:
    """What answers for one picture a frame, by a bundle's settings and a station's rules."""

    def judged(frame: Frame, raw: Mapping[str, NDArray[Any]], known: Facts) -> Judgement:
        fault = exposure_fault(frame.pixels)
        result = measure(lines_of(raw[PROBABILITY][0], settings), known.mm_per_px, fault)
        return Judgement(judge(result, rules, fault), result)

    return PictureAnswerer(judged, model, facts)


def open_pipeline(
    bundle: Bundle, backend: str, settings: EngineSettings, precision: Precision | None = None
) -> SinglePipeline:
    """Open the network of a bundle; see `runtime.pipeline.Head`."""
    settings_of(bundle.spec)
    return open_single(bundle, backend, settings, precision)


def answerer(spec: ModelSpec, rules: Mapping[str, Any], model: ModelIdentity, facts: Facts) -> PictureAnswerer:
    """What answers for the frames of one run; see `runtime.pipeline.Head`."""
    return answering(settings_of(spec), read_rules(BoundaryRules, rules), model, facts)


def open_album(out: Path, overlays: OverlayChoice) -> BoundaryAlbum:
    """The pictures of an inspection, on which every count can be checked; see `runtime.pipeline.Head`."""
    from runtime.albums.boundary import BoundaryAlbum

    return BoundaryAlbum(out, overlays)
