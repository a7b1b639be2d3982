"""The strip cascade's head: which frames are segmented, which pixels count, and what is said of a frame."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from runtime.backends import open_engine
from runtime.cascade import Cascade, FrameOutput
from runtime.decide import Rules, Verdict, check_rules, decide, read_rules
from runtime.errors import BundleError
from runtime.heads.components import NEVER, Keep, Part, find_class, warm_up
from runtime.heads.stitch import DefectTracker, FramePlace
from runtime.messages import Defect, Inspected, ModelIdentity

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from camera.base import Frame
    from runtime.albums.strip import StripAlbum
    from runtime.bundle import Bundle
    from runtime.engine import EngineSettings
    from runtime.facts import Facts
    from runtime.pipeline import OverlayChoice
    from runtime.spec import ModelSpec, Precision

GATE, SEGMENTER = "gate", "segmenter"
"""The roles of the cascade's graphs in a bundle."""

_OUTPUTS = {GATE: "defect_probability", SEGMENTER: "class_probability"}


class StripSettings(BaseModel):
    """The `settings` of a strip bundle.

    The classes have one entry each in `class_names`, `pixel_thresholds` and `min_size_px`, in the order of the
    segmenter's channels; class ids count from 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    class_names: tuple[str, ...] = Field(min_length=1)
    gate_mode: Literal["hard", "soft"] = Field(
        default="hard",
        description="hard: the segmenter sees a frame whose gate probability reaches gate_threshold. soft: the "
        "less the gate believes in a defect, the surer a pixel must be; gate_threshold is not used",
    )
    gate_threshold: float = Field(default=0.5, ge=0, le=1)
    soft_gate_c: float = Field(
        default=5.0, ge=1, description="how many times its threshold a pixel needs where the gate says 0"
    )
    pixel_thresholds: tuple[float, ...] = Field(description="class probability from which a pixel counts")
    min_size_px: tuple[int, ...] = Field(description="smaller findings are dropped")
    min_size_rule: Literal["class_total", "component"] = Field(
        default="component",
        description="what must reach min_size_px: each connected part, or all of a class in a frame together",
    )

    @model_validator(mode="after")
    def _one_entry_a_class(self) -> StripSettings:
        for key in ("pixel_thresholds", "min_size_px"):
            found = len(getattr(self, key))
            if found != len(self.class_names):
                raise ValueError(f"{key} has {found} entries for {len(self.class_names)} class_names")
        if not all(0 < threshold <= 1 for threshold in self.pixel_thresholds):
            raise ValueError(f"pixel_thresholds must lie in (0, 1], found {self.pixel_thresholds}")
        if not all(size >= 0 for size in self.min_size_px):
            raise ValueError(f"min_size_px must not be negative, found {self.min_size_px}")
        if len(set(self.class_names)) != len(self.class_names):
            raise ValueError(f"class_names must differ, found {self.class_names}")
        return self


def settings_of(spec: ModelSpec) -> StripSettings:
    """The head's settings of a bundle, checked against its graphs.

    Raises:
        BundleError: A key is missing, unknown or out of range, or the graphs are not a strip cascade's.
    """
    try:
        settings = StripSettings.model_validate(spec.settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in ("settings", *first["loc"]))
        raise BundleError(f"bundle {spec.name}: {place}: {first['msg']}. Export the bundle again.") from error
    for role, output in _OUTPUTS.items():
        graph = spec.graphs.get(role)
        if graph is None or output not in {tensor.name for tensor in graph.outputs}:
            raise BundleError(
                f"bundle {spec.name}: found graphs {sorted(spec.graphs)}, expected a {role!r} that gives "
                f"{output!r}. Use a bundle of a strip cascade."
            )
    channels = next(t for t in spec.graphs[SEGMENTER].outputs if t.name == _OUTPUTS[SEGMENTER]).shape[1:2]
    if channels != (len(settings.class_names),):
        raise BundleError(
            f"bundle {spec.name}: found {len(settings.class_names)} class_names for a segmenter of "
            f"{channels} channels, expected as many. Export the bundle again."
        )
    return settings


def levels_of(settings: StripSettings, gate_probability: float) -> tuple[int, ...]:
    """From which value on a pixel of each class counts, in the graph's own uint8 terms (255 = 1.0).

    With the soft gate the threshold t of a frame is t0 c - t0 (c - 1) p for the gate's probability p: t0 where
    the gate is sure of a defect, c t0 where it is sure of none.

    Returns:
        1 to 255, or `NEVER` where not even 1.0 counts.

    >>> one = {"class_names": ("scratch",), "pixel_thresholds": (0.5,), "min_size_px": (0,)}
    >>> levels_of(StripSettings(**one), 0.9)
    (128,)
    >>> soft = StripSettings(gate_mode="soft", **one)
    >>> levels_of(soft, 1.0), levels_of(soft, 0.8), levels_of(soft, 0.7)
    ((128,), (230,), (256,))
    """
    factor = 1.0
    if settings.gate_mode == "soft":
        factor = settings.soft_gate_c - (settings.soft_gate_c - 1.0) * gate_probability
    elif gate_probability < settings.gate_threshold:
        return (NEVER,) * len(settings.class_names)
    # A hair is taken off so that a threshold such as 0.2 = 51 / 255 is met by 51.
    levels = (math.ceil(255.0 * factor * threshold - 1e-6) for threshold in settings.pixel_thresholds)
    return tuple(level if level <= 255 else NEVER for level in levels)


def wanted(settings: StripSettings, gate_probability: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which frames the segmenter must see: those in which a pixel of some class could count.

    Args:
        settings: The head's settings.
        gate_probability: (n,) float32, 0 to 1.

    Returns:
        (n,) bool.
    """
    if settings.gate_mode == "hard":
        return gate_probability >= settings.gate_threshold
    return np.array([min(levels_of(settings, p)) < NEVER for p in gate_probability.tolist()], dtype=bool)


def find_parts(class_probability: NDArray[np.uint8], gate_probability: float, settings: StripSettings) -> list[Part]:
    """The connected parts of every class in one frame.

    Parts that could not make up the minimum size are left out; those that touch the first or last row are all
    there, because they may belong to a larger defect.

    Args:
        class_probability: (C, H, W) uint8, 255 = 1.0.
        gate_probability: The gate's figure for the frame, 0 to 1.
        settings: Thresholds and minimum sizes.

    Returns:
        By class, from the top of the frame down.
    """
    levels = levels_of(settings, gate_probability)
    parts: list[Part] = []
    for number, (plane, level) in enumerate(zip(class_probability, levels, strict=True)):
        if level != NEVER:
            keep = _worth_having(settings.min_size_px[number], settings.min_size_rule)
            parts += find_class(plane, level, number + 1, keep)
    return parts


def _worth_having(min_size_px: int, rule: str) -> Keep:
    def by_component(areas: NDArray[Any], touches: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return touches | (areas >= min_size_px)

    def by_total(areas: NDArray[Any], touches: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.full(len(areas), bool(touches.any() or areas.sum() >= min_size_px))

    return by_component if rule == "component" else by_total


@dataclass(frozen=True, slots=True)
class StripAnswer:
    """What is to be said of one frame; see `runtime.pipeline.Answer`."""

    frame_index: int
    source: str
    position_m: float | None
    verdict: Verdict
    defect_probability: float
    segmented: bool
    defects: tuple[Defect, ...]
    new_defects: Mapping[str, int]
    model: ModelIdentity

    def message(self, envelope: Mapping[str, Any], latency_ms: Mapping[str, float]) -> Inspected:
        """The message of the frame."""
        return Inspected(
            **envelope,
            model=self.model,
            frame_index=self.frame_index,
            source=self.source,
            position_m=self.position_m,
            verdict=self.verdict,
            defect_probability=self.defect_probability,
            segmented=self.segmented,
            defects=self.defects,
            latency_ms=dict(latency_ms),
        )


class StripAnswerer:
    """Answers for the frames of one run, in order; see `runtime.pipeline.Answerer`."""

    def __init__(self, settings: StripSettings, rules: Rules, model: ModelIdentity, mm_per_px: float | None) -> None:
        self._settings = settings
        self._rules = rules
        self._model = model
        self._tracker = DefectTracker(settings, mm_per_px)
        warm_up()

    def answer(self, frame: Frame, raw: FrameOutput, facts: Facts | None = None) -> StripAnswer:
        """Answer for a frame; borrows its outputs for this call alone. The scale is the run's, whatever `facts` say."""
        del facts
        parts: list[Part] = []
        if raw.class_probability is not None:
            parts = find_parts(raw.class_probability, raw.gate_probability, self._settings)
        height_px, width_px = frame.pixels.shape
        tracked = self._tracker.add(FramePlace(frame.index, height_px, width_px, frame.position_m), parts)
        return StripAnswer(
            frame_index=frame.index,
            source=frame.source,
            position_m=None if math.isnan(frame.position_m) else frame.position_m,
            verdict=decide(tracked.defects, self._rules, width_px),
            defect_probability=raw.gate_probability,
            segmented=raw.class_probability is not None,
            defects=tracked.defects,
            new_defects=tracked.new_defects,
            model=self._model,
        )

    def gap(self) -> None:
        """The next frame does not continue the last one."""
        self._tracker.gap()

    def follow(self, before: StripAnswerer) -> None:
        """Go on from another bundle's answerer; see `runtime.heads.stitch.DefectTracker.follow`."""
        self._tracker.follow(before._tracker)


def open_pipeline(
    bundle: Bundle, backend: str, settings: EngineSettings, precision: Precision | None = None
) -> Cascade:
    """Open the cascade of a bundle; see `runtime.pipeline.Head`."""
    head = settings_of(bundle.spec)
    engines = []
    try:
        for role in (GATE, SEGMENTER):
            file = bundle.model_file(role, precision)
            engines.append(open_engine(backend, file, bundle.spec.graphs[role], settings))
    except BaseException:
        for engine in engines:
            engine.close()
        raise
    return Cascade(*engines, wanted=lambda probability: wanted(head, probability))


def answerer(spec: ModelSpec, rules: Mapping[str, Any], model: ModelIdentity, facts: Facts) -> StripAnswerer:
    """What answers for the frames of one run; see `runtime.pipeline.Head`."""
    settings, own = settings_of(spec), read_rules(Rules, rules)
    check_rules(own, settings.class_names)
    return StripAnswerer(settings, own, model, facts.mm_per_px)


def open_album(out: Path, overlays: OverlayChoice) -> StripAlbum:
    """The masks and overlays of an inspection; see `runtime.pipeline.Head`."""
    from runtime.albums.strip import StripAlbum

    return StripAlbum(out, overlays)
