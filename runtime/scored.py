"""What a task says of one picture that is judged as a whole: a specimen, a weld, a micrograph.

Each result holds all that its picture needs, so that whoever has the frame and the message can draw it again.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from runtime.delivery.wire import Box, Raster, Wire

Score = Literal["accepted", "rejected", "unrated"]
"""`unrated`: no rule asks for a verdict, or a fact that it needs is missing, which `FractureResult.reason` names."""


class FractureResult(Wire):
    """A fracture surface of a drop-weight tear test (ASTM E436, API RP 5L3)."""

    task: Literal["fracture"] = "fracture"
    brittle_ratio: float = Field(ge=0, le=1, description="of the whole surface, as the network says it")
    rated_region: Box | None = Field(
        description="the surface without one thickness at the notch and one at the hammer side; null without a scale, "
        "a thickness or a notch side"
    )
    rated_brittle_ratio: float | None = Field(ge=0, le=1, description="of the rated region")
    shear_percent: float | None = Field(ge=0, le=100, description="100 (1 - rated_brittle_ratio)")
    uncertainty_percent: float = Field(ge=0, le=100, description="half of the 95 % interval of shear, in points")
    min_shear_percent: float = Field(ge=0, le=100, description="shear from which the rules accept a specimen")
    decided_by: Literal["figure", "lower_bound"] = Field(
        description="what must reach it: the shear itself, or the lower end of its interval"
    )
    activation: Raster = Field(
        description="class activation map, 255 = wholly brittle; its cells spread evenly over the picture"
    )
    reason: str = Field(default="", description="why the specimen is not rated; empty where it is")

    @property
    def headline(self) -> str:
        """The result in one line."""
        if self.shear_percent is None:
            return f"brittle {100 * self.brittle_ratio:.1f} % of the whole surface, not rated: {self.reason}"
        return f"shear {self.shear_percent:.1f} +- {self.uncertainty_percent:.1f} %"


class CrackTip(Wire):
    """Where a crack ends, in pixels and millimetres from the picture's upper left corner."""

    main: bool = Field(
        description="the end of the longest path of the picture's largest crack, from where it comes in; one at most"
    )
    row_px: float
    col_px: float
    row_mm: float | None
    col_mm: float | None
    probability: float = Field(ge=0, le=1, description="mean crack probability around the tip")


class Crack(Wire):
    """One connected crack."""

    crack_id: int = Field(ge=1, description="by area, the largest is 1")
    box: Box
    area_px: int = Field(ge=1)
    length_px: float = Field(ge=0, description="of the longest path along its skeleton")
    length_mm: float | None
    mean_width_px: float = Field(ge=0)
    max_width_px: float = Field(ge=0)
    mean_width_mm: float | None
    tips: tuple[CrackTip, ...] = Field(description="the main one first")


class CrackResult(Wire):
    """The cracks of one picture."""

    task: Literal["crack"] = "crack"
    cracks: tuple[Crack, ...]
    rle: str = Field(description="mask of all cracks: Severstal run lengths, 1-based, column-major")
    reason: str = Field(default="", description="why the picture is not rated; empty where it is")

    @property
    def headline(self) -> str:
        """The result in one line."""
        if not self.cracks:
            return "no crack"
        first, longest = self.cracks[0], max(crack.length_px for crack in self.cracks)
        tip = f", main tip at row {first.tips[0].row_px:.0f}, column {first.tips[0].col_px:.0f}" if first.tips else ""
        return f"{len(self.cracks)} crack{'s' if len(self.cracks) > 1 else ''}, longest {longest:.0f} px{tip}"


class PhaseFraction(Wire):
    """How much of a micrograph a phase takes up."""

    phase: str
    fraction_percent: float = Field(ge=0, le=100)
    interval_percent: float | None = Field(
        description="half of the 95 % interval from the spread between fields (ASTM E562); null with fewer than 2"
    )


class PhaseResult(Wire):
    """The phases of one micrograph."""

    task: Literal["phase"] = "phase"
    fractions: tuple[PhaseFraction, ...] = Field(min_length=2)
    fields: int = Field(ge=1, description="fields of equal size that the spread is taken over")
    labels: Raster = Field(description="number of the phase at each pixel")
    reason: str = Field(default="", description="why the fractions should not be relied on; empty where they may be")

    @property
    def headline(self) -> str:
        """The result in one line."""
        figures = ", ".join(
            f"{each.phase} {each.fraction_percent:.1f}"
            + ("" if each.interval_percent is None else f" +- {each.interval_percent:.1f}")
            + " %"
            for each in self.fractions
        )
        return f"{figures}, not relied on: {self.reason}" if self.reason else figures


class GrainResult(Wire):
    """The grain size of one micrograph, as ASTM E112 numbers it."""

    task: Literal["grain"] = "grain"
    method: Literal["regression", "classification"]
    grain_number: float = Field(description="G")
    uncertainty: float = Field(ge=0, description="half of the 95 % interval of G")
    grade_probability: dict[str, float] | None = Field(description="by grade; null for a regression")
    inhomogeneous: bool = Field(description="whether the map's grades differ more than one grain size would")
    spread: float = Field(ge=0, description="of G over the map, 10th to 90th percentile")
    grain_map: Raster = Field(description="G = map_first + map_step * level at each cell")
    map_first: float
    map_step: float = Field(gt=0)
    scale_correction: float = Field(
        description="part of G and of the map that comes from the picture's scale, where it is not the training's; 0 "
        "where nobody said the scale"
    )
    reason: str = Field(default="", description="why the number should not be relied on; empty where it may be")

    @property
    def headline(self) -> str:
        """The result in one line."""
        mixed = ", inhomogeneous" if self.inhomogeneous else ""
        doubt = f", not relied on: {self.reason}" if self.reason else ""
        return f"G {self.grain_number:.2f} +- {self.uncertainty:.2f}{mixed}{doubt}"


class GrainMeasure(Wire):
    """What one procedure of ASTM E112 counts on traced boundaries."""

    procedure: Literal["planimetric", "lines", "circles"] = Field(
        description="Jeffries' count of grains, Heyn's intercepts on a grid of lines, or Abrams' on circles"
    )
    grain_number: float = Field(description="ASTM G")
    interval: float = Field(ge=0, description="half of the 95 % interval of G, from the spread between fields or lines")
    counted: float = Field(ge=0, description="grains, or intersections with a boundary")
    fields: int = Field(ge=1, description="fields or test lines")
    mean_intercept_mm: float = Field(gt=0, description="of a planimetric count the root of the mean grain area")


class BoundaryResult(Wire):
    """The grain boundaries of one micrograph, and the grain size that is counted on them."""

    task: Literal["boundary"] = "boundary"
    lines: Raster = Field(description="the traced boundaries: 1 on a line of one pixel, 0 elsewhere")
    mean_intercept_px: float | None = Field(
        description="from boundary to boundary on a grid of lines; null where too few cross one"
    )
    measures: tuple[GrainMeasure, ...] = Field(
        description="by each procedure that finds enough to count; none where nobody said the scale"
    )
    reason: str = Field(default="", description="why the measures should not be relied on; empty where they may be")

    @property
    def headline(self) -> str:
        """The result in one line."""
        figures = ", ".join(
            f"G {each.grain_number:.2f} +- {each.interval:.2f} ({each.procedure})" for each in self.measures
        )
        length = "" if self.mean_intercept_px is None else f"mean intercept {self.mean_intercept_px:.1f} px"
        said = figures or length or "no grain size"
        return f"{said}, not relied on: {self.reason}" if self.reason else said


Result = Annotated[
    FractureResult | CrackResult | PhaseResult | GrainResult | BoundaryResult, Field(discriminator="task")
]
