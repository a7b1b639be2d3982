"""The crack head: from a map of crack probability to cracks with length, width and tips, and a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runtime import rle
from runtime.decide import read_rules
from runtime.delivery.wire import Box
from runtime.errors import BundleError
from runtime.heads.crack_trace import TracedCrack, trace_cracks
from runtime.picture_answers import Judgement, PictureAnswerer
from runtime.scored import Crack, CrackResult, CrackTip, Score
from runtime.single import MODEL, SinglePipeline, open_single

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from camera.base import Frame
    from runtime.albums.crack import CrackAlbum
    from runtime.bundle import Bundle
    from runtime.engine import EngineSettings
    from runtime.facts import Facts
    from runtime.messages import ModelIdentity
    from runtime.pipeline import OverlayChoice
    from runtime.spec import ModelSpec, Precision

PROBABILITY = "crack_probability"
"""The output of the graph: (N, 1, H, W) uint8, 255 = 1.0."""

LEAST_LEVEL = 24
"""A picture whose brightest hundredth is darker than this shows nothing that could be judged."""
LEAST_CONTRAST = 6
"""Nor does one whose hundredths of brightest and darkest pixels differ by fewer levels."""


class CrackSettings(BaseModel):
    """The `settings` of a crack bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pixel_threshold: float = Field(default=0.5, gt=0, le=1, description="crack probability from which a pixel counts")
    min_size_px: int = Field(default=40, ge=1, description="smaller connected parts are dropped")
    min_branch_px: float = Field(
        default=10.0, ge=0, description="shorter side branches of a skeleton are raggedness of the lips, and no cracks"
    )


class CrackRules(BaseModel):
    """When a picture is accepted. Every crack is published, whether or not it counts here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accepted_length_px: float = Field(default=0.0, ge=0, description="a longer crack is not accepted")
    accepted_length_mm: float | None = Field(
        default=None, ge=0, description="instead, in mm; cracks in a picture without a scale are then not rated"
    )


def settings_of(spec: ModelSpec) -> CrackSettings:
    """The head's settings of a bundle, checked against its graph.

    Raises:
        BundleError: A key is missing, unknown or out of range, or the graph is not a crack network's.
    """
    try:
        settings = CrackSettings.model_validate(spec.settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in ("settings", *first["loc"]))
        raise BundleError(f"bundle {spec.name}: {place}: {first['msg']}. Export the bundle again.") from error
    graph = spec.graphs.get(MODEL)
    if graph is None or PROBABILITY not in {tensor.name for tensor in graph.outputs}:
        raise BundleError(
            f"bundle {spec.name}: found graphs {sorted(spec.graphs)}, expected a {MODEL!r} that gives {PROBABILITY!r}. "
            "Use a bundle of a crack network."
        )
    return settings


def judge(
    pixels: NDArray[np.uint8],
    probability: NDArray[np.uint8],
    facts: Facts,
    settings: CrackSettings,
    rules: CrackRules,
) -> tuple[Score, CrackResult]:
    """The verdict on one picture, and all that is to be said of it; a pure function.

    Args:
        pixels: (H, W) uint8, to see whether they show anything at all.
        probability: (H, W) uint8, 255 = 1.0.
        facts: The scale.
        settings: The bundle's.
        rules: When a picture is accepted.
    """
    traced = trace_cracks(
        probability,
        settings.pixel_threshold,
        min_size_px=settings.min_size_px,
        min_branch_px=settings.min_branch_px,
    )
    cracks = tuple(_crack(number, crack, facts.mm_per_px) for number, crack in enumerate(traced, start=1))
    reason = _unseen(pixels) or _unrated(cracks, rules)
    result = CrackResult(cracks=cracks, rle=_encoded(traced, pixels.shape), reason=reason)
    if reason:
        return "unrated", result
    return "rejected" if any(_counts(crack, rules) for crack in cracks) else "accepted", result


def _unseen(pixels: NDArray[np.uint8]) -> str:
    """Why a picture cannot be judged by anybody; empty where it can."""
    darkest, brightest = np.percentile(pixels[::4, ::4], (1, 99))
    if brightest < LEAST_LEVEL:
        return f"the picture is dark: 99 % of it lies below level {brightest:.0f} of 255"
    if brightest - darkest < LEAST_CONTRAST:
        return f"the picture shows nothing: 98 % of it lies between levels {darkest:.0f} and {brightest:.0f}"
    return ""


def _unrated(cracks: Sequence[Crack], rules: CrackRules) -> str:
    if rules.accepted_length_mm is not None and any(crack.length_mm is None for crack in cracks):
        return "nobody said mm_per_px, and the rules accept cracks by their length in mm"
    return ""


def _counts(crack: Crack, rules: CrackRules) -> bool:
    if rules.accepted_length_mm is not None and crack.length_mm is not None:
        return crack.length_mm > rules.accepted_length_mm
    return crack.length_px > rules.accepted_length_px


def _crack(number: int, traced: TracedCrack, mm_per_px: float | None) -> Crack:
    """In the wire's terms; only the first crack, the largest, has a main tip."""
    height, width = traced.mask.shape
    return Crack(
        crack_id=number,
        box=Box(
            first_row=traced.first_row,
            first_col=traced.first_col,
            stop_row=traced.first_row + height,
            stop_col=traced.first_col + width,
        ),
        area_px=traced.area_px,
        length_px=traced.length_px,
        length_mm=_scaled(traced.length_px, mm_per_px),
        mean_width_px=traced.mean_width_px,
        max_width_px=traced.max_width_px,
        mean_width_mm=_scaled(traced.mean_width_px, mm_per_px),
        tips=tuple(
            CrackTip(
                main=tip.main and number == 1,
                row_px=tip.row_px,
                col_px=tip.col_px,
                row_mm=_scaled(tip.row_px, mm_per_px),
                col_mm=_scaled(tip.col_px, mm_per_px),
                probability=tip.probability,
            )
            for tip in traced.tips
        ),
    )


def _scaled(length_px: float, mm_per_px: float | None) -> float | None:
    return None if mm_per_px is None else length_px * mm_per_px


def _encoded(traced: Sequence[TracedCrack], shape: tuple[int, ...]) -> str:
    """The mask of all cracks together."""
    mask = np.zeros(shape, np.bool_)
    for crack in traced:
        height, width = crack.mask.shape
        mask[crack.first_row : crack.first_row + height, crack.first_col : crack.first_col + width] |= crack.mask
    return rle.encode(mask)


def answering(settings: CrackSettings, rules: CrackRules, model: ModelIdentity, facts: Facts) -> PictureAnswerer:
    """What answers for one picture a frame, by a bundle's settings and a station's rules."""

    def judged(frame: Frame, raw: Mapping[str, NDArray[Any]], known: Facts) -> Judgement:
        verdict, result = judge(frame.pixels, raw[PROBABILITY][0], known, settings, rules)
        return Judgement(verdict, result, {"crack": len(result.cracks)} if result.cracks else {})

    return PictureAnswerer(judged, model, facts)


def open_pipeline(
    bundle: Bundle, backend: str, settings: EngineSettings, precision: Precision | None = None
) -> SinglePipeline:
    """Open the network of a bundle; see `runtime.pipeline.Head`."""
    settings_of(bundle.spec)
    return open_single(bundle, backend, settings, precision)


def answerer(spec: ModelSpec, rules: Mapping[str, Any], model: ModelIdentity, facts: Facts) -> PictureAnswerer:
    """What answers for the frames of one run; see `runtime.pipeline.Head`."""
    return answering(settings_of(spec), read_rules(CrackRules, rules), model, facts)


def open_album(out: Path, overlays: OverlayChoice) -> CrackAlbum:
    """The pictures of an inspection, by which every tip can be checked; see `runtime.pipeline.Head`."""
    from runtime.albums.crack import CrackAlbum

    return CrackAlbum(out, overlays)
