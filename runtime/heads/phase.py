"""The phase head: which phase each pixel of a micrograph is, and how much of the steel each phase takes up.

The graph gives a label a pixel. Micrographs larger than a tile are cut with so much overlap that the stitched map is
the one that the network gives for the whole (`runtime.tiling`). Fractions come with the 95 % interval that the spread
between fields allows (`runtime.phase_fractions`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from runtime.decide import read_rules
from runtime.delivery.wire import Raster
from runtime.errors import BundleError, ConfigError
from runtime.heads.exposure import exposure_fault
from runtime.phase_fractions import spread
from runtime.picture_answers import Judgement, PictureAnswerer
from runtime.scored import PhaseFraction, PhaseResult, Score
from runtime.single import MODEL
from runtime.tiled import TiledPipeline, Tiles, open_tiled

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from camera.base import Frame
    from runtime.albums.phase import PhaseAlbum
    from runtime.bundle import Bundle
    from runtime.engine import EngineSettings
    from runtime.facts import Facts
    from runtime.messages import ModelIdentity
    from runtime.pipeline import OverlayChoice
    from runtime.spec import ModelSpec, Precision

PHASE = "phase"
"""The output of the graph: (N, H, W) uint8, the number of the phase at each pixel."""


class PhaseSettings(BaseModel):
    """The `settings` of a phase bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    phase_names: tuple[str, ...] = Field(min_length=2, description="by label, from 0; the first is the matrix")
    tile_px: int | None = Field(
        ge=16, description="side of a tile at most, for micrographs that are larger; null never cuts"
    )
    radius_px: int = Field(ge=0, description="how far a pixel may lie that has a say in another's label, at most")
    stride_px: int = Field(ge=1, description="tiles begin at multiples of it")
    field_px: int = Field(
        default=48, ge=8, description="least side of the fields whose spread gives the interval of a fraction"
    )

    @model_validator(mode="after")
    def _tiles_fit(self) -> PhaseSettings:
        if len(set(self.phase_names)) != len(self.phase_names):
            raise ValueError(f"phase_names must differ, found {self.phase_names}")
        if self.tile_px is not None and self.tile_px <= 2 * self.radius_px:
            raise ValueError(f"tile_px is {self.tile_px}, expected more than twice the radius of {self.radius_px} px")
        if any(size % self.stride_px for size in (self.tile_px or 0, self.radius_px)):
            raise ValueError(f"tile_px and radius_px must be multiples of stride_px, {self.stride_px}")
        return self


class FractionLimits(BaseModel):
    """Between what a fraction must lie, in percent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_percent: float = Field(default=0.0, ge=0, le=100)
    max_percent: float = Field(default=100.0, ge=0, le=100)

    @model_validator(mode="after")
    def _in_order(self) -> FractionLimits:
        if self.min_percent > self.max_percent:
            raise ValueError(f"min_percent {self.min_percent} lies above max_percent {self.max_percent}")
        return self


class PhaseRules(BaseModel):
    """When a micrograph is accepted; without limits there is no verdict."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limits: dict[str, FractionLimits] = Field(default_factory=dict, description="by the name of a phase")
    verdict_by: Literal["figure", "interval"] = Field(
        default="figure", description="what must lie within: the fraction itself, or the whole of its 95 % interval"
    )


def settings_of(spec: ModelSpec) -> PhaseSettings:
    """The head's settings of a bundle, checked against its graph.

    Raises:
        BundleError: A key is missing, unknown or out of range, or the graph is not a phase network's.
    """
    try:
        settings = PhaseSettings.model_validate(spec.settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in ("settings", *first["loc"]))
        raise BundleError(f"bundle {spec.name}: {place}: {first['msg']}. Export the bundle again.") from error
    graph = spec.graphs.get(MODEL)
    if graph is None or PHASE not in {tensor.name for tensor in graph.outputs}:
        raise BundleError(
            f"bundle {spec.name}: found graphs {sorted(spec.graphs)}, expected a {MODEL!r} that gives {PHASE!r}. "
            "Use a bundle of a phase network."
        )
    return settings


def measure(labels: NDArray[np.uint8], settings: PhaseSettings, fault: str = "") -> PhaseResult:
    """Fractions of a label map with their intervals; a pure function.

    Args:
        labels: (H, W) uint8, the phase at each pixel.
        settings: The bundle's.
        fault: Why the picture cannot be judged; empty where it can.
    """
    count = len(settings.phase_names)
    fields = spread(labels, count, settings.field_px)
    shares = np.bincount(labels.ravel(), minlength=count) * (100.0 / labels.size)
    return PhaseResult(
        fractions=tuple(
            PhaseFraction(phase=name, fraction_percent=float(share), interval_percent=half)
            for name, share, half in zip(settings.phase_names, shares, fields.half_percent, strict=True)
        ),
        fields=fields.fields,
        labels=Raster.of(labels),
        reason=fault,
    )


def judge(result: PhaseResult, rules: PhaseRules) -> Score:
    """The verdict on a micrograph; a pure function.

    There is none where the picture cannot be judged, or where the interval must lie within and nobody can tell it.
    """
    if not rules.limits or result.reason:
        return "unrated"
    within = True
    for fraction in result.fractions:
        limits = rules.limits.get(fraction.phase)
        if limits is None:
            continue
        half = 0.0 if rules.verdict_by == "figure" else fraction.interval_percent
        if half is None:
            return "unrated"
        low, high = fraction.fraction_percent - half, fraction.fraction_percent + half
        within = within and limits.min_percent <= low and high <= limits.max_percent
    return "accepted" if within else "rejected"


def check_rules(rules: PhaseRules, settings: PhaseSettings) -> None:
    """Check that the rules speak of phases that there are.

    Raises:
        ConfigError: They name another one.
    """
    unknown = sorted(set(rules.limits) - set(settings.phase_names))
    if unknown:
        raise ConfigError(
            f"rules: limits: found phases {unknown}, expected some of {', '.join(settings.phase_names)}. "
            "Name the phases as the bundle does."
        )


def answering(settings: PhaseSettings, rules: PhaseRules, model: ModelIdentity, facts: Facts) -> PictureAnswerer:
    """What answers for one picture a frame, by a bundle's settings and a station's rules."""

    def judged(frame: Frame, raw: Mapping[str, NDArray[Any]], _: Facts) -> Judgement:
        result = measure(raw[PHASE], settings, exposure_fault(frame.pixels))
        return Judgement(judge(result, rules), result)

    return PictureAnswerer(judged, model, facts)


def open_pipeline(
    bundle: Bundle, backend: str, settings: EngineSettings, precision: Precision | None = None
) -> TiledPipeline:
    """Open the network of a bundle; see `runtime.pipeline.Head`."""
    head = settings_of(bundle.spec)
    tiles = Tiles(head.tile_px, head.radius_px, head.stride_px)
    return open_tiled(bundle, backend, settings, tiles, PHASE, precision)


def answerer(spec: ModelSpec, rules: Mapping[str, Any], model: ModelIdentity, facts: Facts) -> PictureAnswerer:
    """What answers for the frames of one run; see `runtime.pipeline.Head`."""
    settings, own = settings_of(spec), read_rules(PhaseRules, rules)
    check_rules(own, settings)
    return answering(settings, own, model, facts)


def open_album(out: Path, overlays: OverlayChoice) -> PhaseAlbum:
    """The overlays and label maps of an inspection; see `runtime.pipeline.Head`."""
    from runtime.albums.phase import PhaseAlbum

    return PhaseAlbum(out, overlays)
